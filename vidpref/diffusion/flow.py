"""Rectified flow: `x_tau = (1 - tau) x0 + tau eps`, whose velocity is `eps - x0`."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.conversions import check_kind
from vidpref.diffusion.process import Process, check_time_range
from vidpref.typing import Array, Float, Key

TIMES = ("uniform", "logit_normal")
SPACINGS = ("euler", "unipc")


@dataclasses.dataclass(frozen=True)
class RectifiedFlow(Process):
    """Straight lines from clip to noise (Liu et al. 2023; Lipman et al. 2023).

    Attributes:
        prediction: what the network outputs. With "eps" it can be trained, but not sampled from
            tau = 1, where eps says nothing about the clip.
        time: distribution of training times before the shift: "uniform" or "logit_normal" (Esser
            et al. 2024, section 3.1).
        logit_mean: mean of the normal variable whose sigmoid is the time.
        logit_std: its standard deviation.
        shift: s of `s tau / (1 + (s - 1) tau)` (Esser et al. 2024, eq. 23), for training times and
            sampling times alike; above 1 more time is spent near noise. Wan ships 3 to 5.
        min_time: training times are not smaller, and sampling grids are laid from 1 to it. An x0
            error measured in velocity is weighted by `1 / tau^2`, so by `1 / min_time^2` at most.
        time_range: training times are drawn from this interval only; it bounds the shifted times.
        spacing: the grid of sampling times before the shift. "euler": `steps` times from 1 to the
            shifted `min_time`, as diffusers' FlowMatchEulerDiscreteScheduler, which applies its
            shift twice there. "unipc": the first `steps` of `steps + 1` times from 1 to `min_time`,
            the first of them 1e-6 below 1, as its UniPCMultistepScheduler with `use_flow_sigmas`.
            Both then step to 0, and any sampler can use either.

    Raises:
        ValueError: an unknown prediction, time or spacing; a `shift`, `logit_std` or `min_time` out
            of bounds; a `time_range` into which next to no time would fall.
    """

    prediction: str = "velocity"
    time: str = "uniform"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float = 1.0
    min_time: float = 1e-3
    time_range: tuple[float, float] = (0.0, 1.0)
    spacing: str = "euler"

    def __post_init__(self):
        check_kind(self.prediction, "prediction")
        for name, known in (("time", TIMES), ("spacing", SPACINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: known are {', '.join(known)}")
        for name in ("shift", "logit_std"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be positive")
        if not 0 < self.min_time < 1:
            raise ValueError(f"min_time={self.min_time}: must lie between 0 and 1")
        check_time_range(self.time_range)
        low, high = self._bounds()
        if low >= high:
            raise ValueError(
                f"time_range={self.time_range} ends below min_time={self.min_time}: lower min_time"
            )
        if self.time == "logit_normal":
            # float32 cannot draw from a far tail: its times would all fall on the interval's end.
            share = math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))
            if share < 2e-3:
                raise ValueError(
                    f"time_range={self.time_range}: less than 0.1 % of the logit-normal times fall "
                    "into it; widen it or move logit_mean"
                )

    def sample_time(self, rng: Key[Array, ""], b: int) -> Float[Array, " b"]:
        """Draws times from the shifted distribution, given that they fall into `time_range`."""
        low, high = self._bounds()
        if self.time == "uniform":
            tau = _shifted(jax.random.uniform(rng, (b,), minval=low, maxval=high), self.shift)
        else:
            normal = jax.random.truncated_normal(rng, low, high, (b,))
            mean = self.logit_mean + math.log(self.shift)  # the shift adds log s to the logit
            tau = jax.nn.sigmoid(mean + self.logit_std * normal)
        return jnp.clip(tau, max(self.time_range[0], self.min_time), self.time_range[1])

    def alpha_sigma(
        self, tau: Float[Array, "*rows"]
    ) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
        """Returns `1 - tau`, `tau`."""
        return 1.0 - tau, tau

    def sampling_times(self, steps: int) -> Float[Array, " entries"]:
        """Returns `steps + 1` falling times, `spacing` and `shift` apart; the last is 0.

        Raises:
            ValueError: no step.
        """
        if steps < 1:
            raise ValueError(f"{steps} sampler steps: want at least 1")
        if self.spacing == "euler":
            tau = _shifted(np.linspace(1.0, _shifted(self.min_time, self.shift), steps), self.shift)
        else:
            tau = _shifted(np.linspace(1.0, self.min_time, steps + 1)[:-1], self.shift)
            # Rounded to float32, as the network sees it: that moves 1 - tau by 1 %.
            tau[0] = np.float32(1.0 - 1e-6)
        return np.append(tau, 0.0)

    def _bounds(self) -> tuple[float, float]:
        """The training interval in the variable that is drawn: uniform or standard normal."""
        low, high = max(self.time_range[0], self.min_time), self.time_range[1]
        low, high = _shifted(low, 1 / self.shift), _shifted(high, 1 / self.shift)
        if self.time == "uniform":
            return low, high
        return tuple((_logit(tau) - self.logit_mean) / self.logit_std for tau in (low, high))


def _shifted(tau, shift: float):
    return shift * tau / (1.0 + (shift - 1.0) * tau)


def _logit(tau: float) -> float:
    return math.log(tau / (1.0 - tau)) if tau < 1.0 else math.inf
