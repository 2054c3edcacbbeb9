"""3D-UNet with factorised space and time, the generator of AIF (appendix A)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.condition import Condition
from vidpref.models.convolution import SpatialConv, channels_to_space, space_to_channels
from vidpref.models.dense import dense
from vidpref.models.embeddings import ConditionEmbedding
from vidpref.models.inputs import check_inputs, network_inputs
from vidpref.models.norm import GroupNorm
from vidpref.models.scan import scan_blocks
from vidpref.models.spread import spread_batch
from vidpref.models.unet3d.blocks import UNetBlock
from vidpref.typing import Array, Float


class UNet3D(nn.Module):
    """A text-, first-frame- and low-resolution-conditioned 3D-UNet.

    Convolutions act on frames, attention on space, time and text apart. Every level above the
    deepest has a down scan, whose outputs are the skip connections, and an up scan that takes
    them in reverse; the deepest level, where down, middle and up share one resolution, is one
    scan without skips. Down- and up-sampling give the next level's channels, so that all blocks
    of a scan are alike and the compiler sees each once.

    Attributes:
        channels: colour channels of a clip, in and out.
        text_dim: width of the text embedding.
        patch: (t, h, w) positions moved into channels before the first layer.
        features: channels of every level, finest first.
        blocks: blocks of every scan, one number a level.
        spatial, temporal, cross: whether a level's blocks have that attention.
        head_dim: width of an attention head.
        cond_dim: width of the time and text conditioning.
        groups: groups of the group norms.
        first_frame: concatenate the first frame, repeated over time.
        low_res: concatenate the enlarged low-resolution clip (super-resolution).
        residual: what the output is added to: "" nothing, "first_frame" or "low_res"; for
            networks that predict x0.
        conv: "xla" or "matmul", see `SpatialConv`.
        attention: implementation of `dot_product_attention`.
        remat: "none", "full", or a name in `jax.checkpoint_policies`.
        unroll: write the scans out; compiles slower, may run faster.
        dtype: type of the computation; parameters are float32.
    """

    channels: int
    text_dim: int
    patch: tuple[int, int, int] = (1, 1, 1)
    features: tuple[int, ...] = (512, 1024, 2048)
    blocks: tuple[int, ...] = (3, 3, 9)
    spatial: tuple[bool, ...] = (True, True, True)
    temporal: tuple[bool, ...] = (True, True, True)
    cross: tuple[bool, ...] = (True, True, True)
    head_dim: int = 64
    cond_dim: int = 1024
    groups: int = 32
    first_frame: bool = True
    low_res: bool = False
    residual: str = ""
    conv: str = "xla"
    attention: str = "xla"
    remat: str = "full"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], tau: Float[Array, " b"], condition: Condition
    ) -> Float[Array, "b t h w c"]:
        self._check(x, condition)
        x, tau, condition = spread_batch((x, tau, condition))
        dtype = jnp.dtype(self.dtype)
        inputs, base = network_inputs(
            x, condition, patch=self.patch, residual=self.residual, dtype=dtype
        )
        embedding, tokens = ConditionEmbedding(self.cond_dim, dtype, name="condition")(
            tau, condition
        )
        conditioning = (embedding, tokens, condition.text_mask)

        h = SpatialConv(self.features[0], self.conv, dtype=dtype, name="stem")(inputs)
        last = len(self.features) - 1
        skips = []
        for i in range(last):
            h, stacked = self._level(f"down{i}", i, emit=True)(h, None, *conditioning)
            skips.append(stacked)
            h = space_to_channels(h, (1, 2, 2))
            h = dense(self.features[i + 1], dtype=dtype, name=f"downsample{i}")(h)
        h, _ = self._level("middle", last)(h, None, *conditioning)
        for i in reversed(range(last)):
            h = dense(4 * self.features[i], dtype=dtype, name=f"upsample{i}")(h)
            h = channels_to_space(h, (1, 2, 2))
            h, _ = self._level(f"up{i}", i, skips=True)(h, skips[i][::-1], *conditioning)
        h = jax.nn.silu(GroupNorm(self.groups, dtype=dtype, name="norm")(h))
        outputs = self.channels * math.prod(self.patch)
        out = SpatialConv(outputs, self.conv, zero=True, dtype=dtype, name="head")(h)
        out = channels_to_space(out, self.patch).astype(jnp.float32)
        return out if base is None else base + out

    def _level(self, name: str, level: int, *, emit: bool = False, skips: bool = False):
        blocks = scan_blocks(
            UNetBlock,
            length=self.blocks[level],
            in_axes=(0 if skips else nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),
            remat=self.remat,
            unroll=self.unroll,
        )
        return blocks(
            features=self.features[level],
            spatial=self.spatial[level],
            temporal=self.temporal[level],
            cross=self.cross[level],
            head_dim=self.head_dim,
            groups=self.groups,
            conv=self.conv,
            attention=self.attention,
            emit=emit,
            dtype=jnp.dtype(self.dtype),
            name=name,
        )

    def _check(self, x: Array, condition: Condition) -> None:
        levels = len(self.features)
        for field in ("blocks", "spatial", "temporal", "cross"):
            if len(getattr(self, field)) != levels:
                raise ValueError(
                    f"{field}={getattr(self, field)} needs one value for each of the {levels} "
                    f"levels of features={self.features}"
                )
        halvings = 2 ** (levels - 1)
        check_inputs(
            x,
            condition,
            multiple=(self.patch[0], self.patch[1] * halvings, self.patch[2] * halvings),
            text_dim=self.text_dim,
            first_frame=self.first_frame,
            low_res=self.low_res,
            residual=self.residual,
        )
