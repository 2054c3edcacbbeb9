"""The vision tower of Qwen-VL: frames of patches to features of the decoder's width."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.attention import dot_product_attention
from vidpref.models.dense import dense
from vidpref.models.norm import layer_norm
from vidpref.models.qwen_vl.configuration import VisionConfig
from vidpref.models.qwen_vl.inputs import Patches
from vidpref.models.qwen_vl.layers import RMSNorm, frequencies, rotate_halves
from vidpref.models.scan import scan_blocks
from vidpref.models.spread import spread_batch
from vidpref.typing import Array, Bool, Float

_EPSILON = 1e-6
_THETA = 10_000.0
_ACTIVATIONS = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
}


class VisionTower(nn.Module):
    """The features of frames, each of which is seen alone (Wang et al. 2024, section 2.1).

    A frame is `temporal_patch_size` frames of a video, or an image. All families attend within a
    frame only; in Qwen2.5-VL most blocks attend within windows of it (Bai et al. 2025, section
    2.1.1), in whose order its patches then lie.

    Attributes:
        config: sizes and switches.
        attention: implementation of `dot_product_attention`.
        remat: see `scan_blocks`.
        unroll: see `scan_blocks`.
        dtype: type of the computation; rotary positions and norms are in float32.
    """

    config: VisionConfig
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(
        self, patches: Patches
    ) -> tuple[Float[Array, "b n d"], tuple[Float[Array, "b n d"], ...]]:
        """Returns merged features, n = f p / 4 a row, and those for the decoder's first blocks.

        Args:
            patches: f frames of p patches a row.

        Raises:
            ValueError: patches that do not fit the fields.
        """
        config, dtype = self.config, jnp.dtype(self.dtype)
        b, f, p, _ = patches.pixels.shape
        self._check(patches)
        rows = jax.tree.map(lambda x: x.reshape(b * f, *x.shape[2:]), patches)
        rows = spread_batch(rows)
        x = self._embed(rows.pixels.astype(dtype))
        if config.num_position_embeddings is not None:
            x = x + self._positions(rows).astype(dtype)
        cos, sin = _rotary(rows, config.hidden_size // config.num_heads)
        full = jnp.array([i in config.full_blocks for i in range(config.depth)])
        blocks = scan_blocks(
            VisionBlock,
            length=config.depth,
            in_axes=(0, *(nn.broadcast,) * 3),
            remat=self.remat,
            unroll=self.unroll,
        )
        blocks = blocks(config, self.attention, bool(config.deepstack), dtype, name="blocks")
        x, states = blocks(x, full, rows.mask, cos, sin)

        def merge(x: Array, name: str, after: bool = False) -> Array:
            merged = Merger(config, after, dtype, name=name)(x)
            return merged.reshape(b, f * p // config.merged, -1)

        features = merge(x, "merger")
        deep = tuple(
            merge(states[block], f"deepstack{i}", after=True)
            for i, block in enumerate(config.deepstack)
        )
        return features, deep

    def _embed(self, pixels: Float[Array, "f p c"]) -> Float[Array, "f p d"]:
        """A convolution whose stride is its kernel, of patches that are cut out already."""
        config = self.config
        side = config.patch_size
        shape = (config.temporal_patch_size, side, side, config.in_channels, config.hidden_size)
        init = nn.initializers.lecun_normal(in_axis=(0, 1, 2, 3))
        axes = (*("kernel",) * 4, "out")
        kernel = self.param("patches", nn.with_logical_partitioning(init, axes), shape)
        kernel = kernel.astype(pixels.dtype).reshape(-1, config.hidden_size)
        x = pixels @ kernel
        if config.patch_bias:
            zeros = nn.with_logical_partitioning(nn.initializers.zeros, ("out",))
            bias = self.param("patches_bias", zeros, (config.hidden_size,))
            x = x + bias.astype(x.dtype)[None, None]
        return x

    def _positions(self, rows: Patches) -> Float[Array, "f p d"]:
        """The learned positions, interpolated to the grid with its corners on the table's."""
        number = self.config.num_position_embeddings
        init = nn.with_logical_partitioning(nn.initializers.normal(0.02), (None, "embed"))
        table = self.param("positions", init, (number, self.config.hidden_size))
        side = math.isqrt(number)
        source = rows.at.astype(jnp.float32) * (side - 1)
        source = source / jnp.maximum(rows.grid - 1, 1)[:, None].astype(jnp.float32)
        low = jnp.floor(source)
        share = source - low
        low = low.astype(jnp.int32)
        total = jnp.zeros((*rows.mask.shape, table.shape[1]), jnp.float32)
        for row in (0, 1):
            for column in (0, 1):
                step = jnp.array([[[row, column]]])
                tap = jnp.minimum(low + step, side - 1)
                weight = jnp.where(step == 1, share, 1 - share).prod(axis=-1)
                found = jnp.take(table, tap[..., 0] * side + tap[..., 1], axis=0)
                total += found * weight[..., None]
        return total

    @nn.nowrap
    def _check(self, patches: Patches) -> None:
        config, (*_, p, c) = self.config, patches.pixels.shape
        wanted = config.temporal_patch_size * config.patch_size**2 * config.in_channels
        unit = config.merged * (config.window or 1) ** 2
        if c != wanted or p % unit:
            raise ValueError(
                f"frames of {p} patches with {c} numbers do not fit the vision tower: it takes a "
                f"multiple of {unit} patches with {wanted}"
            )


