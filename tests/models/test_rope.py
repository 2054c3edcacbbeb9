"""Rotary positions against diffusers' for Wan, and the property that they are made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.models.rope import rotary_tables, rotate

GRID, DIMS = (3, 4, 5), (8, 6, 6)


def test_equal_diffusers_far_from_the_start():
    torch = pytest.importorskip("torch")
    wan = pytest.importorskip("diffusers.models.transformers.transformer_wan")
    embed = wan.WanRotaryPosEmbed(20, (1, 1, 1), 1024)
    far = (900, 2, 3)
    cos, sin = rotary_tables([np.arange(n, dtype=float) for n in far], DIMS)
    theirs = [table[0, :, 0].numpy() for table in embed(torch.zeros(1, 1, *far))]
    np.testing.assert_allclose(cos, theirs[0], atol=1e-6)
    np.testing.assert_allclose(sin[:, 1::2], theirs[1][:, 1::2], atol=1e-6)
    np.testing.assert_allclose(sin[:, ::2], -theirs[1][:, 1::2], atol=1e-6)


def test_turns_pairs_and_keeps_the_type():
    cos, sin = rotary_tables([np.arange(5.0)], [6])
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 6))
    pairs = np.asarray(x)[..., ::2] + 1j * np.asarray(x)[..., 1::2]
    angles = np.arange(5.0)[:, None] * 10_000.0 ** (-np.arange(0, 6, 2) / 6)
    turned = pairs * np.exp(1j * angles)[None, :, None]
    out = rotate(x, cos, sin)
    np.testing.assert_allclose(out[..., ::2], turned.real, atol=1e-5)
    np.testing.assert_allclose(out[..., 1::2], turned.imag, atol=1e-5)
    assert rotate(x.astype(jnp.bfloat16), cos, sin).dtype == jnp.bfloat16


def test_products_depend_on_the_distance_only():
    here, there = (
        rotary_tables([np.arange(n) + shift for n in GRID], DIMS) for shift in (0.0, 7.5)
    )
    q, k = jax.random.normal(jax.random.key(1), (2, 1, 60, 2, 20))

    def products(tables):
        return jnp.einsum("blnd,bmnd->bnlm", rotate(q, *tables), rotate(k, *tables))

    np.testing.assert_allclose(products(here), products(there), atol=1e-4)
    assert np.abs(products(here) - jnp.einsum("blnd,bmnd->bnlm", q, k)).max() > 0.1


def test_odd_features_are_refused():
    with pytest.raises(ValueError, match="must be even"):
        rotary_tables([np.arange(3.0)], [5])
