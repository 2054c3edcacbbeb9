"""Discrete denoising diffusion: `x_tau = sqrt(abar) x0 + sqrt(1 - abar) eps`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.conversions import check_kind
from vidpref.diffusion.process import Process
from vidpref.diffusion.schedules import SCHEDULES, alpha_sigma_tables
from vidpref.typing import Array, Float, Key

SPACINGS = ("trailing", "leading")


@dataclasses.dataclass(frozen=True)
class DDPM(Process):
    """The process of Ho et al. 2020, which AIF trains (there alpha, beta are cumulative products).

    Times are `n / steps`, n = 0 (clean) ... steps; diffusers' 0-based timestep is n - 1. A time off
    this grid is rounded to it.

    Attributes:
        schedule: "cosine" or "linear", as in `schedules`.
        steps: length of the chain.
        prediction: what the network outputs.
        spacing: which steps a short sampler visits: "trailing" counts back from pure noise;
            "leading" counts up from the first step, so that it starts below tau = 1 (Lin et al.
            2023, table 2).

    Raises:
        ValueError: an unknown schedule, prediction or spacing, or fewer than one step.
    """

    schedule: str = "cosine"
    steps: int = 1000
    prediction: str = "eps"
    spacing: str = "trailing"

    def __post_init__(self):
        check_kind(self.prediction, "prediction")
        for name, known in (("schedule", SCHEDULES), ("spacing", SPACINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: known are {', '.join(known)}")
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: a diffusion chain has at least one step")

    def sample_time(self, rng: Key[Array, ""], b: int) -> Float[Array, " b"]:
        """Draws times uniformly from 1/steps, 2/steps, ..., 1."""
        return jax.random.randint(rng, (b,), 1, self.steps + 1) / self.steps

    def alpha_sigma(
        self, tau: Float[Array, "*rows"]
    ) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
        """Returns `sqrt(abar)`, `sqrt(1 - abar)`; NumPy float64 for a NumPy `tau`."""
        alphas, sigmas = alpha_sigma_tables(self.schedule, self.steps)
        if isinstance(tau, np.ndarray):
            n = np.rint(tau * self.steps).astype(int)
            return alphas[n], sigmas[n]
        n = jnp.rint(tau * self.steps).astype(int)
        return jnp.asarray(alphas, jnp.float32)[n], jnp.asarray(sigmas, jnp.float32)[n]

    def sampling_times(self, steps: int) -> Float[Array, " entries"]:
        """Returns `steps + 1` falling times, `spacing` apart; the last is 0.

        Raises:
            ValueError: more steps than the chain has.
        """
        if not 1 <= steps <= self.steps:
            raise ValueError(f"{steps} sampler steps: a chain of {self.steps} allows 1 to that")
        if self.spacing == "trailing":
            n = np.rint(self.steps - np.arange(steps) * (self.steps / steps))
        else:
            n = np.arange(steps)[::-1] * (self.steps // steps) + 1
        return np.append(n, 0) / self.steps
