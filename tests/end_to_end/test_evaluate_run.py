"""The policies of a finished run against each other, on prompts of one's own."""

import json

import numpy as np
import pytest

from tests.end_to_end.tiny import TINY
from vidpref.datasets.miniworld import PROMPTS
from vidpref.datasets.prompt_sets import read_prompt_set
from vidpref.datasets.video import decode_frames
from vidpref.generation.adopt import load_config
from vidpref.runs import report, rounds
from vidpref.runs.compared_models import policies, scenes_of
from vidpref.runs.model_evaluation import Evaluation, evaluate, write
from vidpref.runs.named_judges import judge_configs
from vidpref.runs.prompt_scenes import nearest_scene
from vidpref.runs.score_videos import Showing


def test_the_policies_of_a_run_are_compared(tmp_path, fickle):
    done = rounds.run(load_config("sft_aif:mini", TINY), tmp_path / "run")
    report.write_run_report(done, command="test")
    models = policies(tmp_path / "run")
    assert [model.name for model in models] == ["before", "after"]
    assert models[0].about.startswith("pretrained of ")
    assert models[1].about.startswith("sft of ")
    assert models[0].causes != models[1].causes
    for name in ("pretrained", "none"):
        with pytest.raises(ValueError, match=f"--policy={name}: of .* can be compared sft"):
            policies(tmp_path / "run", name)

    texts = [PROMPTS[3].text, PROMPTS[700].text]
    (tmp_path / "p.txt").write_text("\n".join(texts))
    prompts = read_prompt_set(tmp_path / "p.txt")
    scenes = scenes_of(models[0], prompts.prompts)
    data = models[0].source.data
    for scene, prompt in zip(scenes, prompts.prompts, strict=True):
        near = nearest_scene(data, prompt.text)
        assert (scene.id, scene.text) == (prompt.id, prompt.text)
        np.testing.assert_array_equal(scene.first_frame, near.first_frame)

    judges = judge_configs(["verifier"])  # which `fickle` has taken the place of
    what = Evaluation(models, prompts, judges, per_prompt=2, seed=3)
    out = tmp_path / "out"
    out.mkdir()
    judged = evaluate(what, out, Showing())
    told = write(what, judged, out, shown=0, command="evaluate")
    assert "accept" in told
    found = json.loads((out / "evaluation.json").read_text())
    assert [c["clips"] for c in found["comparisons"]] == [4]
    assert found["settings"]["prompts"].endswith("p.txt: 2 prompts")
    first, second = (
        np.stack([decode_frames(out / path, 0)[0] for path in judged.pairs[side]]).astype(int)
        for side in ("before", "after")
    )
    assert first.shape == (4, 8, 16, 16, 3)
    assert np.abs(first - second).max() > 0  # trained a little, from the same noise
    assert np.abs(first - second).mean() < np.abs(first[:2] - first[2:]).mean()
