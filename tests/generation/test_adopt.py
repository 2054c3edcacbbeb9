"""A config that starts from a pipeline folder, and what is read back of it after a run."""

import functools
import json
import shutil

import pytest

from vidpref.config.by_name import ConfigError, config_yaml, read_config
from vidpref.generation.adopt import load_config
from vidpref.generation.autoencoder import build_autoencoder
from vidpref.generation.generator import build_base
from vidpref.runs.methods import open_recipe
from vidpref.stages import preferences

SMALL = ("data.frames=9", "data.height=32", "data.width=48")


def load(spec, folder, *overrides):
    return load_config(spec, [f"model.init={folder}", *overrides])


def test_wan_is_what_its_folder_says(wan_folder):
    config, published = (
        load("flow_dpo:wan2_1_1_3b", wan_folder),
        load_config("flow_dpo:wan2_1_1_3b"),
    )
    assert config.is_locked
    sizes = config.model.wan
    assert (sizes.num_layers, sizes.ffn_dim, sizes.text_dim) == (2, 40, 24)
    assert sizes.attention == published.model.wan.attention
    assert config.model.autoencoder.base_dim == 8
    assert config.text.to_dict() == {
        **{"name": "umt5", "length": 512, "dim": 24, "path": str(wan_folder)},
        **{"padding": "hidden", "clean": True, "dtype": "bfloat16", "truncate": False},
    }
    assert config.sampler.name == "unipc"
    # every other field stays
    for section in ("align", "data", "sampler", "mesh", "evaluate", "diffusion"):
        assert config[section].to_dict().items() >= published[section].to_dict().items()


def test_the_autoencoder_of_diffusers_0_30_is_read(cogvideox_folder, tmp_path):
    """The published 2B has two fields that no later release reads."""
    shutil.copytree(cogvideox_folder, tmp_path / "cogvideox")
    path = tmp_path / "cogvideox" / "vae" / "config.json"
    old = {"sample_size": 256, "mid_block_add_attention": True, "a_new_field": None}
    path.write_text(json.dumps(json.loads(path.read_text()) | old))
    config = load("ipo_kto:cogvideox_2b", tmp_path / "cogvideox", *SMALL)
    whole = load("ipo_kto:cogvideox_2b", cogvideox_folder, *SMALL)
    assert build_autoencoder(config.model) == build_autoencoder(whole.model)
    assert build_base(config).clip_shape == (3, 4, 6, 4)


def test_cogvideox_is_what_its_folder_says(image_to_video_folder):
    config = load("realdpo:cogvideox_5b_i2v", image_to_video_folder, *SMALL)
    assert (config.text.name, config.text.length, config.text.padding) == ("t5", 16, "seen")
    assert config.diffusion.ddpm.snr_shift == 3.0  # published: 1
    generator = build_base(config)
    assert (generator.clip_shape, generator.image) == ((3, 4, 6, 4), "image_latent")
    assert (generator.process.prediction, generator.process.zero_terminal_snr) == ("v", True)


def test_wan_image_to_video_is_what_its_folder_says(wan_image_to_video_folder, wan_folder):
    config = load("flow_dpo:wan2_1_i2v_14b", wan_image_to_video_folder, *SMALL)
    assert config.model.image_encoder.num_hidden_layers == 3
    generator = build_base(config)
    assert (generator.clip_shape, generator.image) == ((3, 4, 6, 4), "image_latent")
    condition = generator.example()[2]
    assert condition.image_latent.shape == (1, 3, 4, 6, 8)
    assert condition.image_states.shape == (1, 5, 16)
    # the same scale from a text-to-video folder has no image
    generator = build_base(load("flow_dpo:wan2_1_i2v_14b", wan_folder, *SMALL))
    assert (generator.image, generator.image_states_shape) == ("", None)


