"""Every objective on one device and on eight; KTO's reference point under accumulation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_alignment import CLIP, POLICY, REFERENCE, make_condition, one_step, words_of

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.losses.alignment import make_alignment_loss
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.training.sharding import make_mesh
from vidpref.training.step import put_batch
from vidpref.training.tuning import Everything

ROWS = 16
CASES = {
    "sft": ("sft", {}),
    "rwr": ("rwr", {"eta": 2.0, "gamma": 0.1}),
    "flow_rwr": ("flow_rwr", {"beta": 0.7}),
    "dpo": ("dpo", {"beta": 5.0, "real_weight": 0.2, "time_power": 2.0, "pair_weight": "gap"}),
    "mcdpo": ("mcdpo", {"beta": 5.0}),
    "kto": ("kto", {"beta": 5.0, "real_weight": 0.2}),
    "kto_mismatched": ("kto", {"beta": 5.0, "reference_point": "mismatched"}),
    "diffusion_nft": ("diffusion_nft", {"beta": 0.5}),
    "awm": ("awm", {"clip": 0.9}),
}


def network(params, x_tau, tau, condition):
    return params["scale"] * x_tau + params["text"] * words_of(condition).reshape(-1, 1, 1, 1, 1)


def make(name, hyper, process):
    return make_alignment_loss(
        network,
        process,
        name,
        hyper,
        make_condition=make_condition,
        error_in=None,
        reduction="mean",
        tuning=Everything(lambda key: POLICY),
    )


def batch_of(k, seed=0):
    rng = np.random.default_rng(seed)
    reward = np.sort(rng.uniform(size=(ROWS, k)).astype(np.float32), axis=1)[:, ::-1]
    return {
        "clips": rng.integers(0, 256, (ROWS, k, *CLIP), dtype=np.uint8),
        "text": rng.normal(size=(ROWS, 5, 6)).astype(np.float32),
        "text_mask": rng.uniform(size=(ROWS, 5)) < 0.7,
        "reward": np.ascontiguousarray(reward),
        "motion": rng.uniform(size=(ROWS, k, 2)).astype(np.float32),
    }


def test_every_objective_has_a_case():
    assert {name for name, _ in CASES.values()} == set(OBJECTIVES)


@pytest.fixture(scope="module")
def one_and_eight():
    """Loss, metrics and gradients of every case on one device, and on eight.

    One program for all cases: they share their noise, and with it most of the compilation.
    """
    process = RectifiedFlow(prediction="x0")
    losses = {case: make(name, hyper, process) for case, (name, hyper) in CASES.items()}
    batches = {}
    for case, loss_fn in losses.items():
        k = loss_fn.objective.k + loss_fn.objective.more
        batches[case] = batch_of(k) | {"real": batch_of(1, seed=1)}

    @jax.jit
    def step(params, frozen, batches, key):
        return {
            case: jax.value_and_grad(loss_fn, has_aux=True)(params, frozen, batches[case], key)
            for case, loss_fn in losses.items()
        }

    frozen, key = {"reference": REFERENCE}, jax.random.key(3)
    one = step(POLICY, frozen, batches, key)
    sharded = put_batch(batches, make_mesh({"data": 4, "fsdp": 2}))
    return jax.device_get((one, step(POLICY, frozen, sharded, key)))


@pytest.mark.parametrize("case", CASES)
def test_eight_devices_equal_one(case, one_and_eight):
    one, eight = (results[case] for results in one_and_eight)
    assert all(np.any(slope) for slope in one[1].values())
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), eight, one)


@dataclasses.dataclass(frozen=True)
class Still(DDPM):
    """Half of every clip is taken away, the same at all times: no noise, no draw."""

    prediction: str = "x0"

    def sample_time(self, rng, b):
        return jnp.full((b,), 0.5)

    def corrupt(self, x0, eps, tau):
        return 0.5 * x0


descend = functools.partial(one_step, POLICY, {"reference": REFERENCE})


def test_kto_takes_its_reference_point_from_the_whole_batch_under_accumulation():
    loss_fn = make("kto", {"beta": 8.0}, Still())
    assert loss_fn.needs_statistics
    batch = batch_of(1)
    # clips of very different contrast, so that the microbatches differ
    contrast = np.linspace(0.05, 1.0, ROWS).reshape(ROWS, 1, 1, 1, 1, 1)
    batch["clips"] = (127.5 + contrast * (batch["clips"] - 127.5)).astype(np.uint8)
    order = np.argsort(np.arange(ROWS) % 4, kind="stable").argsort()
    batch = {name: values[order] for name, values in batch.items()}
    whole, gradient = descend(loss_fn, batch, 1)
    parts, of_parts = descend(loss_fn, batch, 4)
    assert whole["reference_point"] > 1e-3
    for name in ("loss", "reference_point", "moved_desirable", "desirable", "saturation"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5, err_msg=name)
    for name in POLICY:
        np.testing.assert_allclose(of_parts[name], gradient[name], rtol=1e-4, atol=1e-5)

    def of_each_microbatch(*args):  # nothing says that its rows depend on each other
        return loss_fn(*args)

    alone, _ = descend(of_each_microbatch, batch, 4)
    assert abs(alone["loss"] - whole["loss"]) > 1e-4


@pytest.mark.parametrize("case", ["flow_rwr", "kto", pytest.param("dpo", marks=pytest.mark.slow)])
def test_padding_rows_are_divided_out_once_under_accumulation(case):
    """3 padding rows of 16, which fall into microbatches of 4 rows as 2, 0, 1 and 0."""
    name, hyper = CASES[case]
    loss_fn = make(name, {n: v for n, v in hyper.items() if n != "real_weight"}, Still())
    k = loss_fn.objective.k + loss_fn.objective.more
    batch = batch_of(k) | {"weight": np.ones(ROWS, np.float32)}
    batch["weight"][[0, 4, 14]] = 0.0
    whole, gradient = descend(loss_fn, batch, 1)
    parts, of_parts = descend(loss_fn, batch, 4)
    for metric in whole.keys() - {"weight_max"}:  # a mean of the largest of each microbatch
        np.testing.assert_allclose(
            parts[metric], whole[metric], rtol=5e-6, atol=1e-6, err_msg=metric
        )
    size = max(abs(slope) for slope in gradient.values())
    assert size > 1e-3
    for parameter in POLICY:
        np.testing.assert_allclose(of_parts[parameter], gradient[parameter], atol=1e-6 * (1 + size))
    if case == "dpo":

        def of_equal_microbatches(*args):
            return loss_fn(*args)

        _, wrong = descend(of_equal_microbatches, batch, 4)
        assert any(abs(wrong[p] - gradient[p]) > 1e-2 * size for p in POLICY)
