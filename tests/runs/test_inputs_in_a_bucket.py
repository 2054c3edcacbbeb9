"""Every field that names a file or folder: in gs:// it gives the stages that it gives on a disk."""

import concurrent.futures
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from tests.data_folders import PROMPTS, something_something, videos_with_captions
from tests.end_to_end.tiny import TINY_WAN, few_preferences
from tests.language.reward_rows import TEXT, write_tiny_model
from vidpref.config.by_name import config_yaml, named_config
from vidpref.config.fields import lookup
from vidpref.config.metrics import METRIC_PLACES
from vidpref.config.schema import FIELDS
from vidpref.datasets.clip_lists import list_clips
from vidpref.datasets.preferences import read_preferences
from vidpref.generation.adopt import load_config
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.rewards.by_name import judge_config
from vidpref.rewards.registry import judge_version
from vidpref.runs.checks import check
from vidpref.runs.graph import in_order
from vidpref.runs.judge_recipe import JudgeRecipe
from vidpref.runs.methods import open_recipe
from vidpref.runs.own_inputs import read_prompts
from vidpref.runs.rounds import run_to
from vidpref.stages.data import check_data
from vidpref.storage import copies
from vidpref.storage.bucket import Bucket, StorageError

OF_A_SERVER = {"reward.remote_judge.base_url", "reward.remote_judge.api_key_env"}


@pytest.fixture(scope="module")
def files(tmp_path_factory, wan_folder):
    """A folder with all that a config can name."""
    root = tmp_path_factory.mktemp("files")
    shutil.copytree(wan_folder, root / "wan")
    few_preferences(root)
    videos_with_captions(root / "own")
    something_something(root / "ssv2")
    shutil.copy(PROMPTS, root / "prompts.csv")
    write_tiny_model(root / "qwen", np.random.default_rng(0), 0.1)
    (root / "template.txt").write_text(TEXT + "\n")
    factors = {"lora_A": np.ones((2, 24), np.float32), "lora_B": np.ones((24, 2), np.float32)}
    layer = "diffusion_model.blocks.0.self_attn.q"
    tensors = {f"{layer}.{name}.weight": x for name, x in factors.items()}
    safetensors.numpy.save_file(tensors, root / "style.safetensors")
    return root


@pytest.fixture
def uploaded(files, address, monkeypatch):
    """The address of the same in a bucket."""
    for memory in ("_brought", "_named"):
        monkeypatch.setattr(copies, memory, set())
    bucket, paths = Bucket(address), [path for path in files.rglob("*") if path.is_file()]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for path in paths:
            pool.submit(bucket.put_file, path.relative_to(files).as_posix(), path)
    return address


def policy(given):
    config = load_config("flow_dpo:wan2_1_1_3b", [*given, *TINY_WAN])
    return config, open_recipe(config, Path("nowhere")).stages(config.rounds)


def of_the_mini_world(spec):
    def stages(given):
        config = named_config(spec, given)
        return config, open_recipe(config, Path("nowhere")).stages(config.rounds)

    return stages


def judge(given):
    config = named_config("videoreward", given)
    return config, JudgeRecipe(config, Path("nowhere")).stages


def label(given):
    config = named_config("dpo_aif:mini", given)
    return config, judge_version(config.reward)


# {field: name in `files`}, what is given beside, and what makes (config, stages) of both
CASES = {
    "a policy": (
        {
            "model.init": "wan",
            "model.lora": "style.safetensors",
            "data.pairs": "pairs.csv",
            "data.real": "own",
        },
        [],
        policy,
    ),
    "own clips": ({"data.path": "own"}, ["data.name=video_folder"], of_the_mini_world("own:mini")),
    "Something-Something": (
        {"data.path": "ssv2", "data.prompts": "prompts.csv", "text.path": "wan"},
        ["text.name=umt5", "text.dim=32"],
        of_the_mini_world("dpo_aif:paper"),
    ),
    "a judge that is trained": (
        {"judge.base": "qwen", "judge.template": "template.txt", "data.pairs": "pairs.csv"},
        [],
        judge,
    ),
    "a judge that is asked": (
        {
            "reward.video_reward.folder": "qwen",
            "reward.video_reward.base": "qwen",
            "reward.video_reward.template": "template.txt",
        },
        ["reward.name=video_reward"],
        label,
    ),
    "a judge in words": (
        {"reward.vlm_judge.folder": "qwen", "reward.vlm_judge.templates": "qwen"},
        ["reward.name=vlm_judge"],
        label,
    ),
    "a remote judge": (
        {"reward.remote_judge.templates": "qwen"},
        ["reward.name=remote_judge"],
        label,
    ),
    "metrics": (
        {
            f"reward.metrics.{place}": "qwen"
            if place.endswith(("folder", "tokenizer"))
            else "style.safetensors"
            for place in METRIC_PLACES
        },
        ["reward.name=metrics"],
        label,
    ),
}


