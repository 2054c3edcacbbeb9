"""The text encoders T5 v1.1 and UMT5."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vidpref.models.config_json import read_config
from vidpref.models.dense import dense
from vidpref.models.scan import scan_blocks
from vidpref.typing import Array, Bool, Float, Int

_CONFIG_FIELDS = (
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "layer_norm_epsilon",
)
_FIXED = {
    "feed_forward_proj": "gated-gelu",  # T5 v1.0 has "relu"
    "dense_act_fn": "gelu_new",
    "is_gated_act": True,
    "is_decoder": False,
    "quantization_config": None,
}


class T5Encoder(nn.Module):
    """The encoder of T5 v1.1 (Raffel et al. 2020; Shazeer 2020) or of UMT5 (Chung et al. 2023).

    Equal to `T5EncoderModel` and `UMT5EncoderModel` of transformers without dropout. Attention is
    not scaled by the head's width, and has a learned bias for each distance.

    Attributes:
        vocab_size: number of tokens.
        d_model: width of a token.
        d_kv: width of a head.
        d_ff: hidden width of the perceptron.
        num_layers: blocks.
        num_heads: heads of a block.
        bias_in_every_block: each block learns its own bias (UMT5), or all use one (T5).
        relative_attention_num_buckets: biases a head learns; half of them for tokens ahead.
        relative_attention_max_distance: distance from which on all share one bias.
        layer_norm_epsilon: epsilon of the RMS norms.
        remat: see `scan_blocks`.
        unroll: see `scan_blocks`.
        dtype: type of the computation; norms and softmax are in float32.
    """

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    bias_in_every_block: bool
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b l"], mask: Bool[Array, "b l"] | None = None
    ) -> Float[Array, "b l d"]:
        """Returns the states of the last block, normalised.

        Args:
            tokens: padded to `l`.
            mask: False for tokens that no token attends to. Their own states are computed like any
                other; what becomes of them is for the caller to say. None: all are attended to.
        """
        dtype = jnp.dtype(self.dtype)
        normal = nn.with_logical_partitioning(nn.initializers.normal(1.0), ("vocab", "embed"))
        x = nn.Embed(
            self.vocab_size, self.d_model, dtype=dtype, embedding_init=normal, name="embed"
        )(tokens)
        buckets = distance_buckets(
            tokens.shape[1],
            self.relative_attention_num_buckets,
            self.relative_attention_max_distance,
        )
        bias = None
        if not self.bias_in_every_block:
            bias = _distance_bias(self.relative_attention_num_buckets, self.num_heads)(buckets)
        blocks = scan_blocks(
            T5Block,
            length=self.num_layers,
            in_axes=(nn.broadcast, nn.broadcast, nn.broadcast),
            remat=self.remat,
            unroll=self.unroll,
        )
        x, _ = blocks(
            d_kv=self.d_kv,
            d_ff=self.d_ff,
            num_heads=self.num_heads,
            num_buckets=self.relative_attention_num_buckets,
            epsilon=self.layer_norm_epsilon,
            dtype=dtype,
            name="blocks",
        )(x, buckets, bias, mask)
        return _rms_norm(self.layer_norm_epsilon, dtype, "norm")(x)


class T5Block(nn.Module):
    """Self-attention and a gated perceptron, each after an RMS norm and added to its input."""

    d_kv: int
    d_ff: int
    num_heads: int
    num_buckets: int
    epsilon: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        buckets: Int[Array, "l l"],
        bias: Float[Array, "l l n"] | None,
        mask: Bool[Array, "b l"] | None,
    ) -> tuple[Float[Array, "b l d"], None]:
        b, l, width = x.shape
        if bias is None:
            bias = _distance_bias(self.num_buckets, self.num_heads)(buckets)
        y = _rms_norm(self.epsilon, self.dtype, "attention_norm")(x)
        inner = self.num_heads * self.d_kv
        options = {"bias": False, "dtype": self.dtype}
        q, k, v = (
            dense(inner, axes=("in", "heads"), name=name, **options)(y).reshape(b, l, -1, self.d_kv)
            for name in "qkv"
        )
        y = _attend(q, k, v, bias, mask).reshape(b, l, inner)
        x = x + dense(width, axes=("heads", "out"), name="o", **options)(y)
        y = _rms_norm(self.epsilon, self.dtype, "perceptron_norm")(x)
        gate = jax.nn.gelu(dense(self.d_ff, name="gate", **options)(y), approximate=True)
        y = gate * dense(self.d_ff, name="up", **options)(y)
        return x + dense(width, name="down", **options)(y), None


def from_config(config: Mapping[str, Any], **options: Any) -> T5Encoder:
    """Returns the encoder of a `config.json` of transformers, without its decoder if it has one.

    Args:
        config: config of the model type t5 or umt5.
        **options: remat, unroll and dtype.

    Raises:
        ValueError: another type of model, or fields that would compute something else.
    """
    kinds = {"t5": False, "umt5": True}
    kind = config.get("model_type")
    if kind not in kinds:
        raise ValueError(
            f"model_type={kind!r} in the text encoder's config.json: known are t5, umt5"
        )
    defaults = {"feed_forward_proj": "relu"} if kind == "t5" else {}  # transformers' T5Config
    config = {**defaults, **config}
    # the rest is of the decoder, of training and of how files were written
    meant = {name: config[name] for name in (*_CONFIG_FIELDS, *_FIXED) if name in config}
    lacking = [name for name in _CONFIG_FIELDS[:6] if name not in meant]
    if lacking:
        raise ValueError(f"the text encoder's config.json lacks {', '.join(lacking)}")
    return read_config(T5Encoder, meant, fixed=_FIXED, bias_in_every_block=kinds[kind], **options)


def distance_buckets(length: int, buckets: int, max_distance: int) -> Int[np.ndarray, "l l"]:
    """Returns the bucket of each pair (query, key) of positions, by distance and direction.

    Half of the buckets are for keys after the query. Of each half, the first half holds one
    distance a bucket, the rest grows geometrically up to `max_distance` (Raffel et al., section
    2.1). In float32 in the original's order, so that no pair falls on the other side of an edge.
    """
    position = np.arange(length)
    ahead = position[None, :] - position[:, None]
    distance = np.abs(ahead)
    half = buckets // 2
    exact = half // 2
    ratio = np.maximum(distance, 1).astype(np.float32) / np.float32(exact)
    steps = np.log(ratio) / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)
    far = np.minimum(exact + steps.astype(np.int32), half - 1)
    bucket = np.where(distance < exact, distance, far) + half * (ahead > 0)
    return bucket.astype(np.int32)


def _distance_bias(buckets: int, heads: int) -> nn.Embed:
    """A bias a bucket and head, in float32 as it is added to the logits."""
    init = nn.with_logical_partitioning(nn.initializers.normal(1.0), (None, "heads"))
    return nn.Embed(buckets, heads, embedding_init=init, name="distance_bias")


def _rms_norm(epsilon: float, dtype: DTypeLike, name: str) -> nn.RMSNorm:
    ones = nn.with_logical_partitioning(nn.initializers.ones, (None,))
    return nn.RMSNorm(epsilon=epsilon, dtype=dtype, scale_init=ones, name=name)


def _attend(
    q: Float[Array, "b l n d"],
    k: Float[Array, "b m n d"],
    v: Float[Array, "b m n d"],
    bias: Float[Array, "l m n"],
    mask: Bool[Array, "b m"] | None,
) -> Float[Array, "b l n d"]:
    logits = jnp.einsum("blnd,bmnd->bnlm", q, k, preferred_element_type=jnp.float32)
    logits += bias.transpose(2, 0, 1)[None]
    if mask is not None:
        logits = jnp.where(mask[:, None, None, :], logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bnlm,bmnd->blnd", weights, v)
