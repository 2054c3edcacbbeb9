"""Embeddings of scalars and positions, and the conditioning vector made of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vidpref.models.condition import Condition
from vidpref.models.dense import dense
from vidpref.models.norm import layer_norm
from vidpref.typing import Array, Bool, Float


def sinusoidal(positions: Float[Array, " n"], dim: int) -> Float[Array, "n {dim}"]:
    """Embeds positions as cosines, then sines, of geometric frequencies 1 to 1/10000.

    Equal to `get_timestep_embedding(positions, dim, flip_sin_to_cos=True,
    downscale_freq_shift=0)` of diffusers. `dim` must be even.

    Raises:
        ValueError: `dim` is odd.
    """
    if dim % 2:
        raise ValueError(f"a sinusoidal embedding needs an even dim, got {dim}")
    half = dim // 2
    frequencies = jnp.exp(jnp.arange(half) * np.float32(-np.log(10_000.0) / half))
    angles = positions[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of a diffusion time and a two-layer perceptron: [b] -> [b, d]."""

    features: int
    frequencies: int = 256
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tau: Float[Array, " b"]) -> Float[Array, "b d"]:
        # the frequencies are those of step counts, so tau in [0, 1] is scaled to 1000 steps
        h = sinusoidal(tau.astype(jnp.float32) * 1000.0, self.frequencies)
        h = dense(self.features, dtype=self.dtype, name="first")(h)
        return dense(self.features, dtype=self.dtype, name="second")(jax.nn.silu(h))


class TextEmbedding(nn.Module):
    """Normalises and projects the text, and pools it over the real tokens.

    Returns:
        tokens [b, l, d] and their pooled form [b, d] (zero where all tokens are masked).
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, text: Float[Array, "b l e"], text_mask: Bool[Array, "b l"]
    ) -> tuple[Float[Array, "b l d"], Float[Array, "b d"]]:
        normed = layer_norm(affine=True, dtype=self.dtype, name="norm")(text)
        tokens = dense(self.features, dtype=self.dtype, name="projection")(normed)
        # a word table has no word order; the position before the non-linearity keeps it in the mean
        positions = sinusoidal(jnp.arange(text.shape[1], dtype=jnp.float32), self.features)
        tokens += positions.astype(tokens.dtype)[None]
        weight = text_mask.astype(tokens.dtype)[..., None]
        pooled = (jax.nn.silu(tokens) * weight).sum(axis=1) / jnp.maximum(weight.sum(axis=1), 1.0)
        return tokens, pooled


class ConditionEmbedding(nn.Module):
    """The vector that conditions every block, and the text tokens to attend to.

    The vector is the sum of the embedded time, the projected pooled text and, for
    super-resolution, the embedded time of the low-resolution clip's noise.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, tau: Float[Array, " b"], condition: Condition
    ) -> tuple[Float[Array, "b d"], Float[Array, "b l d"]]:
        tokens, pooled = TextEmbedding(self.features, self.dtype, name="text")(
            condition.text, condition.text_mask
        )
        vector = TimeEmbedding(self.features, dtype=self.dtype, name="time")(tau)
        vector += dense(self.features, dtype=self.dtype, name="pooled_text")(pooled)
        if condition.low_res is not None:
            low_res_tau = condition.low_res_tau
            if low_res_tau is None:
                low_res_tau = jnp.zeros_like(tau)
            embed = TimeEmbedding(self.features, dtype=self.dtype, name="low_res_time")
            vector += embed(low_res_tau)
        return vector, tokens
