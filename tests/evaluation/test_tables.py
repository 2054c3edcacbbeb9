"""Tables say what the evaluation says, in every format, with texts escaped."""

import csv
import io

import pandas as pd
import pytest
from report_examples import RATES, clip_table

from vidpref.evaluation.latex import to_latex
from vidpref.evaluation.rounds import by_method, split_round, title
from vidpref.evaluation.statistics import evaluation_json
from vidpref.evaluation.tables import (
    Decimals,
    Estimate,
    Table,
    category_table,
    comparison_table,
    evaluation_table,
    policy_table,
    rounds_table,
    write_csv,
    write_markdown,
)


@pytest.fixture(scope="module")
def evaluation():
    return evaluation_json(clip_table(RATES, prompts=20), best_of=(1, 4))


def _estimate(entry: dict, key: str = "accept") -> Estimate:
    return Estimate(entry[key], *entry["ci"], signed=key == "diff")


def test_estimates_are_shown_in_per_cent():
    assert str(Estimate(0.4671, 0.421, 0.5134)) == "46.7 [42.1, 51.3]"
    assert str(Estimate(-0.02, -0.05, 0.01, signed=True)) == "-2.0 [-5.0, +1.0]"


def test_markdown_escapes_pipes_and_aligns_numbers():
    table = Table("T", ["a|b", "n"], [["x|y\nz", 3], ["w", None]], "Note.")
    assert table.to_markdown() == (
        "## T\n\n| a\\|b | n |\n| --- | ---: |\n| x\\|y z | 3 |\n| w | – |\n\nNote.\n"
    )


def test_csv_keeps_all_digits_and_gives_intervals_their_own_columns():
    table = Table(
        "T", ["m", "rate", "n"], [['a,"b"', Estimate(1 / 3, 0.1, 0.6), 3], ["c", None, 4]]
    )
    rows = list(csv.reader(io.StringIO(table.to_csv())))
    assert rows[0] == ["m", "rate", "rate low", "rate high", "n"]
    assert float(rows[1][1]) == 1 / 3
    assert rows[1][0] == 'a,"b"'
    assert rows[2] == ["c", "", "", "", "4"]
    assert pd.read_csv(io.StringIO(table.to_csv()))["rate high"][0] == 0.6


def test_decimals_are_shown_rounded_and_kept_whole():
    table = Table("T", ["a", "r"], [["x", Decimals(1 / 3)], ["y", Decimals(-0.0004, 3)]])
    assert table.numeric() == [False, True]
    shown = [line.split("|")[2].strip() for line in table.to_markdown().splitlines()[4:6]]
    assert shown == ["0.33", "0.000"]
    assert [row[1] for row in csv.reader(io.StringIO(table.to_csv()))][1:] == [
        repr(1 / 3),
        "-0.0004",
    ]
    assert "$0.33$" in to_latex(table)


def test_html_escapes_every_text():
    table = Table("T", ["<i>", "n"], [["<script>", "a [b] & c"], ["x", Estimate(0.5, 0.4, 0.6)]])
    html = str(table.to_html())
    assert "<script>" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;" in html
    assert "a [b] &amp; c" in html
    assert '50.0 <span class="interval">[40.0, 60.0]</span>' in html


def test_rows_must_fit_the_columns():
    with pytest.raises(ValueError, match="'T': 2 columns, a row of 1"):
        Table("T", ["a", "b"], [["x"]])


def test_policy_table(evaluation):
    table = policy_table(evaluation)
    rows = {(row[0], row[1]): row for row in table.rows}
    assert len(rows) == 10
    entry = evaluation["policies"]["dpo"]["test"]
    row = rows["DPO", "held-out"]
    assert row[2:4] == [_estimate(entry), _estimate(evaluation["paired"]["dpo"]["test"], "diff")]
    assert row[5:] == [entry["n"], entry["prompts"]]
    assert rows["pretrained", "held-out"][3] is None
    assert table.columns[4] == "Best 1 of 4"
    without = policy_table({k: v for k, v in evaluation.items() if k != "best_of_n"})
    assert "Best 1 of 4" not in without.columns


