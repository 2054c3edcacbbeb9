"""UniPC, a multistep predictor-corrector for the deterministic equation of any process."""

import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers.chain import Chain, half_log_snr
from vidpref.typing import Array, Float


def unipc(chain: Chain) -> Float[Array, "b t h w c"]:
    """UniPC-2 with B2(h) on predicted clips (Zhao et al. 2023), as Wan ships it.

    Second order, the last step first order, equal to UniPCMultistepScheduler of diffusers with
    `lower_order_final`: for a DDPM with its "trailing" spacing, for a RectifiedFlow with spacing
    "unipc". There the network is told its time rounded down to a multiple of 1/1000, as diffusers
    does it.
    Each network call serves twice: to correct the step that led to it, and to predict the next.
    """
    if chain.eta != 0.0:
        raise ValueError(f"eta={chain.eta}: unipc adds no noise")
    process, tau = chain.process, chain.times
    corrector, predictor = _weights(*process.alpha_sigma(tau))
    told = tau[:-1]
    if isinstance(process, RectifiedFlow) and process.spacing == "unipc":
        told = np.floor(1000 * told) / 1000

    def step(
        state: tuple[Array, Array, Array, Array],
        _: Array,
        tau: Array,
        told: Array,
        c: Array,
        p: Array,
    ) -> tuple[Array, Array, Array, Array]:
        x, corrected, before, before2 = state
        x0, _ = chain.predict(x, tau, told)
        corrected = c[0] * x + c[1] * corrected + c[2] * x0 + c[3] * before + c[4] * before2
        x = p[0] * corrected + p[1] * x0 + p[2] * before
        return x, corrected, x0, before

    nothing = jnp.zeros_like(chain.noise)
    start = chain.noise, nothing, nothing, nothing
    clips, *_ = chain.scan(step, start, tau[:-1], told, corrector, predictor)
    return clips


def _weights(
    alpha: Float[np.ndarray, " entries"], sigma: Float[np.ndarray, " entries"]
) -> tuple[Float[np.ndarray, "steps 5"], Float[np.ndarray, "steps 3"]]:
    """Returns the weights of both halves of each step; history that is not there weighs 0.

    Corrector, after the network call at time i: of the predicted x_i, the corrected x_{i-1}, and
    the clips m_i, m_{i-1}, m_{i-2}. Predictor of x_{i+1}: of the corrected x_i, m_i and m_{i-1}.

    Both are `(sigma' / sigma) x + gain (m + a (m_before - m) + b (m_after - m))` for the step from
    x to x'; the predictor knows no m_after.
    """
    steps = len(alpha) - 1
    h = np.diff(half_log_snr(alpha, sigma))
    corrector, predictor = np.zeros((steps, 5)), np.zeros((steps, 3))
    corrector[0, 0] = 1.0  # the noise is where it should be
    for i in range(steps):
        keep = sigma[i + 1] / sigma[i]
        gain = -alpha[i + 1] * np.expm1(-h[i])
        if 0 < i < steps - 1:
            # 1 / r of the paper. The first step is infinite if it leaves pure noise; then this is
            # 0 and the step of first order.
            inverse = -h[i] / h[i - 1]
            a_predictor = 0.5 * inverse
            a, b = _second_order_corrector(h[i], inverse)
        else:
            a_predictor, a, b = 0.0, 0.0, 0.5
        predictor[i] = keep, gain * (1.0 - a_predictor), gain * a_predictor
        if i + 1 < steps:
            corrector[i + 1] = 0.0, keep, gain * b, gain * (1.0 - a - b), gain * a
    return corrector, predictor


def _second_order_corrector(h: float, inverse: float) -> tuple[float, float]:
    """Returns the weights of the differences to the clip before and to the clip after.

    They solve `rho_1 + rho_2 = g_1` and `r rho_1 + rho_2 = g_2` (Zhao et al. 2023, theorem 3.1).
    """
    grown = np.expm1(-h)
    phi = -grown / h - 1.0
    g_1 = phi / grown
    g_2 = 2.0 * (-phi / h - 0.5) / grown
    rho_1_over_r = (g_1 - g_2) * inverse**2 / (inverse - 1.0)
    rho_1 = (g_1 - g_2) * inverse / (inverse - 1.0)
    return rho_1_over_r, g_1 - rho_1
