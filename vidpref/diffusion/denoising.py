"""The one loss of every method: how far a network is from denoising each clip."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.conversions import check_kind, error_factor
from vidpref.diffusion.process import Process
from vidpref.typing import Array, Float, Key

REDUCTIONS = ("mean", "sum")


@flax.struct.dataclass
class Corrupted:
    """k clips of each prompt, corrupted alike.

    Attributes:
        clips: clean.
        x_tau: corrupted.
        eps: the noise that the clips of a prompt share.
        tau: the time that they share.
    """

    clips: Float[Array, "b k t h w c"]
    x_tau: Float[Array, "b k t h w c"]
    eps: Float[Array, "b t h w c"]
    tau: Float[Array, " b"]


def corrupt_clips(
    process: Process, rng: Key[Array, ""], clips: Float[Array, "b k t h w c"]
) -> Corrupted:
    """Corrupts all clips of a prompt with one time and one noise.

    Sharing them takes their variance out of the difference of two clips' errors
    (Diffusion-DPO; VideoAlign appendix C).
    """
    time_rng, noise_rng = jax.random.split(rng)
    b, _, *clip_shape = clips.shape
    tau = process.sample_time(time_rng, b)
    eps = jax.random.normal(noise_rng, (b, *clip_shape))
    x_tau = jax.vmap(process.corrupt, in_axes=(1, None, None), out_axes=1)(clips, eps, tau)
    return Corrupted(clips=clips, x_tau=x_tau, eps=eps, tau=tau)


@flax.struct.dataclass
class Denoised:
    """What a network makes of the corrupted clips of b prompts, and what it should have been.

    Attributes:
        output: of the network, in float32, the clips of a row next to each other.
        target: of the same meaning.
        factor: what a squared difference is multiplied by, in the space of the error.
        sizes: clips of a row in each group.
        reduction: "mean" or "sum" over the elements of a clip.
    """

    output: Float[Array, "n t h w c"]
    target: Float[Array, "n t h w c"]
    factor: Float[Array, " n"]
    sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)
    reduction: str = flax.struct.field(pytree_node=False)

    def errors(self) -> list[Float[Array, "b _"]]:
        """Returns the squared error of each clip, by group."""
        return self._squared(self.target)

    def distances(self, other: "Denoised") -> list[Float[Array, "b _"]]:
        """Returns the squared distance from what another network made of the same groups."""
        return self._squared(other.output)

    def output_distances(self, other: "Denoised") -> list[Float[Array, "b _"]]:
        """Returns the same of the outputs as they are, whatever space errors are measured in."""
        return self.replace(factor=jnp.ones_like(self.factor)).distances(other)

    def _squared(self, wanted: Float[Array, "n t h w c"]) -> list[Float[Array, "b _"]]:
        reduce = jnp.mean if self.reduction == "mean" else jnp.sum
        squares = reduce(jnp.square(self.output - wanted), axis=(1, 2, 3, 4)) * self.factor
        rows = squares.reshape(-1, sum(self.sizes))
        return jnp.split(rows, np.cumsum(self.sizes)[:-1].tolist(), axis=1)


def denoising_errors(
    denoise: Callable[[Array, Array, Any], Array],
    process: Process,
    groups: Sequence[tuple[Corrupted, Any]],
    *,
    error_in: str | None = None,
    reduction: str = "mean",
) -> list[Float[Array, "b _"]]:
    """Returns the squared error between output and target of each clip, in float32, by group.

    See `denoised_clips`.
    """
    made = denoised_clips(denoise, process, groups, error_in=error_in, reduction=reduction)
    return made.errors()


def denoised_clips(
    denoise: Callable[[Array, Array, Any], Array],
    process: Process,
    groups: Sequence[tuple[Corrupted, Any]],
    *,
    error_in: str | None = None,
    reduction: str = "mean",
) -> Denoised:
    """Returns what a network makes of corrupted clips, for errors and distances.

    Args:
        denoise: `(x_tau [n, t, h, w, c], tau [n], condition) -> output`; called once, on the
            n = b (k_1 + k_2 + ...) clips of all groups.
        process: noise process, which gives the output its meaning.
        groups: corrupted clips of b prompts with the condition of these prompts, whose `repeat(k)`
            is that of the clips. b is the same for all groups, and row i of each group stays with
            row i of the others, on one device.
        error_in: prediction in whose space the error is measured, by default the network's own. A
            network that predicts x0 with `error_in="v"` has its error weighted by
            `1 / (1 - abar)`.
        reduction: "mean" or "sum" over the elements of a clip. A DPO beta only means something
            together with it: beta under mean equals beta / elements under sum.

    Raises:
        ValueError: an unknown reduction or prediction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r}: known are {', '.join(REDUCTIONS)}")
    error_in = error_in or process.prediction
    check_kind(error_in, "error_in")
    flat = [_flatten(corrupted, condition) for corrupted, condition in groups]
    sizes = [corrupted.clips.shape[1] for corrupted, _ in groups]
    b = groups[0][0].clips.shape[0]
    clips, eps, x_tau, tau, condition = jax.tree.map(
        lambda *leaves: _side_by_side(leaves, sizes, b), *flat
    )

    return Denoised(
        output=denoise(x_tau, tau, condition).astype(jnp.float32),
        target=process.target(clips, eps, tau),
        factor=error_factor(process.prediction, error_in, *process.alpha_sigma(tau)),
        sizes=tuple(sizes),
        reduction=reduction,
    )


def _flatten(corrupted: Corrupted, condition: Any) -> tuple[Array, Array, Array, Array, Any]:
    """Clips, noise, corrupted clips, times and conditions of b k clips."""
    b, k, *clip_shape = corrupted.clips.shape
    return (
        corrupted.clips.reshape(b * k, *clip_shape),
        jnp.repeat(corrupted.eps, k, axis=0),
        corrupted.x_tau.reshape(b * k, *clip_shape),
        jnp.repeat(corrupted.tau, k),
        condition.repeat(k),
    )


def _side_by_side(leaves: Sequence[Array], sizes: Sequence[int], b: int) -> Array:
    """Joins [b k_i, ...] to [b (k_1 + k_2 + ...), ...], the clips of a row next to each other."""
    if len(leaves) == 1:
        return leaves[0]
    rows = [x.reshape(b, k, *x.shape[1:]) for x, k in zip(leaves, sizes, strict=True)]
    return jnp.concatenate(rows, axis=1).reshape(b * sum(sizes), *leaves[0].shape[1:])
