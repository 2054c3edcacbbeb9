"""Generators by name."""

import dataclasses

import pytest

from vidpref.config import networks
from vidpref.config.fields import build
from vidpref.config.networks import Model
from vidpref.models.dit.network import DiT
from vidpref.models.dit.spatio_temporal import STDiT
from vidpref.models.registry import BACKBONES, backbone, build_generator
from vidpref.models.unet3d.network import UNet3D


@pytest.mark.parametrize(("name", "module"), [("unet3d", UNet3D), ("dit", DiT), ("st_dit", STDiT)])
def test_builds_with_the_fields_of_its_own_section(name, module):
    sizes = {"unet3d": 5, "dit": 6, "st_dit": 7}
    config = build(Model(name=name))
    for model, n in sizes.items():
        config[model].cond_dim = n
    built = build_generator(config, channels=4, text_dim=32)
    assert isinstance(built, module)
    assert (built.channels, built.text_dim) == (4, 32)
    assert built.cond_dim == sizes[name]


@pytest.mark.parametrize("name", [n for n, entry in BACKBONES.items() if entry.pretrained])
def test_defaults_of_a_pipelines_network_are_those_of_its_module(name):
    built = build_generator(build(Model(name=name)), channels=16, text_dim=4096)
    assert built == BACKBONES[name].module()


def test_unknown_model_and_field_name_the_nearest():
    config = build(Model(name="dit"))
    config.dit.widht = 3
    with pytest.raises(ValueError, match=r"model.dit.widht is no field; did you mean width"):
        build_generator(config, channels=3, text_dim=32)
    config.name = "unet"
    with pytest.raises(ValueError, match="did you mean unet3d"):
        build_generator(config, channels=3, text_dim=32)


WAN = networks.Wan(text_dim=8, in_channels=4, out_channels=4)


def test_a_pipelines_network_brings_its_sizes_which_must_fit():
    config = build(Model(name="wan", wan=WAN))
    built = build_generator(config, channels=4, text_dim=8)
    assert (built.out_channels, built.text_dim) == (4, 8)
    with pytest.raises(ValueError, match=r"latents of 4 channels from text of width 8; the auto"):
        build_generator(config, channels=3, text_dim=8)
    with pytest.raises(ValueError, match=r"the autoencoder has 4 and config.text.dim=16"):
        build_generator(config, channels=4, text_dim=16)


@pytest.mark.parametrize(
    ("name", "section", "seen"),
    [
        ("dit", networks.DiT(), "first_frame"),
        ("dit", networks.DiT(first_frame=False), ""),
        ("wan", WAN, ""),
        ("wan", dataclasses.replace(WAN, in_channels=12), "image_latent"),
        ("wan", dataclasses.replace(WAN, out_channels=None), ""),
        (
            "cogvideox",
            networks.CogVideoX(text_embed_dim=8, in_channels=8, out_channels=4),
            "image_latent",
        ),
    ],
)
def test_what_a_network_sees_of_a_first_frame_follows_from_its_fields(name, section, seen):
    config = build(Model(name=name, **{name: section}))
    module = build_generator(config, channels=4, text_dim=8)
    assert backbone(name).sees(module) == seen


def test_no_text_is_a_mask_or_words():
    assert {name: entry.null_prompt("a cat") for name, entry in BACKBONES.items()} == {
        **dict.fromkeys(("unet3d", "dit", "st_dit")),
        **dict.fromkeys(("wan", "cogvideox"), "a cat"),
    }
    with pytest.raises(ValueError, match="'cogvideo' is no generator; did you mean cogvideox"):
        backbone("cogvideo")
