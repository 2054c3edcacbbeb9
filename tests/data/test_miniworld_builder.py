"""The TFDS builder of the mini world: what it writes is what the world renders."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vidpref.datasets.miniworld import DEFECTS, PROMPTS, prompts, render, scene
from vidpref.datasets.miniworld.defects import pretraining_examples
from vidpref.rewards.verifier import Verifier

BUILDER = Path(__file__).parents[2] / "data" / "miniworld" / "miniworld_dataset_builder.py"


def load():
    spec = importlib.util.spec_from_file_location("miniworld_dataset_builder", BUILDER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    module = load()
    config = module.MiniworldConfig(
        name="small", pretrain_clips=300, scenes_per_prompt=2, high_resolution=True
    )
    builder = module.Miniworld(
        config=config, data_dir=tmp_path_factory.mktemp("data"), file_format="array_record"
    )
    builder.download_and_prepare()
    return builder.as_data_source()


def test_split_sizes(built):
    assert {name: len(source) for name, source in built.items()} == {
        "pretrain": 300,
        "prompts_train": 2 * len(prompts("train")),
        "prompts_validation": 2 * len(prompts("validation")),
        "prompts_test": 2 * len(prompts("test")),
    }


def test_pretraining_records(built):
    by_text = {p.text: p for p in PROMPTS}
    examples = pretraining_examples(300)
    for record, example in zip(built["pretrain"], examples, strict=True):
        assert record["prompt"].decode() == example.prompt.text
        assert record["defect"].decode() == example.defect
        assert record["scene_seed"] == example.seed
        assert record["split"].decode() in ("train", "validation")
        assert by_text[record["prompt"].decode()].category == record["category"].decode()
    found = {record["defect"].decode() for record in built["pretrain"]}
    assert "" in found
    assert found <= {"", *DEFECTS}
    chosen = built["pretrain"][17]
    np.testing.assert_array_equal(chosen["video"], render(examples[17].scene()))


def test_prompt_records_are_true_and_carry_their_first_frame(built):
    test = list(built["prompts_test"])
    assert len({record["id"] for record in test}) == len(test)
    clips = np.stack([record["video"] for record in test])
    assert clips.dtype == np.uint8
    np.testing.assert_array_equal(clips[:, 0], [record["first_frame"] for record in test])
    prompts = [record["prompt"].decode() for record in test]
    accepted = Verifier().score(clips, prompts).scores["accept"]
    assert accepted.mean() >= 0.995
    assert {record["split"] for record in test} == {b"test"}
    assert {record["scene_seed"] for record in test} == {0, 1}


def test_high_resolution_averages_to_the_base(built):
    record = built["prompts_validation"][5]
    assert record["video_high"].shape == (8, 32, 32, 3)
    mean = record["video_high"].reshape(8, 16, 2, 16, 2, 3).mean((2, 4))
    assert np.abs(mean - record["video"]).max() <= 1
    prompt = next(p for p in PROMPTS if p.text == record["prompt"].decode())
    high = render(scene(prompt, int(record["scene_seed"])), scale=2)
    np.testing.assert_array_equal(record["video_high"], high)


def test_configs_and_a_second_import():
    assert [c.name for c in load().Miniworld.BUILDER_CONFIGS] == ["base", "cascade", "camera"]
    assert load().Miniworld is not load().Miniworld


def test_a_config_section_chooses_the_world():
    choose = load().MiniworldConfig.from_section
    assert choose({}, cascade=False) == "base"
    assert choose({"camera": False}, cascade=True) == "cascade"
    assert choose({"camera": True}, cascade=False) == "camera"
    with pytest.raises(ValueError, match=r"config.data.camera=True and .*superres"):
        choose({"camera": True}, cascade=True)


def test_the_world_with_a_moving_camera(tmp_path):
    module = load()
    config = module.MiniworldConfig(
        name="small_camera", pretrain_clips=90, scenes_per_prompt=1, camera=True
    )
    builder = module.Miniworld(config=config, data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source()
    assert "pan_left" in {record["action"].decode() for record in source["pretrain"]}
    for split in ("train", "validation", "test"):
        records = list(source[f"prompts_{split}"])
        wanted = [p.text for p in prompts(split, camera=True)]
        assert [record["prompt"].decode() for record in records] == wanted
        clips = np.stack([record["video"] for record in records])
        accepted = Verifier(("accept",)).score(clips, wanted).scores["accept"]
        assert accepted.mean() >= 0.995


def test_no_tensorflow_is_imported():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit('tensorflow' in sys.modules)"
    root = BUILDER.parents[2]
    subprocess.run([sys.executable, "-c", code, str(BUILDER)], check=True, cwd=root)
