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


SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas}


def cumulative_alphas(schedule: str, steps: int) -> Float[np.ndarray, " entries"]:
    """Returns abar `[steps + 1]`: `abar[n]` after n noising steps, `abar[0] = 1` (clean)."""
    return np.concatenate([[1.0], np.cumprod(1.0 - SCHEDULES[schedule](steps))])


@functools.cache
def alpha_sigma_tables(
    schedule: str, steps: int
) -> tuple[Float[np.ndarray, " entries"], Float[np.ndarray, " entries"]]:
    """Returns `sqrt(abar)` and `sqrt(1 - abar)`, both `[steps + 1]`.

    In float32 `1 - abar` would keep three digits of the first steps; here it keeps all.
    """
    abar = cumulative_alphas(schedule, steps)
    tables = np.sqrt(abar), np.sqrt(1.0 - abar)
    for table in tables:
        table.setflags(write=False)  # shared by every caller through the cache
    return tables
