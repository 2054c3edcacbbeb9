"""The decoder of Qwen-VL: causal attention with positions in time, height and width."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vidpref.models.attention import dot_product_attention
from vidpref.models.dense import dense
from vidpref.models.qwen_vl.configuration import TextConfig
from vidpref.models.qwen_vl.layers import RMSNorm, frequencies, rotate_halves
from vidpref.models.scan import scan_blocks
from vidpref.models.spread import spread_batch
from vidpref.typing import Array, Bool, Float, Int, PyTree


@flax.struct.dataclass
class Cache:
    """Keys and values of earlier tokens, for decoding.

    Attributes:
        keys: of every block, [layers, b, m, g, d] with room for m tokens.
        values: likewise.
        mask: True for tokens that there are [b, m]; the caller keeps it.
    """

    keys: PyTree
    values: PyTree
    mask: PyTree


class Decoder(nn.Module):
    """The states after the last norm.

    Attributes:
        config: sizes and switches.
        attention: implementation of `dot_product_attention`.
        remat: see `scan_blocks`.
        unroll: see `scan_blocks`.
        dtype: type of the computation; norms and softmax are in float32.
    """

    config: TextConfig
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        positions: Int[Array, "b l 3"],
        mask: Bool[Array, "b l"],
        deep: Float[Array, "k b l d"] | None = None,
        cache: Cache | None = None,
        slot: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, "b l d"], Cache | None]:
        """Returns the states, and the cache with the keys and values of these tokens.

        Args:
            x: embeddings, features among them.
            positions: time, height and width.
            mask: True for keys that may be seen; of one token with a cache, the cache's counts.
            deep: what is added after the first k blocks (DeepStack, Meng et al. 2024).
            cache: where keys and values are written. Several tokens (a prompt) see each other; one
                token sees what the cache's mask says.
            slot: place of the first of these tokens in the cache.
        """
        config, dtype = self.config, jnp.dtype(self.dtype)
        cos, sin = rotary(positions, config)
        cos, sin = cos.astype(dtype), sin.astype(dtype)
        blocks = scan_blocks(
            DecoderBlock,
            length=config.num_hidden_layers,
            in_axes=(0, *(nn.broadcast,) * 5),
            remat=self.remat,
            unroll=self.unroll,
        )
        blocks = blocks(config, self.attention, dtype, name="blocks")
        layers = jnp.arange(config.num_hidden_layers)
        x = x.astype(dtype)
        carry = x if cache is None else (x, cache)
        carry, _ = blocks(carry, layers, cos, sin, mask, deep, slot)
        x, cache = (carry, None) if cache is None else carry
        return RMSNorm(config.rms_norm_eps, dtype, name="norm")(x), cache


class DecoderBlock(nn.Module):
    """Attention to the tokens before and a gated perceptron, each after a norm."""

    config: TextConfig
    attention: str
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        carry: Float[Array, "b l d"] | tuple[Float[Array, "b l d"], Cache],
        layer: Int[Array, ""],
        cos: Float[Array, "b l f"],
        sin: Float[Array, "b l f"],
        mask: Bool[Array, "b l"],
        deep: Float[Array, "k b l d"] | None,
        slot: Int[Array, ""] | int,
    ) -> tuple[Float[Array, "b l d"] | tuple[Float[Array, "b l d"], Cache], None]:
        config, dtype = self.config, self.dtype
        x, cache = carry if isinstance(carry, tuple) else (carry, None)
        b, l, width = x.shape
        y = RMSNorm(config.rms_norm_eps, dtype, name="attention_norm")(x)

        def heads(name: str, number: int) -> Array:
            features = number * config.head_dim
            options = {"bias": config.attention_bias, "dtype": dtype, "name": name}
            out = dense(features, axes=("in", "heads"), **options)(y)
            return out.reshape(b, l, number, config.head_dim)

        q = heads("query", config.num_attention_heads)
        k = heads("key", config.num_key_value_heads)
        v = heads("value", config.num_key_value_heads)
        if config.qk_norm:
            q = RMSNorm(config.rms_norm_eps, dtype, name="query_norm")(q)
            k = RMSNorm(config.rms_norm_eps, dtype, name="key_norm")(k)
        q, k = rotate_halves(q, cos, sin), rotate_halves(k, cos, sin)
        if cache is not None:
            cache = _write(cache, layer, slot, k, v)
        if cache is None or l > 1:
            y = dot_product_attention(q, k, v, mask, causal=True, implementation=self.attention)
        else:
            y = _attend_to_cache(q, cache.keys[layer], cache.values[layer], cache.mask)
        y = y.reshape(b, l, config.num_attention_heads * config.head_dim)
        x = x + dense(width, axes=("heads", "out"), bias=False, dtype=dtype, name="out")(y)

        y = RMSNorm(config.rms_norm_eps, dtype, name="mlp_norm")(x)
        options = {"bias": False, "dtype": dtype}
        gate = jax.nn.silu(dense(config.intermediate_size, name="gate", **options)(y))
        y = gate * dense(config.intermediate_size, name="up", **options)(y)
        x = x + dense(width, name="down", **options)(y)
        if deep is not None:
            number = deep.shape[0]
            x = x + jnp.where(layer < number, deep[jnp.minimum(layer, number - 1)], 0)
        x = spread_batch(x)
        return x if cache is None else (x, cache), None


def rotary(
    positions: Int[Array, "b l 3"], config: TextConfig
) -> tuple[Float[Array, "b l f"], Float[Array, "b l f"]]:
    """Returns cosines and sines of the f = head_dim / 2 pairs of features, in float32.

    Every pair turns with one axis (M-RoPE; Wang et al. 2024, figure 3). The axes stand one after
    the other, or take turns as far as their sections reach (Qwen3-VL).
    """
    sections = config.mrope_section
    axes = np.repeat(np.arange(3), sections)
    if config.mrope_interleaved:
        axes = np.zeros(sum(sections), np.int64)
        for axis in (1, 2):
            axes[axis : 3 * sections[axis] : 3] = axis
    waves = jnp.asarray(frequencies(config.head_dim, config.rope_theta))
    angles = positions[..., axes].astype(jnp.float32) * waves[None, None]
    return jnp.cos(angles), jnp.sin(angles)


def _write(cache: Cache, layer: Array, slot: Array | int, k: Array, v: Array) -> Cache:
    at = (layer, 0, slot, 0, 0)
    keys = jax.lax.dynamic_update_slice(cache.keys, k[None].astype(cache.keys.dtype), at)
    values = jax.lax.dynamic_update_slice(cache.values, v[None].astype(cache.values.dtype), at)
    return cache.replace(keys=keys, values=values)


def _attend_to_cache(
    q: Float[Array, "b 1 n d"],
    k: Float[Array, "b m g d"],
    v: Float[Array, "b m g d"],
    mask: Bool[Array, "b m"],
) -> Float[Array, "b 1 n d"]:
    """Attention of one token; keys and values are read once and not repeated for the heads."""
    b, _, n, d = q.shape
    groups = (q * jnp.asarray(d**-0.5, q.dtype)).reshape(b, k.shape[2], -1, d)
    logits = jnp.einsum("bghd,bmgd->bghm", groups, k, preferred_element_type=jnp.float32)
    logits = jnp.where(mask[:, None, None], logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bghm,bmgd->bghd", weights, v).reshape(b, 1, n, d)
