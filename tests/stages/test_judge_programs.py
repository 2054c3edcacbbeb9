"""A judge in a plan: its training step and its scoring, from shapes alone."""

import jax
import numpy as np
import pytest

from vidpref.generation.adopt import load_config
from vidpref.models.qwen_vl.reward import to_arrays
from vidpref.planning.calls import calls
from vidpref.planning.flops import count_flops
from vidpref.planning.worker import _parameters
from vidpref.stages import answer_programs, judge_programs
from vidpref.stages.judge_rows import largest_room
from vidpref.stages.programs import programs
from vidpref.training.sharding import make_mesh

ANSWERING = ("judge.scratch.layers=1", "judge.scratch.width=32", "judge.scratch.vision_width=32")
SMALL = (*ANSWERING, "judge.train.batch_size=8", "judge.score_batch=8")


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
        ("ipo:mini", (), ["align", "pretrain", "sample", "judge", "ask"]),
        ("critic:mini", (), ["judge"]),
        ("flow_dpo:mini", (), ["align", "pretrain", "sample"]),
        ("flow_dpo:mini", ("reward.name=video_reward",), ["align", "pretrain", "sample", "score"]),
    ],
)
def test_programs_of_a_run_with_a_judge(spec, overrides, expected, mesh):
    assert list(programs(load_config(spec, overrides), mesh)) == expected


def test_a_judge_that_learns_from_its_own_answers(mesh):
    config = load_config("mcsc:mini", ANSWERING)
    drawn = ["draw-reasoning", "judge-reasoning", "draw-hierarchy", "judge-hierarchy"]
    told = ["judge", "judge-reasons"]
    assert [n for n in programs(config, mesh) if "judge" in n or "draw" in n] == [*told, *drawn]
    often, own = calls(config, prompts=500), config.judge
    assert [often[n] for n in told] == [own.train.steps, own.critic.reasons.steps]
    config.judge.critic.instruct = False
    config.judge.hierarchy.enabled = False
    left = programs(config, mesh)
    assert [n for n in left if "judge" in n or "draw" in n] == drawn[:2]
    assert not set(told) & set(calls(config, prompts=500))
    assert calls(config, prompts=500)["judge-reasoning"] == config.judge.reasoning.train.steps
    draw, step = (left[name]() for name in drawn[:2])
    answers = draw.trace().out_info
    asked = (own.reasoning.train.batch_size, own.reasoning.group)
    assert answers["drawn"].shape == (*asked, config.reward.vlm_judge.max_tokens)
    assert answers["supported"].shape == answers["ended"].shape == asked
    batch = step.arguments["batch"]
    assert batch["advantage"].shape == asked
    assert shapes({name: batch[name] for name in ("drawn", "log_probs", "lengths")}) == shapes(
        {name: answers[name] for name in ("drawn", "log_probs", "lengths")}
    )
    assert len(jax.tree.leaves(step.arguments["frozen"])) > 0  # the start, for the KL term
    _, metrics = step.trace().out_info
    assert {"kl", "sampler_gap"} <= set(metrics)


def test_pairs_that_are_graded_side_by_side(mesh):
    config = load_config("ipo:mini", ANSWERING)
    step = programs(config, mesh)["judge"]()
    batch = step.arguments["batch"]
    rows, turns = config.judge.train.batch_size, len(config.judge.dimensions)
    assert batch["at"].shape == (rows, 2, turns)
    assert batch["preference"].shape == batch["scale"].shape == (rows, turns)
    assert batch["tokens"].shape[:2] == batch["said"].shape[:2] == (rows, 2)
    assert batch["said"].shape[2] >= 3 * 2 + 2 * config.text.length
    _, metrics = step.trace().out_info
    assert {"answers", "order", "accuracy"} <= set(metrics)


def test_pairs_that_are_graded_behind_a_reason_ask_one_thing_a_row(mesh):
    config = load_config("mcsc:mini", ANSWERING)
    judge, reasons = (programs(config, mesh)[name]() for name in ("judge", "judge-reasons"))
    turns, rows = len(config.judge.dimensions), config.judge.critic.reasons.batch_size
    assert judge.arguments["batch"]["at"].shape[1:] == (2, turns)
    batch = reasons.arguments["batch"]
    assert batch["at"].shape == (rows, 2, 1)
    assert batch["preference"].shape == batch["scale"].shape == (rows, 1)
    assert batch["said"].shape[2] < 2 * config.reward.vlm_judge.max_tokens


def test_drawn_clips_have_room_with_the_longest_prompt(mesh):
    config = load_config("ipo:mini", ANSWERING)
    ask = programs(config, mesh)["ask"]()
    rows = ask.arguments["rows"]
    training = answer_programs._training(config, mesh)
    questions, own = training.reader.questions, config.reward.vlm_judge
    seen = questions.see(np.zeros((own.frames, 16, 16, 3), np.uint8))
    longest = " ".join(["word"] * config.text.length)
    asked = [q.about(longest, own.frames) for one in training.reader.single.values() for q in one]
    tokens = [len(questions.row(seen, text).tokens) for text in asked]
    assert 0 <= rows.tokens.shape[1] - max(tokens) < 128
    assert rows.patches.pixels.shape == (own.batch_size, *seen[0][1].shape)
    assert ask.trace().out_info.shape[0] == own.batch_size
    found = calls(config, prompts=500)
    assert found["ask"] > found["sample"] > 0


@pytest.mark.parametrize("answers", ["probabilities", "words"])
def test_all_that_a_judge_is_asked_by_lies_on_a_mesh(answers, mesh):
    config = load_config("ipo:mini", [*ANSWERING, f"reward.vlm_judge.answers={answers}"])
    ask = programs(config, mesh)["ask"]()
    assert ("key" in ask.arguments) == (answers == "words")  # words are drawn
    # the planner reads the mesh of the first
    assert len({leaf.sharding.mesh for leaf in jax.tree.leaves(ask.arguments)}) == 1


def test_an_asked_model_that_is_not_there_has_its_published_size(mesh):
    given = ["reward.name=vlm_judge", "reward.vlm_judge.folder=models/Qwen2.5-VL-3B-Instruct"]
    ask = programs(load_config("ipo_dpo:mini", given), mesh)["ask"]()
    assert _parameters(ask.arguments) == pytest.approx(3.75e9, rel=0.02)
    wrong = load_config("ipo_dpo:mini", [given[0], "reward.vlm_judge.folder=models/Other"])
    with pytest.raises(ValueError, match=r"reward\.vlm_judge\.folder='models/Other' is no folder"):
        programs(wrong, mesh)["ask"]()


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
