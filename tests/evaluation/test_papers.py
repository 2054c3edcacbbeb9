"""What papers say beside what a run came to."""

import dataclasses
import json

import pytest

from tests.evaluation.report_examples import clip_table, report_data
from vidpref.config.by_name import config_names
from vidpref.evaluation.papers import CLAIMS, paper_table
from vidpref.evaluation.report import write_report
from vidpref.evaluation.statistics import evaluation_json

JUDGE = {
    "validation": {"clips": 9, "pairs": 9, "text_alignment": {"accuracy": 0.1}},
    "test": {
        "clips": 8,
        "pairs": 12,
        "visual_quality": {"decided": 9, "accuracy": 0.815, "right": 0.5},
        "text_alignment": {"decided": 0, "accuracy": None},
    },
}


@pytest.fixture(scope="module")
def evaluation():
    frame = clip_table({"pretrained": 0.2, "ipo": 0.4, "ipo_round2": 0.5})
    found = json.loads(json.dumps(evaluation_json(frame, best_of=None)))
    change = {"diff": 0.031, "ci": [0.01, 0.05], "win_rate": 0.5, "win_ci": [0.4, 0.6]}
    splits = found["paired"]["ipo_round2"]
    found["dimensions"] = {
        "policies": {},
        "paired": {"ipo_round2": {split: {"text_alignment": change} for split in splits}},
    }
    return found


def test_every_claim_is_of_a_config_and_names_its_source():
    assert set(CLAIMS) <= set(config_names())
    for name, claims in CLAIMS.items():
        assert {claim.source.split()[0].lower() for claim in claims} == {name}


def test_a_run_answers_with_its_own_numbers(evaluation):
    table = paper_table("ipo", evaluation, JUDGE)
    grades, pairs, rounds = ((source, here) for _, source, here in table.rows)
    assert grades == ("IPO Table 6", "grades of held-out clips right: visual quality 50.0 %")
    assert pairs[1] == "pairs of held-out clips with a winner ordered right: visual quality 81.5 %"
    split = "test" if "test" in evaluation["policies"]["ipo"] else "train"
    shown = [
        f"{100 * evaluation['policies'][name][split]['accept']:.1f}"
        for name in ("pretrained", "ipo", "ipo_round2")
    ]
    assert rounds[1] == "accepted, by rounds from 0: " + ", ".join(shown)
    quality = paper_table("videoalign", evaluation, {}).rows
    assert [row[2] for row in quality] == ["text alignment +3.1 [+1.0, +5.0] points of 100"]


def test_what_a_run_cannot_say_is_left_out(evaluation):
    assert paper_table("dpo_aif", evaluation, JUDGE) is None
    one = dict(evaluation, policies={"pretrained": evaluation["policies"]["pretrained"]}, paired={})
    one.pop("dimensions")
    assert paper_table("ipo", one, {}) is None
    assert len(paper_table("ipo", one, JUDGE).rows) == 2


def test_the_page_ends_in_it(evaluation, tmp_path):
    data = dataclasses.replace(report_data(), paper=paper_table("ipo", evaluation, JUDGE))
    write_report(tmp_path / "report.html", data)
    page = (tmp_path / "report.html").read_text()
    assert page.index("The paper's claims and ours") > page.index("Versions and devices")
    assert 'href="#paper"' in page
    write_report(tmp_path / "report.html", report_data())
    assert "#paper" not in (tmp_path / "report.html").read_text()
