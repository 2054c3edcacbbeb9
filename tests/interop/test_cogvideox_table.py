"""The tables of CogVideoX: all tensors of the published sizes, and weights there and back."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from flax import linen as nn

from tests.models.cogvideox_examples import TRANSFORMER, TRANSFORMERS, VAE
from vidpref.interop.cogvideox import transformer_table, vae_table
from vidpref.interop.table import plan, to_params, to_tensors
from vidpref.models.cogvideox import network as cogvideox
from vidpref.models.cogvideox import sizes as cogvideox_sizes
from vidpref.models.cogvideox import vae as cogvideox_vae
from vidpref.models.condition import Condition

# What the published config.json files have besides the defaults of the class in diffusers.
PUBLISHED = {
    "T2V_2B": {},
    "T2V_5B": {
        "num_attention_heads": 48,
        "num_layers": 42,
        "use_rotary_positional_embeddings": True,
    },
    "I2V_5B": {
        "num_attention_heads": 48,
        "num_layers": 42,
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": True,
        "in_channels": 32,
    },
}


def transformer_shapes(module: cogvideox.CogVideoX):
    """Returns the shapes of fresh parameters."""
    h, w = module.sample_height, module.sample_width
    frames = (module.sample_frames - 1) // module.temporal_compression_ratio + 1
    image = module.in_channels - module.out_channels

    def init():
        condition = Condition(
            text=jnp.zeros((1, module.max_text_seq_length, module.text_embed_dim)),
            text_mask=jnp.ones((1, module.max_text_seq_length), bool),
            image_latent=jnp.zeros((1, frames, h, w, image)) if image else None,
        )
        x = jnp.zeros((1, frames, h, w, module.out_channels))
        return module.init(jax.random.key(0), x, jnp.ones(1), condition)["params"]

    return nn.unbox(jax.eval_shape(init))


def vae_shapes(module: cogvideox_vae.CogVideoXVAE):
    clips = jax.ShapeDtypeStruct((1, 1, 16, 16, 3), jnp.float32)
    return nn.unbox(jax.eval_shape(module.init, jax.random.key(0), clips)["params"])


def check_size(original: torch.nn.Module, params, table) -> int:
    """Checks every tensor's shape, and returns the number of parameters."""
    state = original.state_dict()
    plan({name: tuple(tensor.shape) for name, tensor in state.items()}, table, expected=params)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert count == sum(tensor.numel() for tensor in state.values())
    return count


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_transformers(name):
    with torch.device("meta"):
        original = CogVideoXTransformer3DModel(**PUBLISHED[name])
    size = getattr(cogvideox_sizes, name)
    module = cogvideox.CogVideoX.from_config(original.config, remat="full")
    assert module == cogvideox.CogVideoX(**size)
    count = check_size(original, transformer_shapes(module), transformer_table(module))
    # PyTorch does not count the learned positions, which diffusers has as a buffer
    learned = (226 + 13 * 30 * 45) * 3072 if name == "I2V_5B" else 0
    assert count == original.num_parameters() + learned
    print(f"\n{name}: {count:,} of which {learned:,} learned positions")


@pytest.mark.parametrize("name", ["VAE_2B", "VAE_5B"])
def test_published_autoencoder(name):
    size = getattr(cogvideox_sizes, name)
    with torch.device("meta"):
        original = AutoencoderKLCogVideoX(**size)
    module = cogvideox_vae.CogVideoXVAE.from_config(original.config)
    assert module == cogvideox_vae.CogVideoXVAE(**size)
    count = check_size(original, vae_shapes(module), vae_table(module))
    assert count == original.num_parameters()
    print(f"\n{name}: {count:,}")


def small_models():
    torch.manual_seed(0)
    original = CogVideoXTransformer3DModel(**{**TRANSFORMER, **TRANSFORMERS["5b_i2v"]})
    module = cogvideox.CogVideoX.from_config(original.config)
    yield original, transformer_shapes(module), transformer_table(module)
    original = AutoencoderKLCogVideoX(**{**VAE, "layers_per_block": 2})
    module = cogvideox_vae.CogVideoXVAE.from_config(original.config)
    yield original, vae_shapes(module), vae_table(module)


def test_there_and_back_is_equal_bit_for_bit():
    for original, expected, table in small_models():
        tensors = {name: tensor.numpy() for name, tensor in original.state_dict().items()}
        back = to_tensors(to_params(tensors, table, expected=expected), table)
        assert back.keys() == tensors.keys()
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(back[name], tensor)


def test_what_does_not_fit_is_named():
    for original, expected, table in small_models():
        tensors = {name: tensor.numpy() for name, tensor in original.state_dict().items()}
        first, *_, last = tensors
        removed = tensors.pop(first)
        tensors["extra.weight"] = removed
        tensors[last] = tensors[last][:-1]
        with pytest.raises(ValueError) as error:  # noqa: PT011 - three matches below
            to_params(tensors, table, expected=expected)
        for complaint in (f"missing (1): {first}", "extra (1): extra.weight", f"(1): {last}"):
            assert complaint in str(error.value)
