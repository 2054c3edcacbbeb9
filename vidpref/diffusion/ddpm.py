"""Discrete denoising diffusion: `x_tau = sqrt(abar) x0 + sqrt(1 - abar) eps`."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.conversions import check_kind
from vidpref.diffusion.process import Process, check_time_range
from vidpref.diffusion.schedules import SCHEDULES, alpha_sigma_tables
from vidpref.typing import Array, Float, Key

SPACINGS = ("trailing", "leading", "linspace")


@dataclasses.dataclass(frozen=True)
class DDPM(Process):
    """The process of Ho et al. 2020, which AIF trains (there alpha, beta are cumulative products).

    Times are `n / steps`, n = 0 (clean) ... steps; diffusers' 0-based timestep is n - 1. A time off
    this grid is rounded to it.

    CogVideoX is `DDPM("scaled_linear", prediction="v", snr_shift=3.0, zero_terminal_snr=True)`
    (2B; the 5B model has snr_shift 1).

    Attributes:
        schedule: "cosine", "linear" or "scaled_linear", as in `schedules`.
        steps: length of the chain.
        prediction: what the network outputs.
        spacing: which steps a short sampler visits: "trailing" counts back from pure noise;
            "leading" counts up from the first step, so that it starts below tau = 1; "linspace"
            divides the way from the last step to the first (Lin et al. 2023, table 2).
        snr_shift: divides the schedule's signal-to-noise ratio (CogVideoX's `snr_shift_scale`).
        zero_terminal_snr: rescale the schedule so that nothing of the clip is left at tau = 1. A
            network that predicts eps can then be trained, but not sampled from tau = 1.
        time_range: training times are drawn from this interval only, ends included.

    Raises:
        ValueError: an unknown schedule, prediction or spacing; fewer than one step, or than two to
            rescale; an `snr_shift` that is not positive; a `time_range` without a step.
    """

    schedule: str = "cosine"
    steps: int = 1000
    prediction: str = "eps"
    spacing: str = "trailing"
    snr_shift: float = 1.0
    zero_terminal_snr: bool = False
    time_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        check_kind(self.prediction, "prediction")
        for name, known in (("schedule", SCHEDULES), ("spacing", SPACINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: known are {', '.join(known)}")
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: a diffusion chain has at least one step")
        if self.zero_terminal_snr and self.steps == 1:
            raise ValueError("steps=1: zero_terminal_snr needs a first step besides the last")
        if not self.snr_shift > 0:
            raise ValueError(f"snr_shift={self.snr_shift}: a ratio is divided by a positive number")
        check_time_range(self.time_range)
        first, last = self._training_steps()
        if first > last:
            raise ValueError(f"time_range={self.time_range}: no multiple of 1/{self.steps} in it")

    def sample_time(self, rng: Key[Array, ""], b: int) -> Float[Array, " b"]:
        """Draws times uniformly from those of 1/steps, 2/steps, ..., 1 within `time_range`."""
        first, last = self._training_steps()
        return jax.random.randint(rng, (b,), first, last + 1) / self.steps

    def alpha_sigma(
        self, tau: Float[Array, "*rows"]
    ) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
        """Returns `sqrt(abar)`, `sqrt(1 - abar)`; NumPy float64 for a NumPy `tau`."""
        alphas, sigmas = alpha_sigma_tables(
            self.schedule, self.steps, self.snr_shift, self.zero_terminal_snr
        )
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
        elif self.spacing == "linspace":
            n = np.rint(np.linspace(0, self.steps - 1, steps))[::-1] + 1
        else:
            n = np.arange(steps)[::-1] * (self.steps // steps) + 1
        return np.append(n, 0) / self.steps

    def _training_steps(self) -> tuple[int, int]:
        """First and last n of `time_range`; an end within 1e-6 of a step is that step."""
        low, high = self.time_range
        first = max(1, math.ceil(low * self.steps - 1e-6))
        return first, math.floor(high * self.steps + 1e-6)
