"""The UNet's own: scan against a plain loop, convolution implementations, sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.conftest import UNET, build, compiled, init, random_params
from vidpref.models.condition import Condition
from vidpref.models.convolution import SpatialConv, channels_to_space, space_to_channels
from vidpref.models.embeddings import ConditionEmbedding
from vidpref.models.inputs import network_inputs
from vidpref.models.norm import GroupNorm
from vidpref.models.unet3d import sizes as unet3d_sizes
from vidpref.models.unet3d.blocks import UNetBlock
from vidpref.models.unet3d.network import UNet3D


def _loop(params, x, tau, condition):
    """The forward pass with one block after the other and a list of skips, no scan."""
    f = UNET["features"]
    f32 = jnp.dtype("float32")

    def layer(module, name, *args):
        return module.apply({"params": params[name]}, *args)

    def affine(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"][None, None, None, None]

    def blocks(name, level, h, skips=None):
        fields = {k: UNET[k][level] for k in ("spatial", "temporal", "cross")}
        block = UNetBlock(
            features=f[level], head_dim=UNET["head_dim"], groups=UNET["groups"], conv="xla",
            attention="xla", emit=False, dtype=f32, **fields,
        )  # fmt: skip
        outputs = []
        for i in range(UNET["blocks"][level]):
            own = {"params": jax.tree.map(lambda a, i=i: a[i], params[name])}
            skip = skips.pop() if skips is not None else None
            h, _ = block.apply(own, h, skip, embedding, tokens, condition.text_mask)
            outputs.append(h)
        return h, outputs

    inputs, _ = network_inputs(x, condition, patch=UNET["patch"], residual="", dtype=f32)
    embedding, tokens = layer(ConditionEmbedding(UNET["cond_dim"]), "condition", tau, condition)
    h = layer(SpatialConv(f[0]), "stem", inputs)
    h, skips = blocks("down0", 0, h)
    h = affine("downsample0", space_to_channels(h, (1, 2, 2)))
    h, _ = blocks("middle", 1, h)
    h = channels_to_space(affine("upsample0", h), (1, 2, 2))
    h, _ = blocks("up0", 0, h, skips)
    h = jax.nn.silu(layer(GroupNorm(UNET["groups"]), "norm", h))
    return channels_to_space(layer(SpatialConv(12), "head", h), UNET["patch"])


def test_scan_equals_a_loop_over_blocks(inputs):
    module = build("unet3d")
    params = random_params(module)
    probe = jax.random.normal(jax.random.key(5), inputs[0].shape)

    def scan(params):
        return (module.apply({"params": params}, *inputs) * probe).sum()

    def loop(params):
        return (_loop(params, *inputs) * probe).sum()

    scanned, grads = jax.jit(jax.value_and_grad(scan))(params)
    looped, loop_grads = jax.jit(jax.value_and_grad(loop))(params)
    np.testing.assert_allclose(scanned, looped, rtol=1e-4, atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), grads, loop_grads
    )


def test_matmul_convolutions_are_the_same_network(inputs):
    module, matmul = build("unet3d"), build("unet3d", conv="matmul")
    params = random_params(module)
    expected = compiled(module)(params, *inputs)
    np.testing.assert_allclose(expected, compiled(matmul)(params, *inputs), atol=1e-4)


def test_low_resolution_clip_is_the_residual_base(inputs):
    x, tau, condition = inputs
    condition = condition.replace(low_res=jnp.full((2, 4, 4, 4, 3), 0.25))
    module = build("unet3d", low_res=True, residual="low_res")
    out = compiled(module)(init(module, x, tau, condition), x, tau, condition)
    np.testing.assert_allclose(out, jnp.full(x.shape, 0.25), atol=1e-6)


def _count(size, text, clip, low_res=None):
    t, h, w, c = clip
    module = UNet3D(channels=c, text_dim=text[1], **size)
    condition = Condition(
        text=jnp.zeros((1, *text)),
        text_mask=jnp.ones((1, text[0]), bool),
        first_frame=jnp.zeros((1, h, w, c)) if low_res is None else None,
        low_res=None if low_res is None else jnp.zeros((1, t, *low_res, c)),
    )
    variables = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, *clip)), jnp.zeros(1), condition
    )
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("size", "text", "clip", "low_res", "millions", "tolerance"),
    [
        # AIF, appendix A
        ("PAPER_BASE", (64, 4096), (16, 24, 40, 3), None, 1600, 100),
        ("PAPER_SUPERRES", (64, 4096), (16, 192, 320, 3), (24, 40), 1400, 100),
        ("MINI", (12, 32), (8, 16, 16, 3), None, 2.06, 0.01),
        ("MINI_SUPERRES", (12, 32), (8, 32, 32, 3), (16, 16), 3.19, 0.01),
    ],
)
def test_sizes(size, text, clip, low_res, millions, tolerance):
    count = _count(getattr(unet3d_sizes, size), text, clip, low_res) / 1e6
    assert abs(count - millions) < tolerance


def test_levels_must_agree(inputs):
    with pytest.raises(ValueError, match=r"blocks=.* needs one value for each of the 2 levels"):
        build("unet3d", blocks=(1, 2, 3)).init(jax.random.key(0), *inputs)
