"""Chains of a rectified flow whose steps are random, with their log-probabilities: what GRPO needs.

Every way to put noise into the steps has the form of DDIM, `of_x0 x0 + of_eps eps + std noise`,
where x0 and eps are what the network's output means. So a step is a Gaussian whose mean depends on
the network and whose deviation does not.
"""

import dataclasses
import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vidpref.config.nearest import nearest
from vidpref.config.online import NOISES
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers.chain import Chain
from vidpref.typing import Array, Float, Int, PyTree


@dataclasses.dataclass(frozen=True)
class StepNoise:
    """Which steps of a chain are random, and how.

    Attributes:
        name: "flow_grpo" and "dance_grpo" are Euler-Maruyama steps of
            `dx = (v + s^2 / (2 tau) eps) dtau + s dw`, whose marginals are the flow's in the limit
            of small steps: `s = level sqrt(tau / (1 - tau))` (Flow-GRPO, Liu et al. 2025;
            its code: 0.7) or `s = level` (DanceGRPO, Xue et al. 2025; its code: 0.25).
            "cps" keeps them at any step size: noise of deviation `tau' sin(level pi / 2)` takes the
            place of as much of eps (Flow-CPS, Wang and Yu 2025).
        level: how much noise; 0 is the flow itself, which has no log-probabilities.
        window: the first random step and the one behind the last; the others follow the flow
            (MixGRPO). The step to the clean clip may not be random: its noise would stay.
        slides: whether the window moves: it may begin at any step from its first one on.

    Raises:
        ValueError: an unknown name, or a level or window that cannot be.
    """

    name: str
    level: float
    window: tuple[int, int]
    slides: bool = False

    @property
    def length(self) -> int:
        """Random steps of a chain."""
        return self.window[1] - self.window[0]

    def starts(self, steps: int) -> range:
        """Returns the steps at which the window may begin, in a chain of so many."""
        last = steps - 1 - self.length if self.slides else self.window[0]
        return range(self.window[0], last + 1)

    def __post_init__(self):
        if self.name not in NOISES:
            raise ValueError(f"name={self.name!r} is unknown; {nearest(self.name, NOISES)}")
        most = 1.0 if self.name == "cps" else math.inf
        if not 0 <= self.level <= most or math.isinf(self.level):
            wanted = "in [0, 1]" if self.name == "cps" else "0 or more"
            raise ValueError(f"level={self.level}: {self.name} takes {wanted}")
        start, stop = self.window
        if not 0 <= start < stop:
            raise ValueError(f"window={self.window}: must be a first step and one behind the last")


@flax.struct.dataclass
class Trajectory:
    """A chain's random steps, and where it led.

    Attributes:
        clips: the clean clips [b, t, h, w, c].
        states: before each random step and behind the last [b, n + 1, t, h, w, c].
        log_probs: of each random step [b, n]; see `gaussian_log_prob`.
    """

    clips: PyTree
    states: PyTree
    log_probs: PyTree


@dataclasses.dataclass(frozen=True)
class StepWeights:
    """Weights of every step of a chain, in float64.

    Attributes:
        tau: time of the step.
        of_x0, of_eps: weights of the clean clip and of the noise that the network's output means.
        std: standard deviation of the noise that is added; 0 outside of the window, wherever that
            may be.
    """

    tau: Float[np.ndarray, " steps"]
    of_x0: Float[np.ndarray, " steps"]
    of_eps: Float[np.ndarray, " steps"]
    std: Float[np.ndarray, " steps"]


