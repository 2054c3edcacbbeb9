"""A time-dependent reward of noisy clips, made of a generator's first layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.models.condition import Condition
from vidpref.models.dense import dense
from vidpref.models.dit.blocks import VideoTransformer
from vidpref.models.norm import layer_norm
from vidpref.typing import Array, Float, PyTree

TRUNK = ("condition", "stem", "blocks")  # the parameters of `VideoTransformer.trunk`


class LatentReward(nn.Module):
    """Scores noisy clips in `dims` dimensions (VideoAlign 4.4).

    A generator is trained on noisy clips already, so its first layers are a good start: their
    parameters have the generator's names here, see `from_generator`. The paper does not say how
    their tokens become a score; here they are averaged, normalised and projected. The projection
    starts at zero and has no bias, which preferences could not determine.

    Attributes:
        backbone: the generator, with as many layers as are wanted: `generator.clone(layers=2)`.
        dims: number of dimensions.
    """

    backbone: VideoTransformer
    dims: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], tau: Float[Array, " b"], condition: Condition
    ) -> Float[Array, "b d"]:
        tokens, *_ = self.backbone.trunk(x, tau, condition)
        pooled = tokens.astype(jnp.float32).mean(axis=1)
        pooled = layer_norm(affine=True, name="norm")(pooled)
        return dense(self.dims, zero=True, bias=False, name="score")(pooled)


def from_generator(generator_params: PyTree, layers: int) -> PyTree:
    """Returns the parameters that a `LatentReward` takes over from a trained generator.

    Args:
        generator_params: parameters of a `VideoTransformer`, boxed or not.
        layers: number of first blocks to take; that of the reward's backbone.

    Returns:
        Part of the reward's parameters: `{**fresh, **from_generator(...)}` is complete.

    Raises:
        ValueError: a generator without these parts, or with fewer blocks.
    """
    missing = [part for part in TRUNK if part not in generator_params]
    if missing:
        raise ValueError(
            f"the generator has no parameters {', '.join(missing)}: a latent reward is made from a "
            f"transformer such as model.name='dit'; this one has {', '.join(generator_params)}"
        )
    depth = jax.tree.leaves(generator_params["blocks"])[0].shape[0]
    if not 1 <= layers <= depth:
        raise ValueError(f"layers={layers}: the generator has {depth} blocks, take 1 to {depth}")
    taken = {part: generator_params[part] for part in TRUNK}
    return {**taken, "blocks": jax.tree.map(lambda leaf: leaf[:layers], taken["blocks"])}
