"""Sinusoidal embedding against diffusers; what masked text may and may not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.conftest import randomize
from vidpref.models.embeddings import TextEmbedding, sinusoidal


@pytest.mark.parametrize("dim", [8, 256])
def test_sinusoidal_equals_diffusers(dim):
    torch = pytest.importorskip("torch")
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    steps = np.array([0.0, 1.0, 37.5, 999.0], np.float32)
    expected = embeddings.get_timestep_embedding(
        torch.tensor(steps), dim, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    np.testing.assert_allclose(sinusoidal(steps, dim), expected, atol=1e-4)

    weight = np.random.default_rng(0).normal(size=(4, dim)).astype(np.float32)
    steps_torch = torch.tensor(steps, requires_grad=True)
    table = embeddings.get_timestep_embedding(
        steps_torch, dim, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    (table * torch.tensor(weight)).sum().backward()
    grad = jax.grad(lambda s: (sinusoidal(s, dim) * weight).sum())(jnp.asarray(steps))
    np.testing.assert_allclose(grad, steps_torch.grad, rtol=1e-3, atol=1e-3)


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match="even dim, got 7"):
        sinusoidal(np.zeros(2, np.float32), 7)


def test_pooled_text_is_the_mean_over_real_tokens():
    text = jax.random.normal(jax.random.key(0), (3, 4, 6))
    mask = jnp.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    module = TextEmbedding(features=8)
    params = {"params": randomize(module.init(jax.random.key(1), text, mask)["params"])}
    tokens, pooled = module.apply(params, text, mask)
    np.testing.assert_allclose(pooled[0], jax.nn.silu(tokens[0, :2]).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(pooled[1], jax.nn.silu(tokens[1]).mean(axis=0), atol=1e-6)
    assert (pooled[2] == 0).all()


def test_word_order_changes_the_pooled_text():
    text = jax.random.normal(jax.random.key(0), (1, 4, 6))
    mask = jnp.ones((1, 4), bool)
    module = TextEmbedding(features=8)
    params = module.init(jax.random.key(1), text, mask)
    _, pooled = module.apply(params, text, mask)
    _, swapped = module.apply(params, text[:, ::-1], mask)
    assert jnp.abs(pooled - swapped).max() > 1e-3
