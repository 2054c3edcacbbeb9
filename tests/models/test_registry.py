"""Generators by name."""

import pytest
from ml_collections import ConfigDict

from vidpref.models.dit.network import DiT
from vidpref.models.dit.spatio_temporal import STDiT
from vidpref.models.registry import build_generator
from vidpref.models.unet3d.network import UNet3D


@pytest.mark.parametrize(("name", "module"), [("unet3d", UNet3D), ("dit", DiT), ("st_dit", STDiT)])
def test_builds_with_the_fields_of_its_own_section(name, module):
    sizes = {"unet3d": 5, "dit": 6, "st_dit": 7}
    config = ConfigDict({"name": name, **{model: {"cond_dim": n} for model, n in sizes.items()}})
    built = build_generator(config, channels=4, text_dim=32)
    assert isinstance(built, module)
    assert (built.channels, built.text_dim) == (4, 32)
    assert built.cond_dim == sizes[name]


def test_section_may_be_absent():
    built = build_generator(ConfigDict({"name": "dit"}), channels=3, text_dim=32)
    assert built.width == DiT(3, 32).width


def test_unknown_model_and_field_name_the_nearest():
    with pytest.raises(ValueError, match="did you mean unet3d"):
        build_generator(ConfigDict({"name": "unet"}), channels=3, text_dim=32)
    config = ConfigDict({"name": "dit", "dit": {"widht": 3}})
    with pytest.raises(ValueError, match=r"model.dit.widht is no field; did you mean width"):
        build_generator(config, channels=3, text_dim=32)