def _known(stages):
    return stages if isinstance(stages, str) else [stage.folder for stage in in_order(stages)]


@pytest.mark.parametrize("name", CASES)
def test_stages_are_those_of_a_disk(name, files, uploaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places, beside, make = CASES[name]
    _, local = make([*(f"{field}={files / place}" for field, place in places.items()), *beside])
    given = {field: f"{uploaded}/{place}" for field, place in places.items()}
    config, there = make([*(f"{field}={place}" for field, place in given.items()), *beside])
    assert _known(there) == _known(local)
    assert {field: lookup(config, field) for field in given} == given  # and no folder of this disk
    assert not (tmp_path / "gs:").exists()


def test_every_field_has_a_case():
    covered = {field for places, _, _ in CASES.values() for field in places}
    places = {name for name, field in FIELDS.items() if field.touches == "place"}
    assert covered == places - OF_A_SERVER


def test_a_pipeline_gives_its_config_without_its_weights(files, uploaded):
    config = load_config("flow_dpo:wan2_1_1_3b", [f"model.init={uploaded}/wan"])
    local = load_config("flow_dpo:wan2_1_1_3b", [f"model.init={files}/wan"])
    assert config.text.path == f"{uploaded}/wan"
    with config.unlocked(), local.unlocked():
        config.text.path = config.model.init = local.text.path = local.model.init = ""
    assert config == local
    assert not list(copies.path_of(f"{uploaded}/wan").rglob("*.safetensors"))


def test_data_in_a_bucket_passes_the_checks_and_is_built(files, uploaded, tmp_path):
    config = load_config(
        "flow_dpo:wan2_1_1_3b",
        [f"model.init={uploaded}/wan", f"data.pairs={uploaded}/pairs.csv", *TINY_WAN],
    )
    check(config)
    recipe = open_recipe(config, tmp_path / "run")
    (done,) = run_to(recipe, [recipe.inputs.data_stage])
    assert (done.path / "clips.parquet").exists()
    check_data(named_config("own:mini", [f"data.path={uploaded}/own"]))
    check_data(named_config("dpo_aif:paper", [f"data.path={uploaded}/ssv2"]))


@pytest.mark.parametrize("field", ["model.init", "data.pairs"])
def test_an_address_of_nothing_is_refused(field, files, uploaded):
    given = [f"model.init={files}/wan", f"data.pairs={files}/pairs.csv", *TINY_WAN]
    config = load_config("flow_dpo:wan2_1_1_3b", given)
    section, _, name = field.partition(".")
    with config.unlocked():
        config[section][name] = f"{uploaded}/none"
    with pytest.raises(StorageError, match=f"{uploaded}/none: there is no such file or folder"):
        check(config)


def test_lists_bring_the_clips_that_they_name(files, uploaded, tmp_path):
    pairs = copies.here(f"{uploaded}/pairs.csv")
    here, read, local = pairs.parent, *map(read_preferences, (pairs, files / "pairs.csv"))
    assert read.clips["id"].tolist() == local.clips["id"].tolist()
    assert sorted(path.name for path in here.glob("*.mp4")) == sorted(read.clips["id"])
    assert not (here / "own").exists()
    # a list on a disk may name clips in a bucket, which are called by their addresses
    pd.DataFrame({"path": [f"{uploaded}/good0.mp4"], "prompt": ["a ball"]}).to_csv(
        tmp_path / "list.csv", index=False
    )
    (clip,) = list_clips(tmp_path / "list.csv").clips.to_dict("records")
    assert (clip["id"], clip["path"]) == (f"{uploaded}/good0.mp4", str(here / "good0.mp4"))
    listed = list_clips(f"{uploaded}/own", root=None)
    assert len(listed.clips) == 20


def test_a_clip_that_is_missing_is_named(files, uploaded):
    Bucket(uploaded).delete("good0.mp4")
    with pytest.raises(ValueError, match=r"1 of 8 clips do not exist, the first are .*good0.mp4"):
        read_preferences(copies.here(f"{uploaded}/pairs.csv"))


def test_judges_and_prompts_of_programs(files, uploaded):
    Bucket(uploaded).put("prompts.txt", b"a ball\n\na cube\n")
    assert read_prompts("prompts_file", f"{uploaded}/prompts.txt") == ["a ball", "a cube"]
    section = judge_config(f"{uploaded}/qwen", dimensions=("accept",)).reward
    assert (section.name, section.vlm_judge.folder) == ("vlm_judge", f"{uploaded}/qwen")
    assert QwenVLFolder(f"{uploaded}/qwen").config == QwenVLFolder(files / "qwen").config
    config = named_config("dpo_aif:mini", ["reward.dimension=motion_quality"])
    Bucket(f"{uploaded}/run").put("config.yaml", config_yaml(config).encode())
    assert judge_config(f"{uploaded}/run").reward.dimension == "motion_quality"
