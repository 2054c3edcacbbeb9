"""RAFT: optical flow by repeated updates (Teed and Deng 2020), as torchvision has it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.models.raft.convolutions import ConvNorm, conv
from vidpref.models.raft.correlation import around, hats, pyramid
from vidpref.models.raft.encoder import STRIDE, Encoder
from vidpref.models.raft.update import UpdateBlock
from vidpref.typing import Array, Float

_LEVELS = 4
SMALLEST = 2 * STRIDE * 2 ** (_LEVELS - 1)  # pixels of a side: two on the last level
_GENTLY = 0.25  # the mask's output is taken times it, as by the published code


class Raft(nn.Module):
    """Flow from an image to another, in pixels.

    Attributes:
        encoder: channels of the encoder of both images, see `Encoder`.
        context: of that of the first image; its first `state` channels start the recurrent units.
        state: channels of these.
        norms: of the two encoders.
        bottleneck: whether their blocks are small ones.
        radius: pixels around a place that are correlated with.
        correlation, flow, motion, kernels, head: see `UpdateBlock`.
        mask: hidden channels of what says how flow is enlarged; 0: by interpolation alone.
    """

    encoder: tuple[int, int, int, int, int]
    context: tuple[int, int, int, int, int]
    state: int
    norms: tuple[str, str]
    bottleneck: bool
    radius: int
    correlation: tuple[int, ...]
    flow: tuple[int, int]
    motion: int
    kernels: tuple[tuple[int, int], ...]
    head: int
    mask: int

    @nn.compact
    def __call__(
        self, first: Float[Array, "b h w 3"], second: Float[Array, "b h w 3"], updates: int
    ) -> Float[Array, "b h w 2"]:
        """Returns (x, y) by which the pixels of `first` have moved in `second`.

        Args:
            first, second: in [-1, 1]; sides are multiples of 8, from 128 on.
            updates: how often the flow is improved.

        Raises:
            ValueError: images of other sizes.
        """
        b, h, w, _ = first.shape
        if h % STRIDE or w % STRIDE or min(h, w) < SMALLEST:
            raise ValueError(
                f"images of {h}x{w}: sides must be multiples of {STRIDE}, from {SMALLEST} on"
            )
        encoder = Encoder(self.encoder, self.bottleneck, self.norms[0], name="feature_encoder")
        both = encoder(jnp.concatenate([first, second]))
        volumes = pyramid(both[:b], both[b:], _LEVELS)
        encoder = Encoder(self.context, self.bottleneck, self.norms[1], name="context_encoder")
        seen = encoder(first)
        state, context = jnp.tanh(seen[..., : self.state]), jax.nn.relu(seen[..., self.state :])
        start = _grid(b, h // STRIDE, w // STRIDE)

        def improve(block: UpdateBlock, carry: tuple[Array, Array], _: None):
            state, flow = carry
            flow = jax.lax.stop_gradient(flow)  # as it was trained
            near = around(volumes, start + flow, self.radius)
            state, step = block(state, context, near, flow)
            return (state, flow + step), None

        block = UpdateBlock(
            self.correlation, self.flow, self.motion, self.kernels, self.head, name="update_block"
        )
        repeated = nn.scan(
            improve, variable_broadcast="params", split_rngs={"params": False}, length=updates
        )
        (state, flow), _ = repeated(block, (state, jnp.zeros(start.shape, state.dtype)), None)
        if not self.mask:
            return _interpolated(flow)
        x = ConvNorm(self.mask, 3, name="mask_hidden")(state)
        weights = _GENTLY * conv(9 * STRIDE**2, (1, 1), name="mask")(x)
        return _combined(flow, weights)


def _grid(b: int, h: int, w: int) -> Float[Array, "b h w 2"]:
    y, x = jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij")
    return jnp.broadcast_to(jnp.stack([x, y], axis=-1).astype(jnp.float32), (b, h, w, 2))


def _interpolated(flow: Float[Array, "b h w 2"]) -> Float[Array, "b h8 w8 2"]:
    """Between the outermost pixels, which stay where they are."""
    rows, columns = (
        hats(jnp.linspace(0.0, size - 1.0, STRIDE * size), size) for size in flow.shape[1:3]
    )
    return STRIDE * jnp.einsum("bhwc,yh,xw->byxc", flow, rows, columns)


def _combined(
    flow: Float[Array, "b h w 2"], weights: Float[Array, "b h w k"]
) -> Float[Array, "b h8 w8 2"]:
    """Every fine pixel as a mixture of the nine coarse ones around it (3.3 and appendix B)."""
    b, h, w, _ = flow.shape
    shares = jax.nn.softmax(weights.reshape(b, h, w, 9, STRIDE, STRIDE), axis=3)
    padded = jnp.pad(STRIDE * flow, ((0, 0), (1, 1), (1, 1), (0, 0)))
    near = [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    fine = jnp.einsum("bhwkyx,bhwkc->bhywxc", shares, jnp.stack(near, axis=3))
    return fine.reshape(b, h * STRIDE, w * STRIDE, 2)
