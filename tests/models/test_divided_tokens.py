"""Tokens of a clip divided over the mesh axis context: each network equals one device."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.models.conftest import randomize
from vidpref.models.cogvideox.network import CogVideoX
from vidpref.models.condition import Condition
from vidpref.models.dit.network import DiT
from vidpref.models.dit.spatio_temporal import STDiT
from vidpref.models.wan.network import Wan
from vidpref.training.sharding import activation_rules, batch_sharding, make_mesh, param_shardings

ROWS, CLIP, TEXT = 2, (3, 12, 20, 4), (5, 8)
HEADS = 10  # neither 4 nor 8 devices divide them
TRANSFORMER = {"head_dim": 8, "width": 8 * HEADS, "layers": 2, "cond_dim": 16, "patch": (1, 4, 4)}
OWN = {"channels": 4, "text_dim": TEXT[1], "first_frame": False}
LATENT = {
    "num_attention_heads": HEADS,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
}
COGVIDEOX = {
    "text_embed_dim": TEXT[1],
    "time_embed_dim": 16,
    "sample_height": CLIP[1],
    "sample_width": CLIP[2],
    "max_text_seq_length": TEXT[0],
}
NETWORKS = {
    # 45 tokens, 15 a frame
    "dit": DiT(**OWN, **TRANSFORMER),
    "st_dit": STDiT(**OWN, **TRANSFORMER),
    # 45 tokens, of patches of (1, 4, 4)
    "wan": Wan(**LATENT, text_dim=TEXT[1], freq_dim=16, ffn_dim=64, patch_size=(1, 4, 4)),
    "wan_i2v": Wan(
        **{**LATENT, "in_channels": 8},
        text_dim=TEXT[1],
        freq_dim=16,
        ffn_dim=64,
        patch_size=(1, 4, 4),
        image_dim=8,
        added_kv_proj_dim=16 * HEADS,
        remat="full",
    ),
    # 5 of text and 180
    "cogvideox": CogVideoX(**LATENT, **COGVIDEOX, use_rotary_positional_embeddings=True),
    "cogvideox_2b": CogVideoX(**LATENT, **COGVIDEOX, attention="chunked"),
}
MESHES = {
    "context8": {"context": 8},
    "data2-context4": {"data": 2, "context": 4},
    "fsdp2-context2-tensor2": {"fsdp": 2, "context": 2, "tensor": 2},
}
DEFAULT = {
    ("dit", "context8"),
    ("st_dit", "data2-context4"),
    ("wan", "data2-context4"),
    ("wan", "fsdp2-context2-tensor2"),
    ("cogvideox", "context8"),
}
# these programs run once or twice: compiling is nearly all of the time
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _rows(name):
    """Returns (x, tau, condition, target); tau is of whole steps, as CogVideoX has them."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=(ROWS, *shape)).astype(np.float32)

    condition = Condition(text=normal(*TEXT), text_mask=np.arange(TEXT[0])[None] < [[3], [5]])
    if name == "wan_i2v":
        condition = condition.replace(image_latent=normal(*CLIP), image_states=normal(3, 8))
    tau = (rng.integers(100, 900, size=ROWS) / 1000).astype(np.float32)
    return normal(*CLIP), tau, condition, normal(*CLIP)


@functools.cache
def _on_one_device(name):
    module, rows = NETWORKS[name], _rows(name)
    boxed = jax.eval_shape(module.init, jax.random.key(0), *rows[:3])["params"]

    def loss(params, x, tau, condition, target):
        out = module.apply({"params": params}, x, tau, condition)
        return ((out - target) ** 2).mean(), out

    params = randomize(boxed)
    return boxed, loss, params, _jit(jax.value_and_grad(loss, has_aux=True))(params, *rows)


def _close(mine, theirs, what):
    difference = np.linalg.norm(mine - theirs)
    assert difference < 1e-5 * np.linalg.norm(theirs), what


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        pytest.param(
            name,
            axes,
            id=f"{name}-{mesh}",
            marks=() if (name, mesh) in DEFAULT else [pytest.mark.slow],
        )
        for name in NETWORKS
        for mesh, axes in MESHES.items()
    ],
)
def test_output_loss_and_gradients_equal_one_device(name, axes):
    boxed, loss, params, ((value, out), grads) = _on_one_device(name)
    mesh = make_mesh(axes)
    shardings, rows = param_shardings(boxed, mesh), batch_sharding(mesh)

    @functools.partial(
        _jit,
        in_shardings=(shardings, *[rows] * 4),
        out_shardings=((None, rows), shardings),
    )
    def step(params, *rows):
        with activation_rules(mesh):
            return jax.value_and_grad(loss, has_aux=True)(params, *rows)

    compiled = step.lower(params, *_rows(name)).compile()
    assert "all-to-all" in compiled.as_text()
    (other, other_out), other_grads = compiled(params, *_rows(name))
    _close(other, value, "loss")
    np.testing.assert_allclose(other_out, out, atol=1e-5 * np.abs(out).max())
    other_grads = flatten_dict(jax.device_get(other_grads))
    grads = flatten_dict(grads)
    if name == "cogvideox_2b":
        # without rotary positions a shift of all keys changes no softmax: the rest is rounding
        shift, largest = ("blocks", "key_norm", "bias"), max(map(np.linalg.norm, grads.values()))
        for found in (grads.pop(shift), other_grads[shift]):
            assert np.linalg.norm(found) < 1e-7 * largest
    for path, grad in grads.items():
        _close(other_grads[path], grad, path)
