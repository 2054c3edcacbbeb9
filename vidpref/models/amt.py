"""AMT (Li et al. 2023), small: the frame in the middle of two, which VBench compares with the real.

All-pairs correlations of both frames, looked up in both directions, correct flows from coarse to
fine; three pairs of flows, masks and residues are mixed at last.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from vidpref.models.interpolation import resize
from vidpref.models.raft.convolutions import conv
from vidpref.models.raft.correlation import around, pyramid
from vidpref.models.raft.encoder import Encoder
from vidpref.typing import Array, Float

STRIDE = 16  # sides are multiples of it
_LEVELS, _RADIUS = 4, 3
_CHANNELS = (20, 32, 44, 56)
_SKIP = 20  # channels of a block that have convolutions of their own
_FLOWS = 3
_MIDDLE = 0.5  # of the time between the frames


class Amt(nn.Module):
    """AMT-S; names are those of the public code."""

    @nn.compact
    def __call__(
        self, first: Float[Array, "b h w 3"], second: Float[Array, "b h w 3"]
    ) -> Float[Array, "b h w 3"]:
        """Returns the frame in the middle, within [0, 1].

        Args:
            first, second: in [0, 1]; sides are multiples of `STRIDE`.

        Raises:
            ValueError: images of other sizes.
        """
        b, h, w, _ = first.shape
        if h % STRIDE or w % STRIDE:
            raise ValueError(f"images of {h}x{w}: sides must be multiples of {STRIDE}")
        mean = jnp.stack([first, second]).mean(axis=(0, 2, 3, 4))[:, None, None, None]
        first, second = first - mean, second - mean
        features = Encoder((32, 32, 64, 96, 84), True, "instance", name="feat_encoder")
        both = features(jnp.concatenate([first, second]))
        volumes = pyramid(both[:b], both[b:], _LEVELS), pyramid(both[b:], both[:b], _LEVELS)
        encoder = Pyramid(name="encoder")
        seen = [(x[:b], x[b:]) for x in encoder(jnp.concatenate([first, second]))]
        time = jnp.full((*seen[3][0].shape[:3], 1), _MIDDLE)
        x = Decoder(_CHANNELS[2] + 4, 1, name="decoder4")(
            jnp.concatenate([*seen[3], time], axis=-1)
        )
        flows, state = x[..., :4], x[..., 4:]
        state, flows = _corrected(state, flows, volumes, 1, "update4")
        for level in (3, 2):
            near = _warped_pair(seen[level - 1], flows)
            decoder = Decoder(_CHANNELS[level - 2] + 4, 4, name=f"decoder{level}")
            x = decoder(jnp.concatenate([state, *near, flows], axis=-1))
            flows, state = x[..., :4] + 2.0 * _scaled(flows, 2.0), x[..., 4:]
            state, flows = _corrected(state, flows, volumes, 2 ** (4 - level), f"update{level}")
        near = _warped_pair(seen[0], flows)
        x = Decoder(8 * _FLOWS, 4, name="decoder1")(jnp.concatenate([state, *near, flows], axis=-1))
        return _mixed(x, 2.0 * _scaled(flows, 2.0), first, second, mean)


class Pyramid(nn.Module):
    """Features of a frame at a half to a sixteenth of its size."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ _"]]:
        found = []
        for number, channels in enumerate(_CHANNELS, start=1):
            x = ConvPrelu(channels, 2, name=f"pyramid{number}.0")(x)
            x = ConvPrelu(channels, name=f"pyramid{number}.1")(x)
            found.append(x)
        return found


class ConvPrelu(nn.Module):
    """A 3x3 convolution and a ReLU whose slope below 0 is learnt, one a channel.

    Attributes:
        features: output channels.
        stride: in both directions.
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        x = conv(self.features, (3, 3), stride=self.stride, name="0")(x)
        return Prelu(name="1")(x)


class Prelu(nn.Module):
    """A ReLU whose slope below 0 is learnt, one a channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        start = nn.with_logical_partitioning(nn.initializers.constant(0.25), (None,))
        slope = self.param("slope", start, x.shape[-1:])
        return jnp.where(x >= 0, x, slope[None, None, None] * x)


class Decoder(nn.Module):
    """A convolution, a block beside its input, and twice the size.

    Attributes:
        features: output channels.
        added: channels of the input that are no features, time or flows: inside there are as many
            fewer.
    """

    features: int
    added: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        x = ConvPrelu(x.shape[-1] - self.added, name="convblock.0")(x)
        x = SideBlock(name="convblock.1")(x)
        return Doubled(self.features, name="convblock.2")(x)


