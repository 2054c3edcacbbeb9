"""Pipeline folders of diffusers: what is read from them, and what is refused."""

import json

import diffusers
import numpy as np
import pytest
import safetensors.numpy

from tests.tiny_pipelines import tiny_cogvideox, tiny_wan
from vidpref.config.by_name import named_config
from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.interop.pipelines import (
    AUTOENCODER,
    FAMILIES,
    TRANSFORMER,
    PipelineFolder,
    read_scheduler,
)


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
    with pytest.raises(ValueError, match=r"model_index.json is not JSON"):
        PipelineFolder(empty)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"_class_name": "LTXPipeline"}, "cannot run a 'LTXPipeline'; known are WanPipeline, Wan"),
        ({"boundary_ratio": 0.875}, "is of Wan2.2, which has other networks"),
        ({"expand_timesteps": True}, "is of Wan2.2, which has other networks"),
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
    with pytest.raises(ValueError, match=r"scheduler_config.json cannot be read: .*No such file"):
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


def config_of(scheduler):
    return json.loads(scheduler.to_json_string())


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
V = {"prediction_type": "v_prediction"}


@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_schedulers_give_diffusers_times(shift, steps):
    theirs = {
        "unipc": diffusers.UniPCMultistepScheduler(flow_shift=shift, **FLOW),
        "euler": diffusers.FlowMatchEulerDiscreteScheduler(shift=shift),
    }
    for name, scheduler in theirs.items():
        process, sampler = read_scheduler(config_of(scheduler))
        assert sampler == name
        assert process.prediction == "velocity"
        scheduler.set_timesteps(steps)
        np.testing.assert_allclose(
            process.sampling_times(steps), scheduler.sigmas, rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize(
    "fields",
    [
        {},  # the defaults of diffusers, which files may leave out
        {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
        {"timestep_spacing": "linspace", "snr_shift_scale": 1.0, "rescale_betas_zero_snr": True},
    ],
)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (diffusers.CogVideoXDDIMScheduler, "cogvideox_ddim"),
        (diffusers.CogVideoXDPMScheduler, "cogvideox_dpm"),
    ],
)
def test_cogvideox_schedulers_give_diffusers_times_and_noise(kind, name, fields):
    scheduler = kind(**V, **fields)
    process, sampler = read_scheduler({"_class_name": kind.__name__, **V, **fields})
    assert read_scheduler(config_of(scheduler)) == (process, sampler)
    assert sampler == name
    assert isinstance(process, DDPM)
    assert process.prediction == "v"
    scheduler.set_timesteps(7)
    times = process.sampling_times(7)
    np.testing.assert_allclose(1000 * times[:-1] - 1, scheduler.timesteps, atol=1e-9)
    # theirs is computed in float32
    alpha, _ = process.alpha_sigma(np.arange(1, 1001) / 1000)
    np.testing.assert_allclose(alpha**2, scheduler.alphas_cumprod, atol=2e-6)


UNIPC, EULER = "UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"
REFUSED = [
    (UNIPC, FLOW | {"prediction_type": "epsilon"}, "prediction_type='epsilon'"),
    (UNIPC, {"prediction_type": "flow_prediction"}, "use_flow_sigmas=False"),
    (UNIPC, FLOW | {"solver_order": 3}, "solver_order=3"),
    (UNIPC, FLOW | {"use_karras_sigmas": True}, "use_karras_sigmas=True"),
    (UNIPC, FLOW | {"shift_terminal": 0.02}, "shift_terminal=0.02"),
    (UNIPC, FLOW | {"disable_corrector": [0]}, r"disable_corrector=\[0\]"),
    (EULER, {"use_dynamic_shifting": True}, "use_dynamic_shifting=True"),
    (EULER, {"use_beta_sigmas": True}, "use_beta_sigmas=True"),
    (EULER, {"num_train_timesteps": 500}, "num_train_timesteps=500"),
    ("CogVideoXDDIMScheduler", {}, "prediction_type='epsilon'"),
    ("CogVideoXDDIMScheduler", V | {"beta_end": 0.02}, "beta_end=0.02"),
    ("CogVideoXDPMScheduler", V | {"set_alpha_to_one": False}, "set_alpha_to_one=False"),
]


@pytest.mark.parametrize(("name", "fields", "named"), REFUSED)
def test_another_computation_is_refused_by_its_field(name, fields, named):
    with pytest.raises(ValueError, match=f"{name} with {named}: only .* is implemented"):
        read_scheduler({"_class_name": name, **fields})


def test_another_scheduler_is_refused():
    with pytest.raises(ValueError, match="the scheduler 'DDIMScheduler': known are UniPCMulti"):
        read_scheduler({"_class_name": "DDIMScheduler"})
