import subprocess
import sys

import pytest

from vidpref.config.nearest import nearest


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("betta", ["alpha", "beta", "betas"], "did you mean beta or betas?"),
        ("qqq", ["alpha", "beta"], "known: alpha, beta"),
        ("qqq", [], "known: none"),
        # Only the last part is alike: a field looked for under the wrong section.
        ("rank", ["align.lora.rank", "align.beta"], "did you mean align.lora.rank?"),
        ("", ["a.", "b"], "known: a., b"),
    ],
)
def test_a_hint_suggests_what_is_alike_and_else_lists_what_there_is(word, known, hint):
    assert nearest(word, known) == hint


def test_the_best_suggestion_comes_first_and_no_more_than_asked_for():
    names = ["clip_b", "clip_a", "clip_aa1"]
    assert nearest("clip_a1", names, most=2) == "did you mean clip_aa1 or clip_a?"
    assert nearest("nll", ["nll_weight"], cutoff=0.4) == "did you mean nll_weight?"
    assert nearest("nll", ["nll_weight"]) == "known: nll_weight"


def test_a_long_list_is_cut():
    hint = nearest("qqq", (f"name{i}" for i in range(10_000)))
    assert hint.startswith("known: name0, name1,")
    assert hint.endswith(" ...")
    assert len(hint) < 1010


def test_a_hint_loads_no_jax():
    code = "import sys, vidpref.config.nearest; assert not {'jax', 'flax'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