class SideBlock(nn.Module):
    """Five convolutions beside the input; between them the last `_SKIP` channels have two more."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        width, y = x.shape[-1], x
        for outer, side in (("conv1", "conv2"), ("conv3", "conv4")):
            y = ConvPrelu(width, name=outer)(y)
            own = ConvPrelu(_SKIP, name=side)(y[..., -_SKIP:])
            y = jnp.concatenate([y[..., :-_SKIP], own], axis=-1)
        return Prelu(name="prelu")(x + conv(width, (3, 3), name="conv5")(y))


class Doubled(nn.Module):
    """A transposed convolution of 4x4 that doubles both sides, as PyTorch has it.

    Attributes:
        features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        axes = ("kernel", "kernel", "out", "in")  # PyTorch has the input first there
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
            (4, 4, self.features, x.shape[-1]),
        )
        zeros = nn.with_logical_partitioning(nn.initializers.zeros, ("out",))
        bias = self.param("bias", zeros, (self.features,))
        x = jax.lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            ((2, 2), (2, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWOI", "NHWC"),
        )
        return x + bias[None, None, None]


class Update(nn.Module):
    """What correlations add to the state and to both flows.

    Attributes:
        scale: how much smaller than the state the correlations are.
    """

    scale: int

    @nn.compact
    def __call__(
        self,
        state: Float[Array, "b h w c"],
        flows: Float[Array, "b h2 w2 4"],
        correlations: Float[Array, "b h2 w2 k"],
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w 4"]]:
        channels, hidden = state.shape[-1], 76
        state = _scaled(state, 1 / self.scale)
        seen = _leaky(conv(64, (1, 1), name="convc1")(correlations))
        moved = _leaky(conv(40, (7, 7), name="convf1")(flows))
        moved = _leaky(conv(20, (3, 3), name="convf2")(moved))
        x = _leaky(conv(68, (3, 3), name="conv")(jnp.concatenate([seen, moved], axis=-1)))
        x = jnp.concatenate([x, flows, state], axis=-1)
        x = _two(x, hidden, hidden, "gru")
        more = _scaled(_two(x, hidden, channels, "feat_head"), self.scale)
        return more, self.scale * _scaled(_two(x, hidden, 4, "flow_head"), self.scale)


def _corrected(
    state: Array, flows: Array, volumes: tuple[list[Array], list[Array]], scale: int, name: str
) -> tuple[Array, Array]:
    """State and flows, corrected by the correlations around where both flows lead."""
    coarse = _scaled(flows, 1 / scale) / scale
    b, h, w, _ = coarse.shape
    y, x = jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij")
    start = jnp.broadcast_to(jnp.stack([x, y], axis=-1).astype(jnp.float32), (b, h, w, 2))
    # from the middle to an end is half of the way from the other end
    ends = start + coarse[..., 2:] / _MIDDLE, start + coarse[..., :2] / (1 - _MIDDLE)
    near = [around(v, end, _RADIUS) for v, end in zip(volumes, ends, strict=True)]
    more, step = Update(scale, name=name)(state, coarse, jnp.concatenate(near, axis=-1))
    return state + more, flows + step


def _mixed(x: Array, flows: Array, first: Array, second: Array, mean: Array) -> Array:
    """The mean of three mixtures of both frames, moved by flows, and a correction of it."""
    b, h, w, _ = first.shape
    n = _FLOWS
    moves0 = (x[..., : 2 * n] + jnp.tile(flows[..., :2], n)).reshape(b, h, w, n, 2)
    moves1 = (x[..., 2 * n : 4 * n] + jnp.tile(flows[..., 2:], n)).reshape(b, h, w, n, 2)
    share = jax.nn.sigmoid(x[..., 4 * n : 5 * n])
    residue = x[..., 5 * n :].reshape(b, h, w, n, 3)
    mixtures = []
    for i in range(n):
        ends = warped(first, moves0[..., i, :]), warped(second, moves1[..., i, :])
        part = share[..., i : i + 1]
        mixtures.append(part * ends[0] + (1 - part) * ends[1] + mean + residue[..., i, :])
    y = conv(6 * n, (3, 3), name="comb_block.0")(jnp.concatenate(mixtures, axis=-1))
    y = conv(3, (3, 3), name="comb_block.2")(Prelu(name="comb_block.1")(y))
    return jnp.clip(jnp.stack(mixtures).mean(axis=0) + y, 0.0, 1.0)


def warped(x: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"]) -> Float[Array, "b h w c"]:
    """Returns what lies where a flow (x, y) in pixels leads; beyond an edge, the edge."""
    h, w = x.shape[1:3]
    rows = jnp.arange(h, dtype=jnp.float32)[None, :, None] + flow[..., 1]
    columns = jnp.arange(w, dtype=jnp.float32)[None, None] + flow[..., 0]

    def one(channel: Array, y: Array, x: Array) -> Array:
        return map_coordinates(channel, [y, x], order=1, mode="nearest")

    of_channels = jax.vmap(one, in_axes=(-1, None, None), out_axes=-1)
    return jax.vmap(of_channels)(x, rows, columns)


def _warped_pair(seen: tuple[Array, Array], flows: Array) -> tuple[Array, Array]:
    return warped(seen[0], flows[..., :2]), warped(seen[1], flows[..., 2:])


def _scaled(x: Float[Array, "b h w c"], scale: float | int) -> Float[Array, "b h2 w2 c"]:
    h, w = x.shape[1:3]
    return resize(x, round(h * scale), round(w * scale), "linear")


def _two(x: Array, hidden: int, features: int, name: str) -> Array:
    """Two 3x3 convolutions and what lies between them."""
    x = _leaky(conv(hidden, (3, 3), name=f"{name}.0")(x))
    return conv(features, (3, 3), name=f"{name}.2")(x)


def _leaky(x: Array) -> Array:
    return jnp.where(x >= 0, x, 0.1 * x)
