"""Every objective on both noise processes: the process is one field of a config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from tests.end_to_end.tiny import TINY_FLOW
from vidpref.generation.adopt import load_config
from vidpref.generation.generator import build_base
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.stages.train import ErrorSettings, generator_loss

PROCESSES = {
    "ddpm": ("diffusion.name=ddpm", "sampler.name=ddim"),
    "flow": ("diffusion.name=flow", "sampler.name=euler"),
    "flow, unipc": ("diffusion.name=flow", "sampler.name=unipc"),
}
HYPER = {
    "rwr": {"eta": 1.0, "gamma": 0.0},
    "flow_rwr": {"beta": 1.0},
    "dpo": {"beta": 500.0},
    "mcdpo": {"beta": 500.0},
    "kto": {"beta": 500.0},
    "diffusion_nft": {"beta": 1.0},
    "awm": {"clip": 1e-4},
}
AT_REFERENCE = {"dpo": np.log(2), "mcdpo": np.log(2), "kto": 0.5}


def batch_of(generator, k, b=2):
    rng = np.random.default_rng(0)
    t, h, w, c = generator.clip_shape
    clips = rng.integers(0, 256, (b, k, t, h, w, c), dtype=np.uint8)
    batch = {
        "clips": clips,
        "first_frame": clips[:, 0, 0],
        "text": rng.normal(size=(b, *generator.text_shape)).astype(np.float32),
        "text_mask": np.ones((b, generator.text_shape[0]), bool),
        "reward": rng.uniform(size=(b, k)).astype(np.float32),
        "motion": rng.uniform(size=(b, k, 2)).astype(np.float32),
    }
    return jax.tree.map(jnp.asarray, batch)


@pytest.fixture(scope="module", params=PROCESSES)
def generator(request):
    config = load_config("flow_dpo:mini", [*TINY_FLOW, *PROCESSES[request.param]])
    built = build_base(config)
    return built, meta.unbox(jax.jit(built.init)(jax.random.key(0)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_on_a_process(name, generator):
    built, params = generator
    loss_fn = generator_loss(built, name, HYPER.get(name, {}), ErrorSettings("velocity"))
    batch = batch_of(built, OBJECTIVES[name].k)
    loss, _ = loss_fn(params, {"reference": params}, batch, jax.random.key(1))
    if name in AT_REFERENCE:
        np.testing.assert_allclose(loss, AT_REFERENCE[name], rtol=1e-6)
    elif name == "awm":  # all ratios are 1
        np.testing.assert_allclose(loss, -batch["reward"].mean(), rtol=1e-5)
    else:
        assert 0 < loss < 1e4


def test_samples_are_clips(generator):
    built, params = generator
    batch = batch_of(built, 1)
    clips = built.sample(params, jax.random.split(jax.random.key(2), 2), batch)
    assert clips.shape == (2, *built.clip_shape)
    assert np.isfinite(clips).all()
    assert np.abs(clips).max() <= 1
