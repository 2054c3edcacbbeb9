"""The two models of an evaluation: what they are drawn from, and in what they differ."""

import json
import shutil

import pytest

from tests.tiny_pipelines import tiny_wan
from vidpref.datasets.prompt_sets import read_prompt_set
from vidpref.runs.compared_models import differences, pipelines, scenes_of

SMALL = ("data.frames=5", "data.height=32", "data.width=32", "text.length=16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    tiny_wan(folder / "base")
    shutil.copytree(folder / "base", folder / "tuned")
    scheduler = folder / "tuned" / "scheduler" / "scheduler_config.json"
    fields = json.loads(scheduler.read_text())
    scheduler.write_text(json.dumps(fields | {"flow_shift": 5.0}))
    tiny_wan(folder / "i2v", image_to_video=True)
    return folder


def opened(folder, tuned="base", *overrides):
    return pipelines(
        str(folder / "base"),
        [*SMALL, *overrides],
        lora="",
        lora_scale=1.0,
        tuned=str(folder / tuned),
    )


def test_other_differences_than_weights_are_told(folder):
    before, after = opened(folder)
    assert differences(before, after) == []
    assert before.causes == after.causes
    found = differences(*opened(folder, "tuned"))
    assert found == ["diffusion.flow.shift: 3.0 before, 5.0 after"]


def test_causes_change_with_what_clips_depend_on_and_not_with_the_folder(folder, tmp_path):
    known = opened(folder)[0].causes
    shutil.copytree(folder / "base", tmp_path / "moved")
    moved, _ = pipelines(str(tmp_path / "moved"), SMALL, lora="", lora_scale=1.0, tuned="")
    assert moved.causes == known
    assert opened(folder, "base", "sampler.batch_size=3")[0].causes == known
    for change in ("sampler.steps=7", "data.frames=9", "text.length=8", "data.fps=9"):
        assert opened(folder, "base", change)[0].causes != known, change
    weights = next((tmp_path / "moved" / "transformer").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    other, _ = pipelines(str(tmp_path / "moved"), SMALL, lora="", lora_scale=1.0, tuned="")
    assert [n for n in known if other.causes[n] != known[n]] == ["transformer"]


def test_scenes_have_the_ids_of_their_prompts(folder, tmp_path):
    (tmp_path / "p.csv").write_text("prompt,category\na,x\nb,y\n")
    prompts = read_prompt_set(tmp_path / "p.csv").prompts
    scenes = scenes_of(opened(folder)[0], prompts)
    assert [(s.id, s.text, s.category) for s in scenes] == [
        (p.id, p.text, p.category) for p in prompts
    ]


def test_a_pipeline_that_starts_from_an_image_is_refused(folder):
    models = pipelines(str(folder / "i2v"), SMALL, lora="", lora_scale=1.0, tuned="")
    with pytest.raises(ValueError, match=r"i2v: .*takes an image.*sets of prompts have no images"):
        scenes_of(models[0], read_prompt_set("ta_hard").first(2).prompts)


def test_models_of_other_clips_are_refused(folder):
    tiny_wan(folder / "other", in_channels=8, out_channels=8)
    with pytest.raises(ValueError, match=r"noise of different shapes|latent|channels"):
        opened(folder, "other")
