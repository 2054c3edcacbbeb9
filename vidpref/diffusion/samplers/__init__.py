"""From noise to clips: one function a sampler, the same signature for all."""

from vidpref.diffusion.process import Process
from vidpref.diffusion.samplers.ddim import cogvideox_ddim, ddim, ddpm, euler
from vidpref.diffusion.samplers.dpm import cogvideox_dpm
from vidpref.diffusion.samplers.steps import Denoise, Fresh, step_noise
from vidpref.diffusion.samplers.unipc import unipc
from vidpref.typing import Array, Float

SAMPLERS = {
    "ddim": ddim,
    "ddpm": ddpm,
    "euler": euler,
    "unipc": unipc,
    "cogvideox_ddim": cogvideox_ddim,
    "cogvideox_dpm": cogvideox_dpm,
}

__all__ = ["SAMPLERS", "adds_noise", "sample", "step_noise"]


def adds_noise(sampler: str, eta: float) -> bool:
    """Whether a sampler adds noise at its steps."""
    return sampler in ("ddpm", "cogvideox_dpm") or eta > 0


def sample(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    sampler: str,
    steps: int,
    eta: float = 0.0,
    rng: Fresh | None = None,
    clip_x0: float | None = None,
) -> Float[Array, "b t h w c"]:
    """Draws one clip from each row of `noise`.

    Args:
        process: the noise process that the network was trained on.
        denoise: `(x_tau [b, t, h, w, c], tau [b]) -> output`, a closure over parameters and
            condition; the output means `process.prediction`.
        noise: standard normal, where the chain starts.
        sampler: name in `SAMPLERS`.
        steps: network calls.
        eta: of "ddim": 0 is deterministic, 1 is as random as "ddpm".
        rng: one key a clip for samplers that add noise; a clip depends on its own key alone, never
            on its neighbours in the batch. Or the noise itself, [b, steps, t, h, w, c].
        clip_x0: clip the predicted clean clip to [-clip_x0, clip_x0] at every step.

    Raises:
        ValueError: an unknown sampler, one that the process or `eta` does not suit, noise to add
            and no `rng`, or a network that predicts eps where the chain starts without signal.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler={sampler!r}: known are {', '.join(SAMPLERS)}")
    first_alpha, _ = process.alpha_sigma(process.sampling_times(steps)[:1])
    # x0 = (x - sigma eps) / alpha: nothing of it would survive float32.
    if process.prediction == "eps" and first_alpha[0] < 1e-5:
        raise ValueError(
            "prediction='eps': sampling starts at pure noise, where eps says nothing about the "
            "clip; train the network to predict v, velocity or x0"
        )
    return SAMPLERS[sampler](
        process, denoise, noise, steps=steps, eta=eta, rng=rng, clip_x0=clip_x0
    )
