"""Small generators, and parameters that are random everywhere (zero-initialised layers too)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.models.condition import Condition
from vidpref.models.dit.network import DiT
from vidpref.models.dit.spatio_temporal import STDiT
from vidpref.models.unet3d.network import UNet3D

CLIP = (4, 8, 8, 3)
TEXT = (5, 6)

UNET = {
    "features": (16, 32),
    "blocks": (2, 2),
    "spatial": (False, True),
    "temporal": (True, False),
    "cross": (False, True),
    "head_dim": 8,
    "cond_dim": 32,
    "groups": 4,
    "patch": (1, 2, 2),
}
DIT = {"patch": (2, 4, 4), "width": 24, "layers": 2, "head_dim": 8, "cond_dim": 16}
GENERATORS = {"unet3d": (UNet3D, UNET), "dit": (DiT, DIT), "st_dit": (STDiT, DIT)}


def make_condition(seed: int, b: int, *, low_res: bool = False) -> Condition:
    keys = jax.random.split(jax.random.key(seed), 3)
    t, h, w, c = CLIP
    return Condition(
        text=jax.random.normal(keys[0], (b, *TEXT)),
        text_mask=jnp.arange(TEXT[0])[None] < jnp.array([3, 5, 1, 4])[:b, None],
        first_frame=jax.random.uniform(keys[1], (b, h, w, c), minval=-1, maxval=1),
        low_res=jax.random.normal(keys[2], (b, t, h // 2, w // 2, c)) if low_res else None,
        low_res_tau=jnp.linspace(0.1, 0.4, b) if low_res else None,
    )


def randomize(shapes, seed: int = 0):
    """Returns parameters of these shapes, random everywhere, with outputs of the order of one."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        fan_in = max(leaf.size // leaf.shape[-1], 1) if leaf.ndim > 1 else 100
        values = rng.normal(size=leaf.shape).astype(np.float32) / np.sqrt(fan_in)
        return jnp.asarray(values + (path[-1].key == "scale"))

    return jax.tree_util.tree_map_with_path(draw, nn.unbox(shapes))


def build(name: str, **fields):
    module, base = GENERATORS[name]
    return module(channels=3, text_dim=TEXT[1], **{**base, **fields})


def init(module, *inputs):
    """Returns fresh parameters, unboxed."""
    return nn.unbox(jax.jit(module.init)(jax.random.key(0), *inputs)["params"])


@functools.cache
def compiled(module):
    """Returns the compiled `(params, *inputs) -> output`, the same for equal modules."""
    return jax.jit(lambda params, *inputs: module.apply({"params": params}, *inputs))


def make_inputs(*, low_res: bool = False):
    """Returns a batch of two: (x, tau, condition)."""
    x = jax.random.normal(jax.random.key(1), (2, *CLIP))
    return x, jnp.array([0.2, 0.7]), make_condition(2, 2, low_res=low_res)


@functools.cache
def random_params(module, *, low_res: bool = False):
    """Returns parameters random everywhere."""
    inputs = make_inputs(low_res=low_res)
    return randomize(jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"])


@pytest.fixture
def inputs():
    return make_inputs()