class VisionBlock(nn.Module):
    """Attention within a frame or a window of it, and a perceptron, each after a norm.

    Attributes:
        config: sizes and switches.
        attention: implementation of `dot_product_attention`.
        keep: whether the states after the block are an output.
        dtype: type of the computation.
    """

    config: VisionConfig
    attention: str
    keep: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "f p d"],
        full: Bool[Array, ""],
        mask: Bool[Array, "f p"],
        cos: Float[Array, "f p e"],
        sin: Float[Array, "f p e"],
    ) -> tuple[Float[Array, "f p d"], Float[Array, "f p d"] | None]:
        config, dtype = self.config, self.dtype
        width = config.hidden_size
        y = _norm(config, dtype, "norm1")(x)
        qkv = dense(3 * width, axes=("in", "heads"), dtype=dtype, name="qkv")(y)
        q, k, v = (
            part.reshape(*x.shape[:2], config.num_heads, -1) for part in jnp.split(qkv, 3, axis=-1)
        )
        q, k = rotate_halves(q, cos, sin), rotate_halves(k, cos, sin)
        attend = functools.partial(_attend, implementation=self.attention)
        if config.window is None:
            y = attend(q, k, v, mask)
        else:
            patches = config.merged * config.window**2
            windowed = functools.partial(_in_windows, attend, patches)
            y = jax.lax.cond(full, attend, windowed, q, k, v, mask)
        x = x + dense(width, axes=("heads", "out"), dtype=dtype, name="out")(y.reshape(x.shape))
        x = x + self._perceptron(_norm(config, dtype, "norm2")(x))
        x = spread_batch(x)
        return x, x if self.keep else None

    def _perceptron(self, x: Array) -> Array:
        config = self.config
        act = _ACTIVATIONS[config.activation]
        if config.activation == "silu":
            gate = act(dense(config.intermediate_size, dtype=self.dtype, name="gate")(x))
            x = gate * dense(config.intermediate_size, dtype=self.dtype, name="up")(x)
            return dense(config.hidden_size, dtype=self.dtype, name="down")(x)
        x = act(dense(config.intermediate_size, dtype=self.dtype, name="mlp_in")(x))
        return dense(config.hidden_size, dtype=self.dtype, name="mlp_out")(x)


class Merger(nn.Module):
    """Neighbouring patches to one feature of the decoder's width.

    Attributes:
        config: sizes and switches.
        after: norm the patches of a feature together, and not each.
        dtype: type of the computation.
    """

    config: VisionConfig
    after: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "f p d"]) -> Float[Array, "f n e"]:
        config, dtype = self.config, self.dtype
        whole = (x.shape[0], x.shape[1] // config.merged, config.merged * x.shape[2])
        norm = _norm(config, dtype, "norm")
        x = norm(x.reshape(whole)) if self.after else norm(x).reshape(whole)
        x = jax.nn.gelu(dense(whole[-1], dtype=dtype, name="mlp_in")(x), approximate=False)
        return dense(config.out_hidden_size, dtype=dtype, name="mlp_out")(x)


def _norm(config: VisionConfig, dtype: DTypeLike, name: str) -> nn.Module:
    if config.norm == "rms":
        return RMSNorm(_EPSILON, dtype, name=name)
    return layer_norm(_EPSILON, affine=True, dtype=dtype, fast_variance=False, name=name)


def _rotary(rows: Patches, head_dim: int) -> tuple[Array, Array]:
    """Half of the features of a head turn with the row of a patch, the others with its column."""
    waves = jnp.asarray(frequencies(head_dim // 2, _THETA))
    angles = rows.at.astype(jnp.float32)[..., None] * waves[None, None, None]
    angles = angles.reshape(*rows.at.shape[:2], -1)
    return jnp.cos(angles), jnp.sin(angles)


def _attend(q: Array, k: Array, v: Array, mask: Array, implementation: str) -> Array:
    return dot_product_attention(q, k, v, mask, implementation=implementation)


def _in_windows(attend, patches: int, q: Array, k: Array, v: Array, mask: Array) -> Array:
    q2, k2, v2, mask2 = (x.reshape(-1, patches, *x.shape[2:]) for x in (q, k, v, mask))
    return attend(q2, k2, v2, mask2).reshape(q.shape)
