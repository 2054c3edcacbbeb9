"""A judge in a plan: its training step and its scoring, from shapes alone."""

import jax
import numpy as np
import pytest

from vidpref.generation.adopt import load_config
from vidpref.models.qwen_vl.reward import to_arrays
from vidpref.planning.calls import calls
from vidpref.planning.flops import count_flops
from vidpref.planning.worker import _parameters
from vidpref.stages import judge_programs
from vidpref.stages.judge_rows import largest_room
from vidpref.stages.programs import programs
from vidpref.training.sharding import make_mesh

SMALL = (
    *("judge.scratch.layers=1", "judge.scratch.width=32", "judge.scratch.vision_width=32"),
    *("judge.train.batch_size=8", "judge.score_batch=8"),
)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": -1, "fsdp": 2})


def shapes(tree):
    return {name: (x.shape, np.dtype(x.dtype)) for name, x in tree.items()}


@pytest.mark.parametrize(
    ("spec", "overrides", "expected"),
    [
        ("videoreward:mini", (), ["judge", "score"]),
        ("videoalign:mini", (), ["align", "pretrain", "sample", "judge", "score"]),
        ("flow_dpo:mini", (), ["align", "pretrain", "sample"]),
        ("flow_dpo:mini", ("reward.name=video_reward",), ["align", "pretrain", "sample", "score"]),
    ],
)
def test_programs_of_a_run_with_a_judge(spec, overrides, expected, mesh):
    assert list(programs(load_config(spec, overrides), mesh)) == expected


def test_the_step_is_given_rows_that_no_row_exceeds(mesh):
    config = load_config("videoreward:mini", SMALL)
    step = programs(config, mesh)["judge"]()
    training = judge_programs._training(config, mesh)
    row = training.reader.row(np.zeros((8, 16, 16, 3), np.uint8), 8.0, "a red circle")
    packed = training.reader.pack([row, row], largest_room(training.reader))
    expected = {name: (8, *x.shape) for name, x in to_arrays(packed).items()}
    expected["preference"] = (8, 3)
    assert {name: x.shape for name, x in step.arguments["batch"].items()} == expected
    assert expected["tokens"] == (8, 2, 512)
    assert expected["patch_pixels"] == (
        8,
        2,
        32,
        64,
        24,
    )  # as many frames of 16x16 as there is room
    traced = step.trace()
    assert traced.lower().as_text().count("stablehlo.dot_general") > 0
    # all of it is trained: forward, and twice that backward, of 8 pairs of 512 tokens
    block = sum(x.size for x in jax.tree.leaves(step.arguments["state"].params["model"]["text"]))
    assert count_flops(traced).total > 3 * 2 * 16 * 512 * block


def test_a_trained_judge_scores_drawn_clips_on_one_host(mesh):
    config = load_config("videoalign:mini", SMALL)
    score = programs(config, mesh)["score"]()
    rows = to_arrays(score.arguments["rows"])
    assert rows["patch_pixels"].shape == (64, 4, 64, 24)  # 8 frames of 16x16
    words = 5 * config.text.length - 1
    features = 4 * 64 // 4
    assert words < rows["tokens"].shape[1] - features < 512
    assert rows["tokens"].shape[1] % 128 == 0
    assert dict(rows["tokens"].sharding.mesh.shape)["fsdp"] == len(jax.devices())
    assert score.trace().out_info.shape == (64, 3)


def test_a_model_that_is_not_there_has_its_published_size(mesh):
    for base, size in (("", 2.28e9), ("models/Qwen2-VL-7B-Instruct", 7.91e9)):
        config = load_config("videoreward", [f"judge.base={base}"] if base else [])
        _, arguments = judge_programs.training_step(config, mesh)
        assert _parameters(arguments) == pytest.approx(size, rel=0.01)
        # as many pairs of frames of 448x448 pixels as 4096 tokens have room for
        assert arguments["batch"]["patch_pixels"].shape == (32, 2, 16, 1024, 1176)
    config = load_config("videoreward", ["judge.base=Qwen9"])
    with pytest.raises(ValueError, match=r"judge\.base='Qwen9' is no folder, nor .* Qwen2-VL-2B"):
        judge_programs.training_step(config, mesh)


def test_every_host_scores_clips_of_its_own():
    config = load_config("videoalign:mini")
    alone, of_four = (calls(config, prompts=500, hosts=hosts) for hosts in (1, 4))
    assert alone["judge"] == config.judge.train.steps
    assert of_four["score"] == -(-alone["score"] // 4)