def test_the_scheduler_of_the_folder_counts(wan_folder, tmp_path):
    shutil.copytree(wan_folder, tmp_path / "wan")
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 5.0}
    (tmp_path / "wan" / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    config = load("flow_dpo:wan2_1_1_3b", tmp_path / "wan")
    assert (config.diffusion.flow.shift, config.diffusion.flow.spacing) == (5.0, "euler")
    assert config.diffusion.flow.time == "logit_normal"  # of training times
    assert config.sampler.name == "euler"


def test_the_text_encoder_of_the_folder_counts(wan_folder, tmp_path):
    """Wan's pipeline takes T5 too, as diffusers' own tests do."""
    shutil.copytree(wan_folder, tmp_path / "wan")
    path = tmp_path / "wan" / "text_encoder" / "config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"model_type": "t5"}))
    config = load("flow_dpo:wan2_1_1_3b", tmp_path / "wan")
    assert (config.text.name, config.text.padding) == ("t5", "hidden")
    del fields["d_model"]
    path.write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match=r"text_encoder/config.json has no 'd_model'"):
        load("flow_dpo:wan2_1_1_3b", tmp_path / "wan")


def test_the_command_line_has_the_last_word(wan_folder):
    overrides = {
        "text.length": 16,
        "diffusion.flow.shift": 7.0,
        "sampler.name": "euler",
        "model.wan.num_layers": 1,
        "model.autoencoder.base_dim": 16,  # a field that only the folder has
    }
    given = [f"{name}={value}" for name, value in overrides.items()]
    config = load("flow_dpo:wan2_1_1_3b", wan_folder, *given)
    for name, value in overrides.items():
        assert functools.reduce(getattr, name.split("."), config) == value


def test_a_folder_that_cannot_be_is_refused(cogvideox_folder, wan_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"a CogVideoXPipeline is a cogvideox generator, the co"):
        load("flow_dpo:wan2_1_1_3b", cogvideox_folder)
    shutil.copytree(wan_folder, tmp_path / "wan")
    path = tmp_path / "wan" / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"is_residual": True}))
    with pytest.raises(ConfigError, match=r"/vae: .*is_residual=True"):
        load("flow_dpo:wan2_1_1_3b", tmp_path / "wan")
    with pytest.raises(ConfigError, match=r"has no model_index.json"):
        load("flow_dpo:wan2_1_1_3b", tmp_path)
    with pytest.raises(ConfigError, match=r"config.model.init would change nothing"):
        load("flow_dpo:mini", tmp_path)


def fingerprints(config, workdir, monkeypatch):
    """Of every stage of a config, none of which is run."""
    monkeypatch.setattr(preferences, "files_digest", lambda *_: "of the files")
    return {stage.name: stage.fingerprint for stage in open_recipe(config, workdir).stages(1)}


@pytest.mark.parametrize(
    ("spec", "folder"),
    [("flow_dpo:wan2_1_1_3b", "wan_folder"), ("ipo_kto:cogvideox_2b", "cogvideox_folder")],
)
def test_the_written_config_means_the_same_stages(spec, folder, request, tmp_path, monkeypatch):
    path = request.getfixturevalue(folder)
    given = ["data.buckets=((32,48),(48,32))", "mesh.fsdp=1", "mesh.context=1"]
    config = load(spec, path, *SMALL, *given)
    (tmp_path / "config.yaml").write_text(config_yaml(config))
    again = read_config(tmp_path)
    assert again.data.buckets == ((32, 48), (48, 32))
    assert again.align.lora.targets == config.align.lora.targets
    before = fingerprints(config, tmp_path, monkeypatch)
    assert len(before) == 7
    assert fingerprints(again, tmp_path, monkeypatch) == before
    other = load(spec, path, *SMALL, *given, "data.fps=7", "data.max_bad_fraction=0.5")
    after = fingerprints(other, tmp_path, monkeypatch)
    assert [stage for stage in before if before[stage] == after[stage]] == ["import"]
    other = load(spec, path, *SMALL, *given, "data.max_bad_fraction=0.5", "align.beta=7")
    after = fingerprints(other, tmp_path, monkeypatch)
    name = config.align.policy or config.align.method
    changed = [stage for stage in before if before[stage] != after[stage]]
    assert changed == [f"align-{name}-round1", f"sample-evaluation-{name}"]


def test_without_a_finished_run_there_is_no_config(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no config.yaml: run launch/tpu_run.py to its"):
        read_config(tmp_path)
