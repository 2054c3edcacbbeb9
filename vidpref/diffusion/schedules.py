"""Noise schedules of discrete diffusion, as tables on the host in float64."""

import functools

import numpy as np

from vidpref.typing import Float


def linear_betas(steps: int) -> Float[np.ndarray, " steps"]:
    """Variances from 1e-4 to 0.02 (Ho et al. 2020, section 4); diffusers calls it "linear"."""
    return np.linspace(1e-4, 0.02, steps)


def cosine_betas(steps: int) -> Float[np.ndarray, " steps"]:
    """Variances of a squared-cosine abar (Nichol and Dhariwal 2021, eq. 17), capped at 0.999.

    diffusers calls it "squaredcos_cap_v2".
    """
    angle = (np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2
    abar = np.cos(angle) ** 2
    return np.minimum(1.0 - abar[1:] / abar[:-1], 0.999)


def scaled_linear_betas(steps: int) -> Float[np.ndarray, " steps"]:
    """Squares of values from `sqrt(0.00085)` to `sqrt(0.012)`, as CogVideoX has them.

    diffusers calls it "scaled_linear".
    """
    return np.linspace(0.00085**0.5, 0.012**0.5, steps) ** 2


SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas, "scaled_linear": scaled_linear_betas}


def cumulative_alphas(
    schedule: str, steps: int, snr_shift: float = 1.0, zero_terminal_snr: bool = False
) -> Float[np.ndarray, " entries"]:
    """Returns abar `[steps + 1]`: `abar[n]` after n noising steps, `abar[0] = 1` (clean).

    Args:
        schedule: name in `SCHEDULES`.
        steps: length of the chain.
        snr_shift: divides the signal-to-noise ratio `abar / (1 - abar)` at every step.
        zero_terminal_snr: then shift and scale `sqrt(abar)` so that its first value stays and its
            last is 0 (Lin et al. 2023, algorithm 1).
    """
    abar = np.cumprod(1.0 - SCHEDULES[schedule](steps))
    abar = abar / (snr_shift + (1.0 - snr_shift) * abar)
    if zero_terminal_snr:
        root = np.sqrt(abar)
        abar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return np.concatenate([[1.0], abar])


@functools.cache
def alpha_sigma_tables(
    schedule: str, steps: int, snr_shift: float = 1.0, zero_terminal_snr: bool = False
) -> tuple[Float[np.ndarray, " entries"], Float[np.ndarray, " entries"]]:
    """Returns `sqrt(abar)` and `sqrt(1 - abar)`, both `[steps + 1]`.

    In float32 `1 - abar` would keep three digits of the first steps; here it keeps all.
    """
    abar = cumulative_alphas(schedule, steps, snr_shift, zero_terminal_snr)
    tables = np.sqrt(abar), np.sqrt(1.0 - abar)
    for table in tables:
        table.setflags(write=False)  # shared by every caller through the cache
    return tables
