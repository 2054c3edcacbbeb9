"""Before and after by any judge's scores, against closed forms and the statistics of runs."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from vidpref.evaluation.before_after import (
    Scores,
    by_category,
    category_table,
    compare,
    comparison_json,
    comparison_table,
)
from vidpref.evaluation.statistics import paired_dimensions

NAN = float("nan")


def scores(before, after, prompts, share=True, categories=None, dimension="motion_quality"):
    before, after = (np.array(side, np.float64) for side in (before, after))
    categories = [""] * len(before) if categories is None else categories
    return Scores("judge", dimension, share, before, after, prompts, categories)


def drawn(seed, prompts, clips, low=0.0, high=1.0):
    """Graded scores of several clips a prompt, which are alike within one."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(low, high, (2, prompts, 1))
    sides = np.clip(middle + 0.2 * (high - low) * rng.normal(size=(2, prompts, clips)), low, high)
    names = [f"prompt {i}" for i in range(prompts) for _ in range(clips)]
    return sides[0].ravel(), sides[1].ravel(), names


def test_shares_are_compared_as_those_of_a_run():
    before, after, names = drawn(0, 12, 3)
    found = compare(scores(before, after, names))
    frame = pd.concat(
        pd.DataFrame(
            {
                "policy": policy,
                "split": "test",
                "category": "all",
                "prompt": names,
                "sample": [0, 1, 2] * 12,
                "accept": 0.0,
                "motion_quality": side,
            }
        )
        for policy, side in (("pretrained", before), ("dpo", after))
    )
    other = paired_dimensions(frame, "dpo", "pretrained")["motion_quality"]
    assert found.difference == pytest.approx((other["diff"], *other["ci"]), abs=1e-12)
    assert found.win_rate == pytest.approx((other["win_rate"], *other["win_ci"]), abs=1e-12)
    assert found.prompts == 12
    assert found.clips == 36


def test_scores_without_bounds_have_the_t_interval_of_one_clip_a_prompt():
    """With many clips the trial that is counted besides those there were hardly counts."""
    rng = np.random.default_rng(1)
    n = 400
    before, after = rng.normal(3.0, 2.0, n), rng.normal(3.5, 2.0, n)
    names = [str(i) for i in range(n)]
    found = compare(scores(before, after, names, share=False))
    both = np.concatenate([before, after])
    for interval, values, scale in (
        (found.before, before, np.ptp(both) / 2),
        (found.after, after, np.ptp(both) / 2),
        (found.difference, after - before, np.ptp(both)),
    ):
        variance = values.var(ddof=1) / n + (scale / n) ** 2
        low, high = stats.t.interval(0.95, n - 1, values.mean(), np.sqrt(variance))
        assert interval == pytest.approx((values.mean(), low, high), abs=1e-9)
        narrow = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
        assert interval.low == pytest.approx(narrow[0], abs=0.02)


def test_a_judges_other_unit_changes_nothing():
    before, after, names = drawn(2, 10, 2)
    plain = compare(scores(before, after, names, share=False))
    scaled = compare(scores(7 - 40 * before, 7 - 40 * after, names, share=False))
    assert scaled.difference.mean == pytest.approx(-40 * plain.difference.mean)
    assert scaled.difference.low == pytest.approx(-40 * plain.difference.high)
    assert (scaled.won, scaled.tied, scaled.lost) == (plain.lost, plain.tied, plain.won)


def test_verdicts_have_wilsons_interval_of_prompts():
    """All accepted: a rate of 1 counts prompts, not clips."""
    names = [str(i) for i in range(30) for _ in range(4)]
    found = compare(scores(np.zeros(120), np.ones(120), names, dimension="accept"))
    assert found.after.mean == found.difference.mean == found.win_rate.mean == 1.0
    wilson = proportion_confint(30, 30, 0.05, method="wilson")
    assert found.after.low == pytest.approx(wilson[0], abs=0.02)
    assert (found.won, found.tied, found.lost) == (120, 0, 0)


def test_ties_count_as_half_and_are_counted():
    before = [0.50, 0.50, 0.50, 0.50]
    after = [0.504, 0.50, 0.60, 0.40]
    found = compare(scores(before, after, list("abcd")))
    assert (found.won, found.tied, found.lost) == (1, 2, 1)
    assert found.win_rate.mean == 0.5
    # of scores from 0 to 1000 one of 4 is a tie as well
    wide = scores([500, 500, 0, 0], [504, 510, 1000, 0], list("abcd"), share=False)
    assert (compare(wide).won, compare(wide).tied) == (2, 2)


def test_clips_without_a_score_are_left_out_of_both_and_counted():
    found = compare(scores([0.1, NAN, 0.3, 0.4], [0.2, 0.9, NAN, 0.6], list("abcc")))
    assert (found.clips, found.unscored, found.prompts) == (2, 2, 2)
    assert found.before.mean == pytest.approx(0.25)
    nothing = scores([NAN], [0.5], ["a"])
    assert compare(nothing) is None
    assert comparison_json(nothing)["unscored"] == 1
    assert comparison_table([nothing]).rows[0][2:] == [None, None, None, None, 0, 0, 0, 0, 1]


def test_models_that_do_not_differ_are_not_certain_to():
    before, _, names = drawn(3, 8, 1)
    found = compare(scores(before, before, names, share=False))
    assert found.difference.mean == 0
    assert found.difference.low < 0 < found.difference.high
    assert found.win_rate.mean == 0.5


def test_a_single_prompt_bounds_nothing_and_is_still_json():
    one = scores([1.0, 2.0], [2.0, 4.0], ["a", "a"], share=False)
    assert compare(one).difference[1:] == (-np.inf, np.inf)
    text = json.dumps(comparison_json(one), allow_nan=False)
    assert json.loads(text)["difference"] == {"mean": 1.5, "ci": [None, None]}


def test_categories_are_compared_within_themselves():
    before, after, names = drawn(4, 6, 2)
    kinds = ["motion", "motion", "colour", "colour", "motion", "motion"] * 2
    every = scores(before, after, names, categories=kinds)
    found = by_category(every)
    assert list(found) == ["motion", "colour"]
    rows = [i for i, kind in enumerate(kinds) if kind == "colour"]
    alone = compare(scores(before[rows], after[rows], [names[i] for i in rows]))
    assert found["colour"] == alone
    table = category_table([every])
    assert [row[0] for row in table.rows] == ["motion", "colour"]
    assert [row[2] for row in table.rows] == [8, 4]
    assert category_table([scores(before, after, names)]) is None


def test_the_table_says_shares_in_per_cent_and_others_as_they_are():
    shares = scores([0.0, 0.0, 1.0], [1.0, 0.0, 1.0], list("abc"), dimension="accept")
    other = scores([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], list("abc"), share=False)
    text = comparison_table([shares, other]).to_text()
    assert "33.3 [" in text
    assert "+33.3 [" in text
    assert "+1.00 [" in text
    assert comparison_table([shares]).rows[0][6:] == [1, 2, 0, 3, 0]


def test_shares_out_of_their_range_are_refused():
    with pytest.raises(ValueError, match="judge: motion_quality is no share"):
        scores([0.5], [1.5], ["a"])