def test_comparison_table(evaluation):
    table = comparison_table(evaluation)
    assert list(table.columns)[:3] == ["Method", "Held-out", "Training"]
    rows = {row[0]: row for row in table.rows}
    assert rows["RWR"][2] == _estimate(evaluation["policies"]["rwr"]["train"])
    assert rows["RWR"][4] == _estimate(evaluation["paired"]["rwr"]["train"], "diff")
    assert rows["pretrained"][3:] == [None, None]
    assert "over prompts" in table.caption


def test_category_table(evaluation):
    table = category_table(evaluation, "train")
    entry = evaluation["policies"]["sft"]["train"]["categories"]
    assert table.rows[1] == ["SFT", *(_estimate(entry[c]) for c in table.columns[1:])]


def test_rounds_table_starts_from_the_baseline(evaluation):
    table = rounds_table(evaluation)
    assert list(table.columns) == ["Method", "Round 0", "Round 1", "Round 2"]
    rows = {row[0]: row[1:] for row in table.rows}
    policies = evaluation["policies"]
    assert rows["DPO"] == [
        _estimate(policies[n]["test"]) for n in ("pretrained", "dpo", "dpo_round2")
    ]
    assert rows["SFT"][2] is None


def test_a_comparison_over_training_seeds_says_so():
    runs = [clip_table(RATES, prompts=10, seed=s).assign(training_seed=s) for s in range(3)]
    evaluation = evaluation_json(pd.concat(runs), best_of=None)
    table = comparison_table(evaluation)
    row = next(row for row in table.rows if row[0] == "RWR")
    assert row[3] == _estimate(evaluation["paired"]["rwr"]["test"], "diff")
    assert "over seeds and prompts" in table.caption


def test_files(tmp_path):
    table = Table("T", ["a"], [[1]])
    write_markdown(tmp_path / "t.md", [table, table], heading="Compared")
    write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.md").read_text().startswith("# Compared\n\n## T\n\n| a |")
    assert (tmp_path / "t.csv").read_text() == "a\n1\n"


def test_text_sets_columns_under_each_other():
    table = Table("T", ["m", "rate"], [["abc", Estimate(0.5, 0.4, 0.6)], ["d", None]], "Note.")
    assert table.to_text() == (
        "T\nm                 rate\nabc  50.0 [40.0, 60.0]\nd                    –\nNote.\n"
    )


def test_the_table_for_programs_has_every_number():
    frame = clip_table(RATES, prompts=5).assign(speed=0.25)
    evaluation = evaluation_json(frame, best_of=None)
    read = pd.read_csv(io.StringIO(evaluation_table(evaluation).to_csv()))
    assert len(read) == 5 * 2 * (1 + 5 + 1)  # policies, splits; accepted, categories, speed
    of_dpo = read[(read["policy"] == "dpo") & (read["split"] == "test")]
    whole = of_dpo[(of_dpo["score"] == "accept") & of_dpo["category"].isna()].iloc[0]
    entry, paired = evaluation["policies"]["dpo"]["test"], evaluation["paired"]["dpo"]["test"]
    assert whole[["value", "value low", "value high"]].tolist() == [entry["accept"], *entry["ci"]]
    assert whole["against_pretrained"] == paired["diff"]
    assert (whole["clips"], whole["prompts"]) == (20, 5)
    falling = of_dpo[of_dpo["category"] == "falling down"].iloc[0]
    assert falling["value"] == entry["categories"]["falling down"]["accept"]
    assert of_dpo[of_dpo["score"] == "speed"]["value"].tolist() == [0.25]
    assert of_dpo[of_dpo["score"] == "speed"]["against_pretrained"].tolist() == [0.0]


def test_names_of_rounds():
    assert split_round("dpo") == ("dpo", 1)
    assert split_round("dpo_aif_round12") == ("dpo_aif", 12)
    assert title("dpo_round3") == "DPO, round 3"
    assert title("mcsc_round2") == "McSc, round 2"
    assert title("flow_dpo") == "Flow-DPO"
    names = ["pretrained", "dpo_round10", "dpo", "rwr", "dpo_round2"]
    assert by_method(names, "pretrained") == {
        "dpo": ["dpo", "dpo_round2", "dpo_round10"],
        "rwr": ["rwr"],
    }
