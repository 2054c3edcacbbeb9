"""What pages call metrics, counts, stages and categories; nothing is left in code."""

import dataclasses
import re

import pytest

from tests.objectives.objective_examples import CASES, draw, errors, labels
from vidpref.config.by_name import named_config
from vidpref.datasets.miniworld.vocabulary import SENTENCES
from vidpref.datasets.pairs import PairReport
from vidpref.datasets.preferences.selection import ClipReport, LoserReport, PreferenceReport
from vidpref.evaluation import words
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.runs.methods import open_recipe
from vidpref.stages.preferences import PairCounts


@pytest.mark.parametrize("case", CASES)
def test_every_metric_of_an_objective_has_words(case):
    name, hyper = CASES[case]
    spec = OBJECTIVES[name]
    policy, reference, reward = draw(spec.k)
    more = {"real": policy} if hyper.get("real_weight") else {}
    more |= {"mismatched": policy} if "mismatched" in hyper.values() else {}
    more |= {"distance": policy} if spec.needs_distance else {}
    more |= {"moved": policy, "reference_moved": policy} if spec.diverges else {}
    given = errors(policy, reference, **more)
    motion = reward[..., None].repeat(2, axis=-1)
    _, metrics = spec.fn(given, labels(reward, motion=motion, pair_score=reward[:, 0]), **hyper)
    assert metrics.keys() <= words.METRICS.keys()


def test_metrics_of_a_judge_that_answers_have_words():
    told = {"answers", "order", "token_accuracy", "accuracy"}
    drawn = {"answer_length", "truncated", "impossible", "entropy", "kl", "sampler_gap"}
    scored = {"zero_spread_groups", "zero_spread", "unscored", "failed", "advantage_std"}
    assert told | drawn | scored <= words.METRICS.keys()


@pytest.mark.parametrize("spec", ["mcsc:mini", "ipo:mini", "videoalign:mini", "realdpo:mini"])
def test_every_stage_of_a_paper_has_words(spec, tmp_path):
    stages = open_recipe(named_config(spec, []), tmp_path).stages(1)
    left = {stage.name for stage in stages if words.stage(stage.name) == stage.name}
    assert left <= {"data"}


def test_a_warning_that_is_empty_is_no_note():
    assert words.notes({"warning": "", "weighed": "by gaps", "says": "2 rows", "rows": 2}) == [
        "by gaps"
    ]


def test_metrics_of_a_step_and_of_dimensions_have_words():
    assert words.metric("grad_norm") == "norm of the gradient"
    assert words.metric("accuracy/motion_quality") == "pairs ranked as labelled: motion quality"
    assert words.metric("of_another_method") == "of another method"


@pytest.mark.parametrize(
    ("of", "report"),
    [
        ("", PairReport),
        ("", PreferenceReport),
        ("", ClipReport),
        ("", LoserReport),
        ("pairs", PreferenceReport),
        ("file", PairCounts),
    ],
)
def test_every_count_of_what_was_learnt_from_has_words(of, report):
    names = [field.name for field in dataclasses.fields(report)]
    account = {name: 3 for name in names}
    found = words.counts({of: account} if of else account)
    assert [count for _, count in found] == [3] * len(names)
    plain = {name.replace("_", " ") for name in names if "_" in name}
    assert not plain & {text for text, _ in found}, "give these words in evaluation/words.py"
    assert len({text for text, _ in found}) == len(names)


def test_counts_of_any_account():
    account = {
        "rows": 2,
        "too_few": ["a", "b", "c"],
        "says": "2 rows train",
        "warning": "only 2 rows",
        "weights": {"visual_quality": 0.5},
        "of_tomorrow": 7,
        "file": {"pairs": 30},
    }
    assert words.counts(account) == [
        ("pairs in the file", 30),
        ("rows that train", 2),
        ("prompts or winners with too few clips", 3),
        ("weights: visual quality", 0.5),
        ("of tomorrow", 7),
    ]
    assert words.notes(account) == ["only 2 rows"]


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("align-dpo-round1-4f0daa0b7ba3", "alignment with DPO"),
        ("align-flow_dpo-round2", "alignment with Flow-DPO, round 2"),
        ("sample-evaluation-dpo_round2", "sampling of clips to compare, DPO, round 2"),
        ("label-train-pretrained-38655e7fd3fa", "judging of clips to learn from, pretrained"),
        ("latent-reward", "training of the latent reward"),
        ("something-else", "something-else"),
    ],
)
def test_stages(folder, said):
    assert words.stage(folder) == said


def test_every_category_of_the_mini_world_is_spelled_out():
    codes = {sentence.category for sentence in SENTENCES.values()}
    assert len(codes) == 6
    assert not any(re.fullmatch("[A-Z]+", words.category(code)) for code in codes)
    assert words.category("OR") == "object removal"
    assert words.category("of one's own") == "of one's own"
