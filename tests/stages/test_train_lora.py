"""Three steps of a small transformer: adapters alone, and the whole network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from flax.traverse_util import flatten_dict

from vidpref.config.align import Align
from vidpref.config.fields import build
from vidpref.config.training import AlignTrain, Lora, Optimizer
from vidpref.datasets.clip_rows import ClipRows
from vidpref.datasets.text import TextCache, WordTable
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.generation.generator import Generator, SamplerSettings
from vidpref.models.dit.network import DiT
from vidpref.models.lora import merge, merge_into
from vidpref.objectives.alignment import LEASHES
from vidpref.stages.train import ErrorSettings, generator_training, train
from vidpref.training.checkpoints import load_params
from vidpref.training.metrics import read_metrics
from vidpref.training.sharding import abstract_params, make_mesh
from vidpref.training.tuning import make_tuning

CLIP, TEXT = (2, 4, 4, 3), (3, 6)
LORA = Lora(rank=2, alpha=4.0, targets=("self/(qkv|out)/",))


@pytest.fixture(scope="module")
def generator():
    sizes = {"patch": (2, 4, 4), "width": 8, "layers": 1, "head_dim": 4, "cond_dim": 4}
    return Generator(
        module=DiT(channels=3, text_dim=TEXT[1], **sizes),
        process=RectifiedFlow(),
        clip_shape=CLIP,
        text_shape=TEXT,
        sampler=SamplerSettings("euler", steps=1),
    )


@pytest.fixture(scope="module")
def base(generator):
    """Random everywhere: the zero layers of a fresh network would hide the adapters."""
    shapes = meta.unbox(jax.eval_shape(generator.init, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.3), jnp.float32), shapes
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    rng = np.random.default_rng(1)
    texts = TextCache.build(tmp_path_factory.mktemp("text"), WordTable(*TEXT), ["a ball"])
    records = [
        {"prompt": "a ball", "video": rng.integers(0, 256, CLIP, dtype=np.uint8)} for _ in range(8)
    ]
    return ClipRows(records, np.arange(8).reshape(4, 2), np.tile([1.0, 0.0], (4, 1)), texts)


def section(train=None, **fields):
    optimizer = Optimizer(name="adamw", learning_rate=1e-2, decay="constant")
    settings = {"steps": 3, "batch_size": 4, "log_every": 1, "checkpoint_every": 0} | (train or {})
    return build(Align(train=AlignTrain(optimizer=optimizer, **settings), **fields))


def run(folder, generator, rows, config, base, **options):
    training = generator_training(
        generator,
        config,
        make_tuning(generator.init, config),
        make_mesh({}, jax.devices()[:1]),
        objective="dpo",
        hyper={"beta": 10.0},
        k=2,
        errors=ErrorSettings("velocity"),
        name="align",
    )
    train(folder, training, rows, seed=0, params=base, **options)
    return read_metrics(folder)


def test_adapters_alone_are_trained_and_written(
    tmp_path, generator, rows, base, capsys, monkeypatch
):
    monkeypatch.setitem(LEASHES, "flow", 30.0)
    config = section(lora=LORA)
    before = jax.tree.map(np.array, base)
    metrics = run(tmp_path, generator, rows, config, base)
    jax.tree.map(np.testing.assert_array_equal, base, before)
    assert not (tmp_path / "params").exists()

    # B is zero at first, so the policy is its reference, the base with the adapters off
    assert metrics[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert metrics[0]["saturation"] < 1e-5
    assert metrics[0]["update_norm"] > 0
    assert abs(metrics[2]["loss"] - np.log(2)) > 1e-4
    leash = metrics[0]["leash"]
    assert leash == pytest.approx(10.0 * metrics[0]["reference_error_winner"], rel=1e-6)
    assert 0 < leash < 30.0
    printed = capsys.readouterr().err
    assert printed.count("align: warning: the leash, align.beta times the reference's error") == 1
    assert f"of the winner, is {leash:.3g}, below" in printed

    tuning = make_tuning(generator.init, config)
    adapters = tuning.load(tmp_path, make_mesh({}, jax.devices()[:1]))
    params = merge_into(jax.tree.map(jnp.copy, base), adapters, tuning.spec)
    expected = merge(base, adapters, tuning.spec)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), params, expected
    )
    moved = jax.tree_util.tree_leaves_with_path(
        jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), params, before)
    )
    names = {jax.tree_util.keystr(p, simple=True, separator="/") for p, changed in moved if changed}
    assert {name.split("self/")[-1] for name in names} == {"qkv/kernel", "out/kernel"}


def test_a_reference_of_its_own(tmp_path, generator, rows, base):
    """Rounds against the pre-trained policy: the first step is not log 2."""
    other = jax.tree.map(lambda x: 1.1 * x, base)
    config = section(lora=LORA, train={"steps": 1})
    metrics = run(tmp_path, generator, rows, config, base, reference=other)
    assert abs(metrics[0]["loss"] - np.log(2)) > 1e-4


def test_a_reference_that_follows_is_one_of_adapters(tmp_path, generator, rows, base):
    config = section(lora=LORA, train={"reference_decay": 0.5})
    metrics = run(tmp_path, generator, rows, config, base)
    assert metrics[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert metrics[2]["saturation"] > 1e-5


def test_rank_zero_trains_the_whole_network(tmp_path, generator, rows, base):
    config = section(lora=dataclasses.replace(LORA, rank=0), train={"steps": 1})
    metrics = run(tmp_path, generator, rows, config, base)
    assert metrics[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert not (tmp_path / "adapters").exists()
    mesh = make_mesh({}, jax.devices()[:1])
    whole = abstract_params(jax.eval_shape(generator.init, jax.random.key(0)), mesh)
    params = load_params(tmp_path / "params", whole)
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), params, base)
    assert np.mean(jax.tree.leaves(moved)) > 0.8


@pytest.mark.parametrize("follows", [0.0, 0.5])
def test_chosen_parts_are_trained_and_the_whole_network_is_written(
    follows, tmp_path, generator, rows, base
):
    config = section(parts=("self/",), train={"reference_decay": follows})
    before = jax.tree.map(np.array, base)
    metrics = run(tmp_path, generator, rows, config, base)
    jax.tree.map(np.testing.assert_array_equal, base, before)
    assert metrics[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert abs(metrics[2]["loss"] - np.log(2)) > 1e-4

    mesh = make_mesh({}, jax.devices()[:1])
    whole = abstract_params(jax.eval_shape(generator.init, jax.random.key(0)), mesh)
    params = load_params(tmp_path / "params", whole)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        moved = np.any(np.asarray(leaf) != flatten_dict(before, sep="/")[name])
        assert not moved or "self/" in name, name
    kernel = params["blocks"]["self"]["qkv"]["kernel"]
    assert np.any(kernel != before["blocks"]["self"]["qkv"]["kernel"])


def test_a_base_in_int8_goes_on_and_is_merged_as_stored(tmp_path, generator, rows, base):
    half = dataclasses.replace(generator, module=generator.module.clone(dtype="bfloat16"))
    lora = dataclasses.replace(LORA, base="int8")

    def after(folder, steps):
        config = section(lora=lora, train={"steps": steps, "checkpoint_every": 2})
        run(folder, half, rows, config, base)
        tuning = make_tuning(half.init, config)
        return tuning, tuning.load(folder, make_mesh({}, jax.devices()[:1]))

    after(tmp_path / "stopped", 2)
    tuning, adapters = after(tmp_path / "stopped", 4)
    jax.tree.map(np.testing.assert_array_equal, adapters, after(tmp_path / "at_once", 4)[1])
    # one rounding: that of the sum, in the type of what is stored
    whole = flatten_dict(tuning.whole(adapters, base))
    path = ("blocks", "self", "qkv", "kernel")
    a, b = (np.float64(adapters["blocks"]["self"]["qkv"][factor]) for factor in "ab")
    exact = np.float64(base["blocks"]["self"]["qkv"]["kernel"]) + 2.0 * (a @ b)
    assert whole[path].dtype == jnp.float32
    np.testing.assert_allclose(whole[path], exact, rtol=1e-6, atol=1e-6)
    kept = tuning.keeping.all(base)
    with pytest.raises(ValueError, match="merged into the stored weights alone"):
        tuning.whole(adapters, kept)
