"""Tables of runs side by side, and the files that hold them."""

import pandas as pd
import pytest
from ml_collections import ConfigDict

from vidpref.evaluation.tables import Table
from vidpref.runs.compare import Candidate
from vidpref.runs.comparison_tables import best_of, search_table, write_tables


@pytest.mark.parametrize(
    ("asked", "per_prompt", "shown"),
    [
        ((1, 4), 4, (1, 4)),
        ((1, 4), 8, (1, 4)),
        ((1, 4), 3, None),  # a prompt has fewer clips
        ((1,), 1, None),  # of the public generators' scales
        ((), 4, None),
    ],
)
def test_best_of_n_is_left_out_where_a_prompt_has_fewer_clips(asked, per_prompt, shown):
    assert best_of(ConfigDict({"best_of": asked, "per_prompt": per_prompt})) == shown


def test_search_table():
    candidates = [
        Candidate("dpo", ("align.beta=5", "align.train.steps=3"), 0.25, False),
        Candidate("dpo", (), 0.5, True),
        Candidate("sft", (), None, True),
    ]
    assert search_table(candidates).rows == [
        ["DPO", "beta=5, train.steps=3", 25.0, ""],
        ["DPO", "as in the config", 50.0, "chosen"],
        ["SFT", "as in the config", None, "chosen"],
    ]


def test_every_table_is_in_every_file(tmp_path):
    tables = [Table("Rounds, training prompts", ["a_b"], [[1]]), Table("Training", ["c"], [[2.5]])]
    write_tables(tmp_path, tables, heading="Compared")
    assert pd.read_csv(tmp_path / "rounds_training_prompts.csv")["a_b"].tolist() == [1]
    assert pd.read_csv(tmp_path / "training.csv")["c"].tolist() == [2.5]
    text, latex = ((tmp_path / f"comparison.{end}").read_text() for end in ("md", "tex"))
    for table in tables:
        assert f"## {table.title}" in text
        assert rf"\caption{{{table.title}.}}" in latex
    assert r"a\_b" in latex
