"""The interface of a noise process: how a clean clip becomes noise, and what a network predicts."""

from typing import Protocol, runtime_checkable

from vidpref.diffusion import conversions
from vidpref.typing import Array, Float, Key


@runtime_checkable
class Process(Protocol):
    """Corruption `x_tau = alpha(tau) x0 + sigma(tau) eps` with `tau` from 0 (clean) to 1 (noise).

    An implementation gives the first three methods; the others follow from them.

    Attributes:
        prediction: what the network's output means, one of `conversions.KINDS`.
    """

    prediction: str

    def sample_time(self, rng: Key[Array, ""], b: int) -> Float[Array, " b"]:
        """Draws training times."""
        ...

    def alpha_sigma(
        self, tau: Float[Array, "*rows"]
    ) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
        """Returns the weights of clip and noise.

        A NumPy `tau` gives NumPy float64, so that samplers can prepare their steps on the host.
        """
        ...

    def sampling_times(self, steps: int) -> Float[Array, " entries"]:
        """Returns `steps + 1` falling times on the host; the last is 0."""
        ...

    def corrupt(
        self, x0: Float[Array, " b *clip"], eps: Float[Array, " b *clip"], tau: Float[Array, " b"]
    ) -> Float[Array, " b *clip"]:
        """Returns `x_tau`."""
        alpha, sigma = self.alpha_sigma(tau)
        return conversions.scale_rows(alpha, x0) + conversions.scale_rows(sigma, eps)

    def target(
        self,
        x0: Float[Array, " b *clip"],
        eps: Float[Array, " b *clip"],
        tau: Float[Array, " b"],
    ) -> Float[Array, " b *clip"]:
        """Returns the perfect output of a network with the process's prediction."""
        return conversions.target(self.prediction, x0, eps, *self.alpha_sigma(tau))

    def convert(
        self,
        output: Float[Array, " b *clip"],
        x_tau: Float[Array, " b *clip"],
        tau: Float[Array, " b"],
        *,
        to: str,
        source: str | None = None,
    ) -> Float[Array, " b *clip"]:
        """Turns an output of kind `source` (default: the process's own) into one of kind `to`."""
        alpha, sigma = self.alpha_sigma(tau)
        source = source or self.prediction
        return conversions.convert(output, x_tau, alpha, sigma, source=source, to=to)

    def to_x0(
        self,
        output: Float[Array, " b *clip"],
        x_tau: Float[Array, " b *clip"],
        tau: Float[Array, " b"],
    ) -> Float[Array, " b *clip"]:
        """Returns the clean clip that a network's output implies."""
        return self.convert(output, x_tau, tau, to="x0")

    def to_noise(
        self,
        output: Float[Array, " b *clip"],
        x_tau: Float[Array, " b *clip"],
        tau: Float[Array, " b"],
    ) -> Float[Array, " b *clip"]:
        """Returns the noise that a network's output implies."""
        return self.convert(output, x_tau, tau, to="eps")


def check_time_range(time_range: tuple[float, float]) -> None:
    """Raises ValueError unless `time_range` is an interval of [0, 1]."""
    low, high = time_range
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"time_range={time_range}: want 0 <= low < high <= 1 (0 clean, 1 noise)")
