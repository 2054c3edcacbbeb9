"""CogVideoX's VAE against diffusers, with random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from tests.models import torch_parity as parity
from tests.models.cogvideox_examples import VAE, check_parity
from vidpref.interop.cogvideox import vae_table
from vidpref.interop.table import to_params
from vidpref.models.cogvideox.vae import CogVideoXVAE

CHANNELS_LAST = (0, 2, 3, 4, 1)
CHANNELS_FIRST = (0, 4, 1, 2, 3)


@functools.cache
def original() -> AutoencoderKLCogVideoX:
    torch.manual_seed(0)
    model = AutoencoderKLCogVideoX(**VAE).eval()
    parity.randomize(model)
    return model


def half(network: str) -> torch.nn.Module:
    """The original with the encoder's or the decoder's tensors in its state dict only."""
    holder = torch.nn.Module()
    holder.add_module(network, getattr(original(), network))
    return holder


def table(module, network: str):
    return tuple(rule for rule in vae_table(module) if rule.torch.startswith(network))


# An image; one batch, without and with a frame over; three batches.
@pytest.mark.parametrize(
    "size",
    [
        (1, 8, 12),
        pytest.param((8, 4, 8), marks=pytest.mark.slow),
        pytest.param((9, 8, 4), marks=pytest.mark.slow),
        (25, 4, 8),
    ],
)
def test_encoding_equals_diffusers(size):
    ours = CogVideoXVAE.from_config(original().config)
    x = np.random.default_rng(1).normal(size=(2, *size, 3)).astype(np.float32)

    def run_theirs(x):
        return original()._encode(x.permute(CHANNELS_FIRST)).permute(CHANNELS_LAST)

    def run_ours(params, x):
        return ours.apply({"params": params}, x, method="moments")

    rules = table(ours, "encoder")
    print(f"\nencoder {size}:", check_parity(half("encoder"), run_theirs, run_ours, rules, [x]))


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((1, 2, 3), marks=pytest.mark.slow),
        pytest.param((4, 2, 2), marks=pytest.mark.slow),
        (7, 1, 2),
    ],
)
def test_decoding_equals_diffusers(size):
    ours = CogVideoXVAE.from_config(original().config)
    z = np.random.default_rng(2).normal(size=(2, *size, 4)).astype(np.float32)

    def run_theirs(z):
        latents = z.permute(CHANNELS_FIRST) / VAE["scaling_factor"]
        return original().decode(latents).sample.permute(CHANNELS_LAST)

    def run_ours(params, z):
        return ours.apply({"params": params}, z, method="decode")

    rules = table(ours, "decoder")
    print(f"\ndecoder {size}:", check_parity(half("decoder"), run_theirs, run_ours, rules, [z]))


@pytest.mark.parametrize("invert", [False, True])
def test_latents_are_scaled_samples_of_the_posterior(invert):
    blocks = {f"{way}_block_types": (f"CogVideoX{way.title()}Block3D",) for way in ("down", "up")}
    config = {**VAE, **blocks, "block_out_channels": (4,), "invert_scale_latents": invert}
    theirs = AutoencoderKLCogVideoX(**config).eval()
    ours = CogVideoXVAE.from_config(config)
    variables = {"params": to_params(parity.state_dict(theirs), vae_table(ours))}
    x = np.random.default_rng(3).normal(size=(1, 1, 4, 4, 3)).astype(np.float32)
    key = jax.random.key(5)

    @jax.jit
    def encode(x):
        return (
            ours.apply(variables, x, method="encode"),
            ours.apply(variables, x, key, method="encode"),
            ours.apply(variables, x[:, 0], 3, key, method="image_latent"),
        )

    with torch.no_grad():
        posterior = theirs.encode(torch.from_numpy(x).permute(CHANNELS_FIRST)).latent_dist
    mean, deviation = (
        value.permute(CHANNELS_LAST).numpy() for value in (posterior.mode(), posterior.std)
    )
    sample = mean + deviation * np.asarray(jax.random.normal(key, mean.shape))
    scaled_mean, scaled_sample, image = encode(x)
    np.testing.assert_allclose(scaled_mean, 0.7 * mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scaled_sample, 0.7 * sample, rtol=1e-4, atol=1e-5)
    # the pipeline's `prepare_latents`
    scale = 1 / 0.7 if invert else 0.7
    np.testing.assert_allclose(image[:, :1], scale * sample, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(image[:, 1:], np.zeros((1, 2, 4, 4, 4)))


def test_bfloat16_gives_float32():
    ours = CogVideoXVAE.from_config(VAE, dtype="bfloat16")
    clip = jnp.zeros((1, 17, 4, 4, 3))
    out, variables = jax.eval_shape(ours.init_with_output, jax.random.key(0), clip)
    assert out.shape == clip.shape
    assert {leaf.dtype for leaf in jax.tree.leaves((out, variables))} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 13, 8, 8, 3), "13 frames.*nearest are 8, 9, 16"),
        ((1, 9, 8, 10, 3), r"\(8, 10\).*multiples of 4"),
        ((1, 9, 8, 8, 4), "must have 3 channels"),
    ],
)
def test_a_clip_that_does_not_fit_is_named(shape, message):
    ours = CogVideoXVAE.from_config(original().config)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(ours.init, jax.random.key(0), jnp.zeros(shape))


def test_configs_of_other_networks_are_refused():
    config = {**original().config, "use_quant_conv": True, "down_block_types": ["Other"] * 3}
    with pytest.raises(ValueError, match=r"down_block_types=.*use_quant_conv=True"):
        CogVideoXVAE.from_config(config)
