"""Wan's tables against the state dicts of diffusers: small ones by value, published by shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.wan_examples import DEEP_VAE, PUBLISHED, TRANSFORMERS, VAE
from vidpref.interop.table import plan, to_params, to_tensors
from vidpref.interop.wan import transformer_table, vae_table
from vidpref.models.condition import Condition
from vidpref.models.wan.network import Wan
from vidpref.models.wan.vae import WanVAE

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
parity = pytest.importorskip("tests.models.torch_parity")


def _transformer_shapes(module: Wan):
    """Returns the parameters' shapes, boxed."""
    patch = module.patch_size
    size, latent = module.out_channels, module.in_channels - module.out_channels
    condition = Condition(
        text=jnp.zeros((1, 2, module.text_dim)),
        text_mask=jnp.ones((1, 2), bool),
        image_latent=jnp.zeros((1, *patch, latent)) if latent else None,
        image_states=jnp.zeros((1, 257, module.image_dim)) if latent else None,
    )
    x = jnp.zeros((1, *patch, size))
    return jax.eval_shape(module.init, jax.random.key(0), x, jnp.zeros(1), condition)["params"]


def _vae_shapes(module: WanVAE):
    size = module.space_ratio
    clip = jnp.zeros((1, 1, size, size, module.in_channels))
    return jax.eval_shape(module.init, jax.random.key(0), clip)["params"]


def _count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _there_and_back(model, table, shapes):
    parity.randomize(model)
    tensors = parity.state_dict(model)
    back = to_tensors(to_params(tensors, table, expected=shapes), table)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformer_there_and_back(name):
    module = Wan.from_config(TRANSFORMERS[name])
    model = diffusers.WanTransformer3DModel(**TRANSFORMERS[name])
    _there_and_back(model, transformer_table(module), _transformer_shapes(module))


@pytest.mark.parametrize("config", [VAE, DEEP_VAE])
def test_vae_there_and_back(config):
    module = WanVAE.from_config(config)
    model = diffusers.AutoencoderKLWan(**config)
    _there_and_back(model, vae_table(module), _vae_shapes(module))


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_transformers_have_these_tensors(size):
    module = Wan.from_config(PUBLISHED[size])
    with torch.device("meta"):
        model = diffusers.WanTransformer3DModel.from_config(PUBLISHED[size])
    tensors = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = _transformer_shapes(module)
    plan(tensors, transformer_table(module), expected=shapes)
    assert _count(shapes) == sum(weights.numel() for weights in model.parameters())
    print(f"{size}: {_count(shapes):,}")


def test_published_vae_has_these_tensors():
    with torch.device("meta"):
        model = diffusers.AutoencoderKLWan()
    tensors = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = _vae_shapes(WanVAE())
    plan(tensors, vae_table(WanVAE()), expected=shapes)
    assert _count(shapes) == sum(weights.numel() for weights in model.parameters())
    print(f"vae: {_count(shapes):,}")
