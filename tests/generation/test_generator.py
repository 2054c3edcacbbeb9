"""How a generator's sampler is set, and which settings are refused."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import pytest

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.generation.generator import Generator, SamplerSettings


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        (SamplerSettings("ddim", 4), False),
        (SamplerSettings("ddim", 4, eta=0.5), True),
        (SamplerSettings("ddpm", 4), True),
        (SamplerSettings("cogvideox_dpm", 4), True),
        (SamplerSettings("unipc", 4), False),
    ],
)
def test_which_samplers_add_noise(settings, added):
    assert settings.adds_noise == added


def test_the_scale_of_guidance_is_a_number_or_follows_the_time():
    assert SamplerSettings("euler", 4, guidance_scale=3.0).scale == 3.0
    # at 1 nothing is guided, dynamic or not
    assert SamplerSettings("euler", 4, dynamic_guidance=True).scale == 1.0
    dynamic = SamplerSettings("euler", 1000, guidance_scale=3.0, dynamic_guidance=True).scale
    # 1 + 3 (1 - cos(pi ((N - n) / N)^5)) / 2 at the chain's steps n = 0 and N - 1
    values = dynamic(jnp.array([1 / 1000, 1.0]))
    assert values[0] == pytest.approx(4.0, abs=1e-4)
    assert values[1] == pytest.approx(1.0, abs=1e-4)


class Silent(nn.Module):
    """Is never called."""

    @nn.compact
    def __call__(self, x, tau, condition):
        raise NotImplementedError


FLOW = Generator(
    module=Silent(),
    process=RectifiedFlow(),
    clip_shape=(2, 4, 4, 3),
    text_shape=(4, 8),
    sampler=SamplerSettings("euler", steps=2),
)


@pytest.mark.parametrize(
    ("process", "sampler", "message"),
    [
        (DDPM(), SamplerSettings("euler", 2), "not of a DDPM: use 'ddim' or 'unipc'"),
        (RectifiedFlow(), SamplerSettings("cogvideox_dpm", 2), "through a DDPM, not a RectifiedFl"),
        (RectifiedFlow(), SamplerSettings("eulr", 2), "sampler='eulr': known are ddim"),
        (RectifiedFlow(), SamplerSettings("ddim", 2, eta=2.0), "eta=2.0: ddim takes 0"),
        (RectifiedFlow("eps"), SamplerSettings("ddim", 2), "prediction='eps'"),
        (RectifiedFlow(), SamplerSettings("euler", 0), "0 sampler steps"),
    ],
)
def test_a_sampler_that_cannot_draw_is_refused(process, sampler, message):
    FLOW.check_sampler()
    generator = dataclasses.replace(FLOW, process=process, sampler=sampler)
    with pytest.raises(ValueError, match=f"config.sampler: .*{message}"):
        generator.check_sampler()


@pytest.mark.parametrize("name", ["ddim", "ddpm", "unipc", "euler"])
def test_a_sampler_that_can_is_not(name):
    dataclasses.replace(FLOW, sampler=SamplerSettings(name, 3)).check_sampler()
