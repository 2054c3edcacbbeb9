"""One update of RAFT's flow from the correlations around it (Teed and Deng 2020, 3.3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.models.raft.convolutions import ConvNorm, conv
from vidpref.typing import Array, Float


class MotionEncoder(nn.Module):
    """Correlations and flow as features; the last two of them are the flow itself.

    Attributes:
        correlation: channels of the convolutions of the correlations, one or two.
        flow: of the two of the flow.
        features: output channels.
    """

    correlation: tuple[int, ...]
    flow: tuple[int, int]
    features: int

    @nn.compact
    def __call__(
        self, flow: Float[Array, "b h w 2"], correlations: Float[Array, "b h w k"]
    ) -> Float[Array, "b h w f"]:
        x = ConvNorm(self.correlation[0], 1, name="convcorr1")(correlations)
        for features in self.correlation[1:]:
            x = ConvNorm(features, 3, name="convcorr2")(x)
        y = ConvNorm(self.flow[0], 7, name="convflow1")(flow)
        y = ConvNorm(self.flow[1], 3, name="convflow2")(y)
        both = ConvNorm(self.features - 2, 3, name="conv")(jnp.concatenate([x, y], axis=-1))
        return jnp.concatenate([both, flow], axis=-1)


class ConvGRU(nn.Module):
    """A gated recurrent unit of convolutions.

    Attributes:
        kernel: (h, w) of all three.
    """

    kernel: tuple[int, int]

    @nn.compact
    def __call__(
        self, h: Float[Array, "b h w f"], x: Float[Array, "b h w c"]
    ) -> Float[Array, "b h w f"]:
        features, both = h.shape[-1], jnp.concatenate([h, x], axis=-1)
        z = jax.nn.sigmoid(conv(features, self.kernel, name="convz")(both))
        r = jax.nn.sigmoid(conv(features, self.kernel, name="convr")(both))
        reset = jnp.concatenate([r * h, x], axis=-1)
        q = jnp.tanh(conv(features, self.kernel, name="convq")(reset))
        return (1 - z) * h + z * q


class UpdateBlock(nn.Module):
    """The state of the recurrent units and what it adds to the flow.

    Attributes:
        correlation, flow, motion: see `MotionEncoder`; `motion` its output channels.
        kernels: of the recurrent units, which follow each other.
        head: hidden channels of what is added.
    """

    correlation: tuple[int, ...]
    flow: tuple[int, int]
    motion: int
    kernels: tuple[tuple[int, int], ...]
    head: int

    @nn.compact
    def __call__(
        self,
        state: Float[Array, "b h w f"],
        context: Float[Array, "b h w c"],
        correlations: Float[Array, "b h w k"],
        flow: Float[Array, "b h w 2"],
    ) -> tuple[Float[Array, "b h w f"], Float[Array, "b h w 2"]]:
        encoder = MotionEncoder(self.correlation, self.flow, self.motion, name="motion_encoder")
        x = jnp.concatenate([context, encoder(flow, correlations)], axis=-1)
        for i, kernel in enumerate(self.kernels, start=1):
            state = ConvGRU(kernel, name=f"convgru{i}")(state, x)
        hidden = jax.nn.relu(conv(self.head, (3, 3), name="head1")(state))
        return state, conv(2, (3, 3), name="head2")(hidden)