def step_weights(chain: Chain, noise: StepNoise) -> StepWeights:
    """Returns the weights of a chain's steps.

    Raises:
        ValueError: a process that is no rectified flow, or a window that takes in the last step.
    """
    if not isinstance(chain.process, RectifiedFlow):
        raise ValueError(
            "random steps with log-probabilities are those of a RectifiedFlow, not of a "
            f"{type(chain.process).__name__}"
        )
    start, stop = noise.window
    if stop >= chain.steps:
        raise ValueError(
            f"window={noise.window}: the last of {chain.steps} steps leads to the clean clip, "
            f"where noise would stay; end it at {chain.steps - 1}"
        )
    times = np.asarray(chain.times, np.float64)
    tau, after = times[:-1], times[1:]
    index = np.arange(chain.steps)
    last = noise.starts(chain.steps)[-1] + noise.length
    level = np.where((start <= index) & (index < last), noise.level, 0.0)
    if noise.name == "cps":
        std = after * np.sin(level * math.pi / 2)
        of_eps = np.sqrt(after**2 - std**2)
    else:
        diffusion = level
        if noise.name == "flow_grpo":
            # at pure noise it would be infinite: there it is told the time of the next step
            bounded = np.where(tau > 1 - 1e-4, times[1], tau)
            diffusion = level * np.sqrt(tau / (1 - bounded))
        std = diffusion * np.sqrt(tau - after)
        of_eps = after - std**2 / (2 * tau)
    return StepWeights(tau, 1 - after, of_eps, std)


def step_gaussian(
    chain: Chain, weights: StepWeights, x: Float[Array, "b t h w c"], index: int | Int[Array, ""]
) -> tuple[Float[Array, "b t h w c"], Float[Array, ""]]:
    """Returns mean and standard deviation of the next state, by one call of the network.

    Args:
        chain: its network, with the guidance that the trajectory was drawn with.
        weights: from `step_weights`.
        x: states before the step.
        index: which step.
    """
    tau, of_x0, of_eps, std = (
        jnp.asarray(w, jnp.float32)[index]
        for w in (weights.tau, weights.of_x0, weights.of_eps, weights.std)
    )
    x0, eps = chain.predict(x, tau)
    return of_x0 * x0 + of_eps * eps, std


def gaussian_log_prob(
    x: Float[Array, "b t h w c"], mean: Float[Array, "b t h w c"], std: Float[Array, ""]
) -> Float[Array, " b"]:
    """Returns the log-density of states, as its mean over their numbers (Flow-GRPO's code).

    The mean, and not the sum, is what a clip of 1e-4 is meant for: the sum over the numbers of a
    clip moves by thousands.
    """
    density = -0.5 * jnp.square((x - mean) / std) - jnp.log(std) - 0.5 * math.log(2 * math.pi)
    return density.mean(axis=(1, 2, 3, 4))


def gaussian_kl(
    mean: Float[Array, "b t h w c"], other: Float[Array, "b t h w c"], std: Float[Array, ""]
) -> Float[Array, " b"]:
    """Returns the KL divergence of two steps of one deviation, as a mean over their numbers."""
    return jnp.square((mean - other) / std).mean(axis=(1, 2, 3, 4)) / 2


def stochastic_sample(
    chain: Chain, noise: StepNoise, start: int | Int[Array, ""] | None = None
) -> Trajectory:
    """Draws one clip from each row of `chain.noise`, and keeps the random steps.

    Args:
        chain: the chain.
        noise: which of its steps are random, and how.
        start: the first of them, one of `noise.starts`; by default that of `noise.window`.

    Raises:
        ValueError: see `step_weights`; a level of 0; or noise to add that the chain does not have.
    """
    if not noise.level:
        raise ValueError("level=0.0: steps without noise have no log-probabilities; use `sample`")
    weights = step_weights(chain, noise)
    still = step_weights(chain, dataclasses.replace(noise, level=0.0))
    start = noise.window[0] if start is None else start

    def flow(index: Array, x: Array) -> Array:
        return step_gaussian(chain, still, x, index)[0]

    def draw(x: Array, index: Array) -> tuple[Array, tuple[Array, Array]]:
        mean, std = step_gaussian(chain, weights, x, index)
        x = mean + std * chain.fresh_noise(index)
        return x, (x, gaussian_log_prob(x, mean, std))

    first = jax.lax.fori_loop(0, start, flow, chain.noise)
    last, (states, log_probs) = jax.lax.scan(draw, first, start + jnp.arange(noise.length))
    clips = jax.lax.fori_loop(start + noise.length, chain.steps, flow, last)
    states = jnp.concatenate([first[:, None], jnp.moveaxis(states, 0, 1)], axis=1)
    return Trajectory(clips, states, jnp.moveaxis(log_probs, 0, 1))
