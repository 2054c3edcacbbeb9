"""What the diffusion transformers share: everything but the block that they repeat."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.condition import Condition
from vidpref.models.convolution import channels_to_space
from vidpref.models.dense import dense
from vidpref.models.embeddings import ConditionEmbedding, sinusoidal
from vidpref.models.inputs import check_inputs, network_inputs
from vidpref.models.norm import layer_norm
from vidpref.models.scan import scan_blocks
from vidpref.models.spread import spread_batch, token_division
from vidpref.typing import Array, Float


class VideoTransformer(nn.Module):
    """A text-, first-frame- and low-resolution-conditioned transformer over tubelets.

    A subclass says with `block` which block is scanned; it has a field `division`, and its call is
    `(x [b, l, d], embedding [b, e], text [b, m, e], text_mask [b, m]) -> (x, None)`.

    Attributes:
        channels: colour (or latent) channels of a clip, in and out.
        text_dim: width of the text embedding.
        patch: (t, h, w) of one tubelet, which is one token.
        width: features of a token.
        layers: number of blocks.
        head_dim: width of an attention head.
        mlp_ratio: hidden width of the perceptron over `width`.
        cond_dim: width of the time and text conditioning.
        first_frame, low_res, residual, attention, remat, unroll, dtype: see `UNet3D`.
    """

    channels: int
    text_dim: int
    patch: tuple[int, int, int] = (4, 4, 4)
    width: int = 128
    layers: int = 4
    head_dim: int = 32
    mlp_ratio: int = 4
    cond_dim: int = 128
    first_frame: bool = True
    low_res: bool = False
    residual: str = ""
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    @nn.nowrap
    def block(self, frames: int) -> tuple[type[nn.Module], dict]:
        """Returns the block and its fields.

        Args:
            frames: steps in time of the token grid; tokens run over (t, h, w), w fastest.
        """
        raise NotImplementedError

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], tau: Float[Array, " b"], condition: Condition
    ) -> Float[Array, "b t h w c"]:
        h, embedding, base = self.trunk(x, tau, condition)
        modulation = dense(2 * self.width, zero=True, dtype=h.dtype, name="modulation")(
            jax.nn.silu(embedding)
        )
        shift, scale = jnp.split(modulation[:, None], 2, axis=-1)
        h = layer_norm(dtype=h.dtype)(h) * (1 + scale) + shift
        outputs = self.channels * math.prod(self.patch)
        out = dense(outputs, zero=True, dtype=h.dtype, name="head")(h)
        grid = [size // p for size, p in zip(x.shape[1:4], self.patch, strict=True)]
        out = out.reshape(x.shape[0], *grid, outputs)
        out = channels_to_space(out, self.patch).astype(jnp.float32)
        return out if base is None else base + out

    @nn.nowrap
    def trunk(
        self, x: Float[Array, "b t h w c"], tau: Float[Array, " b"], condition: Condition
    ) -> tuple[Float[Array, "b l d"], Float[Array, "b e"], Float[Array, "b t1 h w c"] | None]:
        """Everything up to the last block; its layers belong to the module that calls it.

        Returns:
            The tokens after the last block, the conditioning vector, and what the output is added
            to; see `network_inputs`.
        """
        check_inputs(
            x,
            condition,
            multiple=self.patch,
            text_dim=self.text_dim,
            first_frame=self.first_frame,
            low_res=self.low_res,
            residual=self.residual,
        )
        x, tau, condition = spread_batch((x, tau, condition))
        dtype = jnp.dtype(self.dtype)
        inputs, base = network_inputs(
            x, condition, patch=self.patch, residual=self.residual, dtype=dtype
        )
        embedding, tokens = ConditionEmbedding(self.cond_dim, dtype, name="condition")(
            tau, condition
        )
        b, *grid, _ = inputs.shape
        l = math.prod(grid)
        division = token_division(b, l, self.width // self.head_dim)
        inputs = division.split(inputs.reshape(b, l, -1))
        h = dense(self.width, dtype=dtype, name="stem")(inputs)
        h = h + division.fill(_grid_positions(tuple(grid), self.width)).astype(dtype)[None]
        block, fields = self.block(grid[0])
        blocks = scan_blocks(
            block,
            length=self.layers,
            in_axes=(nn.broadcast, nn.broadcast, nn.broadcast),
            remat=self.remat,
            unroll=self.unroll,
        )
        blocks = blocks(**fields, division=division, name="blocks")
        h, _ = blocks(h, embedding, tokens, condition.text_mask)
        return h[:, :l], embedding, base


def perceptron(x: Array, ratio: int, dtype: DTypeLike) -> Array:
    """The calling block's two layers `mlp_in` and `mlp_out`; `ratio` widens the hidden one."""
    width = x.shape[-1]
    x = dense(ratio * width, dtype=dtype, name="mlp_in")(x)
    return dense(width, dtype=dtype, name="mlp_out")(jax.nn.gelu(x))


def _grid_positions(grid: tuple[int, int, int], width: int) -> Float[Array, "l d"]:
    """Sinusoidal positions of the three axes side by side: t and h a third each, w the rest."""
    third = width // 3 // 2 * 2
    dims = (third, third, width - 2 * third)
    index = jnp.indices(grid, dtype=jnp.float32).reshape(3, -1)
    return jnp.concatenate([sinusoidal(index[i], dims[i]) for i in range(3)], axis=-1)
