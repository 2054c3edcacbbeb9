"""The reference policy that follows the policy in training (RealDPO eq. 7)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_training as tiny
from test_loop import Interrupted, same, train

from vidpref.training.metrics import read_metrics
from vidpref.training.plan import check_config, reference_decay
from vidpref.training.sharding import make_mesh
from vidpref.training.state import create_state, state_shardings
from vidpref.training.step import make_train_step, put_batch


def loss_fn(params, frozen, batch, rng):
    """Keeps near the reference, and reports how far from it the policy is."""
    loss, _ = tiny.plain_loss(params, frozen, batch, rng)
    moved = jax.tree.map(lambda p, r: jnp.sum((p - r) ** 2), params, frozen["reference"])
    distance = sum(jax.tree.leaves(moved))
    return loss + 0.1 * distance, {"distance": distance}


@pytest.mark.parametrize("every", [1, 3])
def test_it_moves_by_the_formula_every_n_steps(every):
    decay, mesh = 0.8, make_mesh({"data": 2, "fsdp": 2}, jax.devices()[:4])
    optimizer = optax.sgd(0.05)
    _, shardings = state_shardings(tiny.init, optimizer, mesh, with_ema=False, with_reference=True)
    state = create_state(tiny.init, optimizer, shardings, seed=0)
    step = make_train_step(
        loss_fn,
        optimizer,
        lambda _: 0.05,
        shardings,
        mesh,
        reference_decay=decay,
        reference_every=every,
    )
    same(state.reference, state.params)
    expected = jax.device_get(state.params)
    batch = put_batch(tiny.one_batch(), mesh)
    for number in range(1, 8):
        distance = sum(
            np.sum((np.asarray(p) - r) ** 2)
            for p, r in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True)
        )
        state, metrics = step(state, {}, batch)
        # the loss saw the reference as it was before the step
        np.testing.assert_allclose(metrics["distance"], distance, rtol=1e-4, atol=1e-9)
        if number % every == 0:
            params = jax.device_get(state.params)
            expected = jax.tree.map(lambda r, p: decay * r + (1 - decay) * p, expected, params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
            state.reference,
            expected,
        )
    assert metrics["distance"] > 0


def test_it_is_saved_and_a_stopped_run_ends_with_the_same_bits(tmp_path):
    mesh = make_mesh({"data": 2}, jax.devices()[:2])
    settings = {
        "loss_fn": loss_fn,
        "checkpoint_every": 5,
        "reference_decay": 0.9,
        "reference_every": 2,
    }
    whole = train(tmp_path / "whole", mesh, **settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", mesh, batches=Interrupted(8), **settings)
    parts = train(tmp_path / "parts", mesh, **settings)
    same((parts.params, parts.reference), (whole.params, whole.reference))
    assert read_metrics(tmp_path / "parts") == read_metrics(tmp_path / "whole")
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), whole.reference, whole.params)
    assert max(jax.tree.leaves(moved)) > 1e-3  # not merely a copy


def test_it_may_slow_down():
    """DiffusionNFT's schedules, by its own function of the steps done."""

    def theirs(step, flat, rise, most):
        return 0.0 if step < flat else min((step - flat) * rise, most)

    for flat, rise, most in ((0, 0.001, 0.5), (75, 0.0075, 0.999)):
        settings = tiny.config(reference_decay=most, reference_rise=rise, reference_flat=flat)
        decay = reference_decay(settings)
        for step in (1, 74, 75, 76, 200, 208, 209, 499, 500, 501, 10_000):
            np.testing.assert_allclose(decay(step), theirs(step, flat, rise, most), rtol=1e-6)
    assert reference_decay(tiny.config(reference_decay=0.5)) == 0.5


def test_the_step_takes_the_decay_of_the_steps_done(tmp_path):
    mesh = make_mesh({}, jax.devices()[:1])
    rising = {"reference_decay": 0.9, "reference_rise": 0.2, "reference_flat": 2}
    train(tmp_path, mesh, steps=7, log_every=1, loss_fn=loss_fn, **rising)
    lines = read_metrics(tmp_path)
    found = [line["reference_decay"] for line in lines]
    np.testing.assert_allclose(found, [0, 0, 0.2, 0.4, 0.6, 0.8, 0.9], rtol=1e-6)
    # at first it is the policy itself; what a step sees is what the one before left
    assert lines[0]["distance"] == lines[1]["distance"] == lines[2]["distance"] == 0
    assert lines[3]["distance"] > 0


def test_without_decay_there_is_none(tmp_path):
    mesh = make_mesh({}, jax.devices()[:1])
    state = train(tmp_path, mesh, steps=1)
    assert state.reference is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("reference_decay", 1.0, r"train\.reference_decay=1\.0: must be in \[0, 1\)"),
        ("reference_every", 0, r"train\.reference_every=0: must be >= 1"),
    ],
)
def test_settings_out_of_range_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        check_config(tiny.config(**{field: value}), make_mesh({}, jax.devices()[:1]))
