import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vidpref.evaluation.correlation import correlation, correlation_within, pearson_interval


def ranks(values):
    """Mean ranks, counted by hand."""
    return np.array([np.sum(values < v) + (np.sum(values == v) + 1) / 2 for v in values])


def test_r_and_rho_from_their_definitions():
    rng = np.random.default_rng(0)
    judge, people = rng.standard_normal(50), rng.integers(-1, 2, 50).astype(float)
    judge += people
    found = correlation(judge, people)
    assert found.pearson == pytest.approx(np.corrcoef(judge, people)[0, 1], abs=1e-12)
    rho = np.corrcoef(ranks(judge), ranks(people))[0, 1]
    assert found.spearman == pytest.approx(rho, abs=1e-12)
    assert 0 < found.pearson_p < 1e-3
    assert 0 < found.spearman_p < 1e-3


def test_p_is_the_share_of_orders_that_go_together_as_well():
    rng = np.random.default_rng(2)
    judge, people = rng.standard_normal(30), rng.standard_normal(30)
    people += 0.3 * judge
    found = correlation(judge, people)
    shuffled = [np.corrcoef(rng.permutation(judge), people)[0, 1] for _ in range(4000)]
    share = np.mean(np.abs(shuffled) >= abs(found.pearson))
    assert found.pearson_p == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("judge", [[1.0, 2.0], [1.0, 1.0, 1.0]])
def test_without_variation_there_is_none(judge):
    assert np.isnan(correlation(np.array(judge), np.arange(len(judge), dtype=float))).all()


