"""Every level against scipy on tables that pandas makes by itself."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vidpref.evaluation.correlation_levels import LEVELS, level_correlations


def tables(policies=4, prompts=12, each=3):
    """Clips of policies and prompts, what people say, and two proxies of it."""
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product([range(policies), range(prompts), range(each)])
    policy, prompt, _ = (index.get_level_values(i).to_numpy() for i in range(3))
    clips = pd.DataFrame(
        {
            "policy": [f"policy {i}" for i in policy],
            "prompt": [f"prompt {i // 2}" for i in prompt],
            "split": np.where(prompt % 2, "test", "train"),  # the same texts in both
            "category": np.where(prompt < 4, "FD", "DM"),
        }
    )
    good = rng.standard_normal(policies)[policy] + rng.standard_normal(prompts)[prompt]
    good += rng.standard_normal(len(clips))
    truth = pd.DataFrame({"look": good, "accept": (good > 0).astype(float)})
    proxies = pd.DataFrame({"judge": good + rng.standard_normal(len(clips)), "flow": -(good**2)})
    return clips, truth, proxies


def of(found, level, proxy="judge", truth="look", category=""):
    (one,) = [
        one
        for one in found
        if (one.level, one.proxy, one.truth, one.category) == (level, proxy, truth, category)
    ]
    return one


def test_each_level_is_scipys_of_the_means_of_pandas():
    clips, truth, proxies = tables()
    found = level_correlations(clips, truth, proxies)
    assert [*dict.fromkeys(one.level for one in found)] == list(LEVELS)
    assert len(found) == 2 * 2 * (4 + 2)
    prompt = clips["split"] + clips["prompt"]
    whole = pd.concat([truth, proxies], axis=1)
    expected = {
        "clips": (whole, 12),
        "prompts": (whole.groupby(prompt).mean(), 12),
        "policies": (whole.groupby(clips["policy"]).mean(), 4),
    }
    for level, (table, clusters) in expected.items():
        for proxy in proxies:
            for name in truth:
                one = of(found, level, proxy, name)
                r, rho = (f(table[proxy], table[name]) for f in (stats.pearsonr, stats.spearmanr))
                assert (one.n, one.clusters, one.note) == (len(table), clusters, "")
                np.testing.assert_allclose(one.correlation, [*r, *rho], rtol=1e-8)
                assert one.interval.low < one.interval.mean < one.interval.high
    apart = whole - whole.groupby(prompt).transform("mean")
    one = of(found, "within prompts")
    assert (one.n, one.clusters) == (144, 12)
    r = stats.pearsonr(apart["judge"], apart["look"]).statistic
    assert one.correlation.pearson == pytest.approx(r)
    assert one.correlation.pearson_p == pytest.approx(
        2 * stats.t.sf(r * np.sqrt(131 / (1 - r**2)), 131), rel=1e-6
    )
    few = of(found, "clips by category", category="FD")
    own = whole[clips["category"] == "FD"]
    assert (few.n, few.clusters) == (48, 4)
    assert few.correlation.pearson == pytest.approx(np.corrcoef(own["judge"], own["look"])[0, 1])


def test_clips_without_a_number_do_not_count_and_single_clips_say_nothing_within():
    clips, truth, proxies = tables()
    first = (clips["prompt"] == "prompt 0") & (clips["split"] == "train")
    rest = np.flatnonzero(first)[1:]
    proxies.loc[rest, "judge"] = np.nan
    truth.loc[len(truth) - 1, "look"] = np.nan
    found = level_correlations(clips, truth, proxies)
    assert of(found, "clips").n == 144 - 11 - 1
    assert of(found, "clips", "flow").n == 143
    within = of(found, "within prompts")
    assert (within.n, within.clusters) == (144 - 12 - 1, 11)
    assert of(found, "prompts").n == 12


def test_levels_without_their_column_are_left_out():
    clips, truth, proxies = tables(policies=2)
    levels = {one.level for one in level_correlations(clips, truth, proxies)}
    assert levels == set(LEVELS) - {"policies"}
    (one, *_) = found = level_correlations(clips[[]], truth, proxies)
    assert {one.level for one in found} == {"clips"}
    assert one.clusters == one.n == 72


def test_why_there_is_no_number():
    clips, truth, proxies = tables(policies=3)
    constant = pd.DataFrame({"constant": np.full(len(clips), 3.0)})
    found = level_correlations(clips, truth, constant)
    for one in found:
        assert np.isnan([*one.correlation, *one.interval]).all()
    assert of(found, "clips", "constant").note == "constant: the same for all"
    assert of(found, "within prompts", "constant").note == "constant: the same within each prompt"
    proxies.loc[clips["category"] == "FD", "flow"] = np.nan
    lost = of(level_correlations(clips, truth, proxies), "clips by category", "flow", category="FD")
    assert (lost.n, lost.note) == (0, "too few")
    few = level_correlations(clips[:2], truth[:2], proxies[:2])
    assert of(few, "clips").note == "too few"
    assert of(level_correlations(clips, truth, proxies), "policies").note.startswith("too little")
    with pytest.raises(ValueError, match="no clips"):
        level_correlations(clips[:0], truth[:0], proxies[:0])
