"""CogVideoX's transformer against diffusers, with random weights."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_sincos_pos_embed

from tests.models import torch_parity as parity
from tests.models.cogvideox_examples import TRANSFORMER, TRANSFORMERS, check_parity
from vidpref.interop.cogvideox import transformer_table
from vidpref.interop.table import to_params
from vidpref.models.cogvideox.network import CogVideoX
from vidpref.models.cogvideox.positions import rotary_positions, sincos_positions
from vidpref.models.condition import Condition
from vidpref.models.rope import rotate


def original(**fields) -> CogVideoXTransformer3DModel:
    torch.manual_seed(0)
    model = CogVideoXTransformer3DModel(**{**TRANSFORMER, **fields}).eval()
    parity.randomize(model)
    return model


def pipeline_rotary(model, grid: tuple[int, int, int]):
    """The pipeline's own code for a latent of (t, h, w)."""
    t, h, w = grid
    pipeline = SimpleNamespace(vae_scale_factor_spatial=8, transformer=model)
    return CogVideoXPipeline._prepare_rotary_positional_embeddings(
        pipeline, 8 * h, 8 * w, t, torch.device("cpu")
    )


def make_condition(text, image=None) -> Condition:
    # a mask that the network must not look at
    mask = jnp.zeros(text.shape[:2], bool)
    return Condition(text=text, text_mask=mask, image_latent=image)


@pytest.mark.parametrize(
    ("kind", "grid", "tokens"),
    [
        ("2b", (3, 8, 12), 5),  # the size of the training clips
        ("2b", (1, 6, 4), 5),
        ("5b", (4, 6, 14), 9),  # wider, another length of text
        ("5b", (1, 10, 4), 1),  # taller, an image
        ("5b_i2v", (3, 8, 12), 5),
        ("5b_i2v", (2, 8, 12), 5),  # another length: sincos for the learned positions
        ("no_biases", (2, 4, 6), 5),
    ],
)
def test_output_and_gradients_equal_diffusers(kind, grid, tokens):
    theirs = original(**TRANSFORMERS[kind])
    # once with the options that must not change anything
    options = {"remat": "full", "unroll": True} if kind == "no_biases" else {}
    ours = CogVideoX.from_config(theirs.config, **options)
    rng = np.random.default_rng(3)
    shapes = [(2, *grid, 4), (2, tokens, 10)]
    if kind == "5b_i2v":
        shapes.append((2, *grid, 4))
    inputs = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    steps = np.array([37, 999])

    def run_theirs(x, text, *image):
        x = torch.cat([x, *image], dim=-1).permute(0, 1, 4, 2, 3)
        rotary = pipeline_rotary(theirs, grid) if ours.use_rotary_positional_embeddings else None
        out = theirs(x, text, torch.from_numpy(steps), image_rotary_emb=rotary).sample
        return out.permute(0, 1, 3, 4, 2)

    def run_ours(params, x, text, *image):
        tau = jnp.asarray((steps + 1) / 1000, jnp.float32)
        return ours.apply({"params": params}, x, tau, make_condition(text, *image))

    table = transformer_table(ours)
    print(f"\n{kind} {grid} {tokens}:", check_parity(theirs, run_theirs, run_ours, table, inputs))


def test_bfloat16_stays_near():
    theirs = original(**TRANSFORMERS["5b"])
    exact = CogVideoX.from_config(theirs.config)
    params = to_params(parity.state_dict(theirs), transformer_table(exact))
    rng = np.random.default_rng(4)
    x, text = (rng.normal(size=s).astype(np.float32) for s in ((1, 2, 4, 6, 4), (1, 5, 10)))
    outputs = [
        module.apply({"params": params}, x, jnp.array([0.5]), make_condition(text))
        for module in (exact, CogVideoX.from_config(theirs.config, dtype="bfloat16"))
    ]
    assert outputs[1].dtype == jnp.float32
    assert 1e-4 < parity.relative_error(outputs[1], outputs[0]) < 3e-2


@pytest.mark.parametrize("grid", [(13, 30, 45), (2, 30, 44), (3, 48, 27)])
def test_positions_at_real_sizes(grid):
    t, h, w = grid
    ours = sincos_positions(grid, 64, spatial_scale=1.875, temporal_scale=1.0)
    theirs = get_3d_sincos_pos_embed(64, (w, h), t, 1.875, 1.0).flatten(0, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)

    config = {"sample_height": 60, "sample_width": 90, "patch_size": 2, "patch_size_t": None}
    model = SimpleNamespace(config=SimpleNamespace(**config, attention_head_dim=64))
    cos, sin = pipeline_rotary(model, (t, 2 * h, 2 * w))
    x = np.random.default_rng(5).normal(size=(1, t * h * w, 1, 64)).astype(np.float32)
    turned = rotate(jnp.asarray(x), *rotary_positions(grid, 64, trained=(30, 45)))
    partner = np.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)
    expected = x * cos.numpy()[None, :, None] + partner * sin.numpy()[None, :, None]
    np.testing.assert_allclose(turned, expected, atol=1e-4)


def test_configs_of_other_networks_are_refused():
    config = dict(original().config)
    with pytest.raises(ValueError, match=r"ofs_embed_dim=512.*patch_size_t=2.*colour=1 is unknown"):
        CogVideoX.from_config(config | {"patch_size_t": 2, "ofs_embed_dim": 512, "colour": 1})


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("5b", {"image_latent": jnp.zeros((1, 3, 8, 12, 4))}, "image_latent is given"),
        ("5b_i2v", {}, "image_latent is missing"),
        ("5b_i2v", {"image_latent": jnp.zeros((1, 1, 8, 12, 4))}, r"\(1, 1, 8, 12, 4\) must be"),
        ("2b", {"text": jnp.zeros((1, 5, 11))}, "width 11"),
    ],
)
def test_a_wrong_condition_is_named(kind, change, message):
    module = CogVideoX.from_config({**TRANSFORMER, **TRANSFORMERS[kind]})
    condition = make_condition(jnp.zeros((1, 5, 10))).replace(**change)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            module.init, jax.random.key(0), jnp.zeros((1, 3, 8, 12, 4)), jnp.ones(1), condition
        )


@pytest.mark.parametrize(
    ("size", "tokens", "message"), [((3, 8, 10), 5, r"\(8, 10\)"), ((3, 8, 12), 4, "4 text tokens")]
)
def test_learned_positions_fit_one_size(size, tokens, message):
    module = CogVideoX.from_config({**TRANSFORMER, **TRANSFORMERS["5b_i2v"]})
    x = jnp.zeros((1, *size, 4))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            module.init,
            jax.random.key(0),
            x,
            jnp.ones(1),
            make_condition(jnp.zeros((1, tokens, 10)), x),
        )
