"""From noise to clips: the noise process, guidance and the samplers, on the host in float64."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]  # (x_tau [b, c, t, h, w], tau) -> output


def spaced(first: float, last: float, count: int) -> Tensor:
    """`count` numbers from `first` to `last`, both included."""
    return first + torch.arange(count, dtype=torch.float64) * ((last - first) / max(count - 1, 1))


class DDPM:
    """x_tau = sqrt(abar) x0 + sqrt(1 - abar) eps on a chain of steps (Ho et al. 2020)."""

    def __init__(self, prediction, schedule, steps, spacing, snr_shift, zero_terminal_snr):
        self.prediction, self.steps, self.spacing = prediction, steps, spacing
        if schedule == "linear":
            betas = spaced(1e-4, 0.02, steps)
        elif schedule == "scaled_linear":
            betas = spaced(0.00085**0.5, 0.012**0.5, steps) ** 2
        else:
            angle = (spaced(0.0, 1.0, steps + 1) + 0.008) / 1.008 * math.pi / 2
            abar = angle.cos() ** 2
            betas = (1.0 - abar[1:] / abar[:-1]).clamp(max=0.999)
        abar = torch.cumprod(1.0 - betas, dim=0)
        abar = abar / (snr_shift + (1.0 - snr_shift) * abar)
        if zero_terminal_snr:
            root = abar.sqrt()
            abar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        self.abar = torch.cat([torch.ones(1, dtype=torch.float64), abar])

    def alpha_sigma(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of clip and noise."""
        abar = self.abar[(tau * self.steps).round().long()]
        return abar.sqrt(), (1.0 - abar).sqrt()

    def times(self, steps: int) -> Tensor:
        """The `steps + 1` falling times of a sampler; the last is 0."""
        if not 1 <= steps <= self.steps:
            raise ValueError(f"{steps} sampler steps: a chain of {self.steps} allows 1 to that")
        count = torch.arange(steps, dtype=torch.float64)
        if self.spacing == "trailing":
            n = (self.steps - count * (self.steps / steps)).round()
        elif self.spacing == "linspace":
            n = spaced(0, self.steps - 1, steps).round().flip(0) + 1
        else:
            n = count.flip(0) * (self.steps // steps) + 1
        return torch.cat([n, torch.zeros(1, dtype=torch.float64)]) / self.steps


class RectifiedFlow:
    """x_tau = (1 - tau) x0 + tau eps (Liu et al. 2023)."""

    def __init__(self, prediction, shift, min_time, spacing):
        self.prediction, self.spacing = prediction, spacing
        self.shift, self.min_time = shift, min_time

    def alpha_sigma(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See `DDPM`."""
        return 1.0 - tau, tau

    def times(self, steps: int) -> Tensor:
        """See `DDPM`."""
        if steps < 1:
            raise ValueError(f"{steps} sampler steps: want at least 1")
        if self.spacing == "euler":
            tau = self.shifted(spaced(1.0, self.shifted(self.min_time), steps))
        else:
            tau = self.shifted(spaced(1.0, self.min_time, steps + 1)[:-1])
            tau[0] = torch.tensor(1.0 - 1e-6)  # in float32, as the network is told it
        return torch.cat([tau, torch.zeros(1, dtype=torch.float64)])

    def shifted(self, tau):
        return self.shift * tau / (1.0 + (self.shift - 1.0) * tau)


PROCESSES = {"ddpm": DDPM, "flow": RectifiedFlow}
Process = DDPM | RectifiedFlow


def clean_clip(
    process: Process, denoise: Denoise, x: Tensor, tau: float, told: float | None = None
) -> Tensor:
    """Calls the network once; the clean clip in [-1, 1] that its output implies.

    Its output is x0 itself, eps, v = alpha eps - sigma x0, or velocity = eps - x0.
    """
    output = denoise(x, tau if told is None else told)
    if process.prediction == "x0":
        return output.clamp(-1.0, 1.0)
    alpha, sigma = (weight.item() for weight in process.alpha_sigma(torch.tensor([tau]).double()))
    of_x0, of_eps = {"eps": (0.0, 1.0), "v": (-sigma, alpha), "velocity": (-1.0, 1.0)}[
        process.prediction
    ]
    return ((sigma * output - of_eps * x) / (of_x0 * sigma - of_eps * alpha)).clamp(-1.0, 1.0)


def ddim(process: Process, denoise: Denoise, x: Tensor, steps: int, eta: float, fresh) -> Tensor:
    """DDIM (Song et al. 2021); eta = 1 is ancestral, and eta = 0 on a flow is Euler's method.

    Args:
        process, denoise: the noise process and a network of it with its condition.
        x: the noise to start from.
        steps: calls of the network.
        eta: share of the noise that the steps add.
        fresh: step -> standard noise like x.
    """
    times = process.times(steps)
    alphas, sigmas = process.alpha_sigma(times)
    kept = (alphas[:-1] / alphas[1:]) ** 2
    variance = (sigmas[:-1] ** 2 - kept * sigmas[1:] ** 2) * (sigmas[1:] / sigmas[:-1]) ** 2
    added = eta * variance.clamp(min=0.0).sqrt()
    left = (sigmas[1:] ** 2 - added**2).clamp(min=0.0).sqrt().tolist()
    times, alphas, sigmas, added = (v.tolist() for v in (times, alphas, sigmas, added))
    for i in range(steps):
        x0 = clean_clip(process, denoise, x, times[i])
        eps = (x - alphas[i] * x0) / sigmas[i]
        x = alphas[i + 1] * x0 + left[i] * eps
        if added[i] > 0.0:
            x = x + added[i] * fresh(i)
    return x


def unipc(process: Process, denoise: Denoise, x: Tensor, steps: int) -> Tensor:
    """UniPC-2 with B2(h) on clean clips (Zhao et al. 2023), the last step of first order."""
    times = process.times(steps)
    alpha, sigma = process.alpha_sigma(times)
    h = (alpha.log() - sigma.log()).diff().tolist()
    keep = (sigma[1:] / sigma[:-1]).tolist()
    times, alpha = times.tolist(), alpha.tolist()
    rounded = isinstance(process, RectifiedFlow) and process.spacing == "unipc"
    before = before2 = corrected = torch.zeros_like(x)
    for i in range(steps):
        told = math.floor(1000 * times[i]) / 1000 if rounded else times[i]
        x0 = clean_clip(process, denoise, x, times[i], told)
        if i == 0:
            corrected = x
        else:  # correct the step that led here by what the network says here
            gain = -alpha[i] * math.expm1(-h[i - 1])
            a, b = _corrector(h[i - 1], -h[i - 1] / h[i - 2]) if i > 1 else (0.0, 0.5)
            clips = b * x0 + (1.0 - a - b) * before + a * before2
            corrected = keep[i - 1] * corrected + gain * clips
        gain = -alpha[i + 1] * math.expm1(-h[i])
        slope = -0.5 * h[i] / h[i - 1] if 0 < i < steps - 1 else 0.0
        x = keep[i] * corrected + gain * ((1.0 - slope) * x0 + slope * before)
        before, before2 = x0, before
    return x


def _corrector(h: float, inverse: float) -> tuple[float, float]:
    """Weights of the clip before and after; theorem 3.1, with `inverse` = 1 / r."""
    grown = math.expm1(-h)
    phi = -grown / h - 1.0
    g_1, g_2 = phi / grown, 2.0 * (-phi / h - 0.5) / grown
    rho_1 = (g_1 - g_2) * inverse / (inverse - 1.0)
    return rho_1 * inverse, g_1 - rho_1
