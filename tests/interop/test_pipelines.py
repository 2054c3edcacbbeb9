"""Pipeline folders of diffusers: what is read from them, and what is refused."""

import json

import diffusers
import numpy as np
import pytest
import safetensors.numpy

from tests.tiny_pipelines import tiny_cogvideox, tiny_wan
from vidpref.config.by_name import named_config
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.interop.pipelines import AUTOENCODER, FAMILIES, TRANSFORMER, PipelineFolder


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def wan(tmp_path):
    tiny_wan(tmp_path)
    return tmp_path


def test_families_and_sizes(tmp_path):
    tiny_wan(tmp_path / "wan")
    tiny_cogvideox(tmp_path / "cog", image_to_video=True)
    wan, cogvideox = PipelineFolder(tmp_path / "wan"), PipelineFolder(str(tmp_path / "cog"))
    assert (wan.family.name, wan.pipeline) == ("wan", "WanPipeline")
    assert cogvideox.family.name == "cogvideox"
    assert wan.transformer(attention="chunked").attention == "chunked"
    assert (wan.transformer().num_layers, wan.autoencoder().z_dim, wan.text_encoder()) == (
        2,
        4,
        ("umt5", 24),
    )
    assert (cogvideox.transformer().in_channels, cogvideox.autoencoder().latent_channels) == (8, 4)
    assert wan.scheduler() == (RectifiedFlow(shift=3.0, spacing="unipc"), "unipc")
    assert cogvideox.scheduler()[1] == "cogvideox_ddim"


PIPELINES = [(family, name) for family in FAMILIES.values() for name in family.pipelines]


@pytest.mark.parametrize(("family", "pipeline"), PIPELINES, ids=[name for _, name in PIPELINES])
def test_every_pipeline_has_a_config_of_its_network(family, pipeline):
    config = named_config(family.pipelines[pipeline])
    assert config.model.name == family.name
    assert hasattr(diffusers, pipeline)
    text = {**family.text, **family.text_fields(family.transformer())}
    assert {name: config.text[name] for name in text} == text


def test_what_is_no_pipeline_is_refused(wan, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for path in (empty, empty / "nowhere", wan / "model_index.json"):
        with pytest.raises(ValueError, match=r"has no model_index.json: give the folder of a"):
            PipelineFolder(path)
    (empty / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index.json, line 1: not JSON"):
        PipelineFolder(empty)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"_class_name": "LTXPipeline"}, "cannot run a 'LTXPipeline'; known are WanPipeline, Wan"),
        ({"boundary_ratio": 0.875}, "is of Wan2.2, which has other networks"),
        ({"expand_timesteps": True}, "is of Wan2.2, which has other networks"),
        ({"transformer_2": ["diffusers", "WanTransformer3DModel"]}, "is of Wan2.2"),
        ({"transformer": ["diffusers", "WanVACETransformer3DModel"]}, "a 'WanVACE.*WanTransfor"),
        ({"vae": ["diffusers", "AutoencoderKL"]}, "vae is a 'AutoencoderKL'; .* AutoencoderKLWan"),
        ({"vace": ["diffusers", "WanVACE"]}, "the WanPipeline has vace=.*which vidpref does not"),
    ],
)
def test_another_pipeline_is_refused(wan, fields, message):
    change(wan / "model_index.json", **fields)
    with pytest.raises(ValueError, match=message):
        PipelineFolder(wan)


def test_first_and_last_frame_to_video_is_refused(tmp_path):
    tiny_wan(tmp_path, image_to_video=True, pos_embed_seq_len=10)
    with pytest.raises(ValueError, match="is a model of first and last frame to video"):
        PipelineFolder(tmp_path)


def test_an_image_encoder_that_is_missing_is_named(tmp_path):
    tiny_wan(tmp_path, image_to_video=True)
    assert PipelineFolder(tmp_path).attends_to_image
    (tmp_path / "image_encoder").rename(tmp_path / "encoder")
    with pytest.raises(ValueError, match="has no folder image_encoder: is the download complete"):
        PipelineFolder(tmp_path)


def test_what_is_missing_or_broken_is_named(wan):
    (wan / "scheduler" / "scheduler_config.json").rename(wan / "kept.json")
    with pytest.raises(ValueError, match=r"scheduler_config.json: no such file"):
        PipelineFolder(wan).scheduler()
    (wan / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "DDIMScheduler"}')
    with pytest.raises(ValueError, match=r"scheduler_config.json: the scheduler 'DDIMScheduler'"):
        PipelineFolder(wan).scheduler()
    change(wan / "vae" / "config.json", is_residual=True)
    with pytest.raises(ValueError, match=r"/vae: .*is_residual"):
        PipelineFolder(wan).autoencoder()
    (wan / "vae").rename(wan / "vea")
    with pytest.raises(ValueError, match="has no folder vae: is the download complete"):
        PipelineFolder(wan)
    (wan / "text_encoder").rename(wan / "text")
    with pytest.raises(ValueError, match="has no folders vae, text_encoder: is the download"):
        PipelineFolder(wan)
    (wan / "transformer" / "config.json").write_text('{"num_layers": 2,\n "num_layers": 3}')
    with pytest.raises(ValueError, match=r"transformer/config.json, line 2: the key 'num_layers'"):
        PipelineFolder(wan)


@pytest.mark.parametrize(
    "fields",
    [
        {"transformer_2": [None, None], "boundary_ratio": None, "expand_timesteps": False},
        {"image_encoder": [None, None], "image_processor": [None, None]},  # diffusers 0.35
        {"a_new_field": None},
    ],
)
def test_parts_that_are_not_there_are_passed_over(wan, fields):
    change(wan / "model_index.json", **fields)
    assert PipelineFolder(wan).pipeline == "WanPipeline"


def test_weights_are_checked_together_without_being_read(wan):
    PipelineFolder(wan).check_weights()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 17\n"
    (wan / "transformer" / "diffusion_pytorch_model.safetensors").write_text(pointer)
    (wan / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"transformer/\S+: a pointer of git-lfs.*; .*/vae has no"):
        PipelineFolder(wan).check_weights()


def test_the_fingerprint_is_of_one_components_config_and_weights(wan):
    folder = PipelineFolder(wan)
    first = {name: folder.fingerprint(name) for name in (TRANSFORMER, AUTOENCODER)}
    assert first == {name: PipelineFolder(wan).fingerprint(name) for name in first}

    file = wan / TRANSFORMER / "diffusion_pytorch_model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    name = max(tensors)  # the last of the file
    tensors[name] = np.nextafter(tensors[name], np.float32(9))
    size = file.stat().st_size
    safetensors.numpy.save_file(tensors, file, {"format": "pt"})
    assert file.stat().st_size == size
    assert folder.fingerprint(TRANSFORMER) != first[TRANSFORMER]
    assert folder.fingerprint(AUTOENCODER) == first[AUTOENCODER]
    change(wan / AUTOENCODER / "config.json", latents_mean=[0.0] * 4)
    assert folder.fingerprint(AUTOENCODER) != first[AUTOENCODER]
