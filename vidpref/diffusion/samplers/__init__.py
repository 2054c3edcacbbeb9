"""From noise to clips: one function `(Chain) -> clips` a sampler."""

from vidpref.diffusion.samplers.chain import Chain, Denoise, drawn_noise
from vidpref.diffusion.samplers.ddim import cogvideox_ddim, ddim, ddpm, euler, still_step
from vidpref.diffusion.samplers.dpm import cogvideox_dpm
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

__all__ = ["SAMPLERS", "Chain", "Denoise", "adds_noise", "drawn_noise", "sample", "still_step"]


def adds_noise(sampler: str, eta: float) -> bool:
    """Whether a sampler adds noise at its steps."""
    return sampler in ("ddpm", "cogvideox_dpm") or eta > 0


def sample(sampler: str, chain: Chain) -> Float[Array, "b t h w c"]:
    """Draws one clip from each row of `chain.noise`.

    Raises:
        ValueError: an unknown sampler, one that the process or `eta` does not suit, noise to add
            that the chain does not have, or a network that predicts eps where the chain starts
            without signal.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler={sampler!r}: known are {', '.join(SAMPLERS)}")
    first_alpha, _ = chain.process.alpha_sigma(chain.times[:1])
    # x0 = (x - sigma eps) / alpha: nothing of it would survive float32.
    if chain.process.prediction == "eps" and first_alpha[0] < 1e-5:
        raise ValueError(
            "prediction='eps': sampling starts at pure noise, where eps says nothing about the "
            "clip; train the network to predict v, velocity or x0"
        )
    return SAMPLERS[sampler](chain)