def clips(seed=0, prompts=25, binary=False):
    """Scores of clips with effects of prompts that go against those of clips, and the prompts."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 7, prompts)
    codes = np.repeat(np.arange(prompts), sizes)
    easy = rng.standard_normal(prompts)[codes]
    people = easy + rng.standard_normal(len(codes))
    judge = -2 * easy + 0.5 * people + rng.standard_normal(len(codes))
    return judge, (people > 0).astype(float) if binary else people, codes


@pytest.mark.parametrize("binary", [False, True])
def test_within_prompts_is_the_regression_with_a_constant_for_each(binary):
    formula = pytest.importorskip("statsmodels.formula.api")
    judge, people, codes = clips(binary=binary)
    frame = pd.DataFrame({"x": judge, "y": people, "prompt": codes})
    fit = formula.ols("y ~ x + C(prompt)", frame).fit()
    found = correlation_within(judge, people, codes)
    t, free = fit.tvalues["x"], fit.df_resid
    assert free == len(codes) - codes.max() - 2
    assert found.pearson == pytest.approx(t / np.sqrt(t**2 + free), rel=1e-9)
    assert found.pearson_p == pytest.approx(fit.pvalues["x"], rel=1e-8)
    if not binary:
        assert correlation(judge, people).pearson < 0 < found.pearson  # prompts hide it


def test_rho_within_prompts_is_that_of_deviations_and_its_p_the_share_of_orders():
    judge, people, codes = clips(3, prompts=15)
    apart = pd.DataFrame({"x": judge, "y": people}).groupby(codes).transform(lambda c: c - c.mean())
    found = correlation_within(judge, people, codes)
    expected = np.corrcoef(ranks(apart["x"].to_numpy()), ranks(apart["y"].to_numpy()))[0, 1]
    assert found.spearman == pytest.approx(expected, abs=1e-9)
    rng, shuffled = np.random.default_rng(0), []
    for _ in range(1000):
        order = np.lexsort((rng.random(len(codes)), codes))  # each prompt's clips anew
        shuffled.append(stats.spearmanr(apart["x"].to_numpy()[order], apart["y"]).statistic)
    share = np.mean(np.abs(shuffled) >= abs(found.spearman))
    assert found.spearman_p == pytest.approx(share, abs=0.05)


def test_prompts_with_one_clip_say_nothing_within():
    judge, people, codes = clips(1)
    more = [np.concatenate([a, b]) for a, b in ((judge, [9.0]), (people, [-9.0]), (codes, [99]))]
    more[2] = more[2].astype(np.int64)
    assert correlation_within(*more) == correlation_within(judge, people, codes)


def test_what_is_alike_within_each_prompt_has_no_correlation_there():
    codes = np.repeat(np.arange(6), 3)
    judge = np.random.default_rng(0).standard_normal(18)
    alike = np.repeat([0.1, 0.7, 0.3, 1.1, 0.2, 0.9], 3)  # means of three are off by rounding
    assert np.isnan(correlation_within(judge, alike, codes)).all()
    assert not np.isnan(correlation(judge, alike)).any()
    assert np.isnan(correlation_within(judge, judge, np.arange(18))).all()


@pytest.mark.parametrize("binary", [False, True])
def test_the_interval_is_that_of_the_cluster_bootstrap(binary):
    judge, people, codes = clips(2, prompts=120, binary=binary)
    rows = [np.flatnonzero(codes == prompt) for prompt in range(120)]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(1500):
        chosen = np.concatenate([rows[prompt] for prompt in rng.integers(0, 120, 120)])
        drawn.append(np.corrcoef(judge[chosen], people[chosen])[0, 1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = pearson_interval(judge, people, codes)
    assert found.mean == pytest.approx(np.corrcoef(judge, people)[0, 1], abs=1e-12)
    np.testing.assert_allclose(found[1:], (low, high), atol=0.15 * (high - low))


def test_the_interval_is_that_of_r_taken_without_each_cluster():
    judge, people, codes = clips(4, prompts=9)
    z = [
        np.arctanh(np.corrcoef(judge[codes != out], people[codes != out])[0, 1]) for out in range(9)
    ]
    error = np.sqrt(8 * np.var(z))
    middle = np.arctanh(np.corrcoef(judge, people)[0, 1])
    expected = np.tanh(middle + stats.t.ppf([0.05, 0.95], 8) * error)
    found = pearson_interval(judge, people, codes, level=0.9)
    np.testing.assert_allclose(found[1:], expected, rtol=1e-9)
    shifted = pearson_interval(1e6 + judge, 5 - 3e-4 * people, codes, level=0.9)
    np.testing.assert_allclose(shifted[1:], -expected[::-1], rtol=1e-5)


def test_few_prompts_and_a_verdict_of_two_are_covered_as_often_as_is_said():
    rng, codes = np.random.default_rng(0), np.repeat(np.arange(12), 4)

    def draw(prompts):
        easy = np.repeat(rng.standard_normal(prompts), 4)
        good = easy + rng.standard_normal(len(easy))
        return -0.3 * easy + good + rng.standard_normal(len(easy)), (good > 0.5).astype(float)

    true, hits = np.corrcoef(*draw(100_000))[0, 1], []
    for _ in range(600):
        found = pearson_interval(*draw(12), codes)
        hits.append(found.low <= true <= found.high)
    assert 0.92 < np.mean(hits) < 0.98


def test_of_normal_numbers_the_interval_is_fishers():
    rng = np.random.default_rng(0)
    judge = rng.standard_normal(3000)
    people = 0.5 * judge + rng.standard_normal(3000)
    expected = stats.pearsonr(judge, people).confidence_interval(0.95)
    found = pearson_interval(judge, people, np.arange(3000))
    np.testing.assert_allclose(found[1:], expected, atol=0.1 * (expected.high - expected.low))


def test_little_says_nothing():
    judge, people = np.array([0.0, 1.0, 2.0, 4.0]), np.array([0.0, 1.0, 0.0, 1.0])
    assert pearson_interval(judge, people, np.array([0, 0, 1, 2]))[1:] == (-1.0, 1.0)
    once = np.array([0.0, 0.0, 0.0, 1.0])
    assert pearson_interval(judge, once, np.arange(4))[1:] == (-1.0, 1.0)
    assert np.isnan(pearson_interval(judge, np.ones(4), np.arange(4))).all()
    alike = pearson_interval(judge, 2 * judge + 1, np.arange(4))
    np.testing.assert_allclose(alike, (1.0, 1.0, 1.0), atol=1e-6)
