"""Intervals against statsmodels, scipy, closed forms and the bootstrap; nothing jumps at 0."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vidpref.evaluation.intervals import (
    clustered_mean,
    clustered_rate,
    clustered_spread,
    spread_of,
)


def _clips(seed: int = 0, prompts: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Unbalanced 0/1 clips with a strong effect of the prompt."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, prompts)
    rates = np.repeat(rng.beta(1.5, 1.5, prompts), sizes)
    clusters = np.repeat(np.arange(prompts), sizes)
    return rng.binomial(1, rates).astype(np.float64), clusters


def _crossed(seeds=4, prompts=12, clips=3, *, seed=0):
    """Values, prompts and seeds of a balanced design."""
    rng = np.random.default_rng(seed)
    of_seed, of_prompt = (np.repeat(a.ravel(), clips) for a in np.indices((seeds, prompts)))
    values = 0.1 + rng.normal(0, 0.08, seeds)[of_seed] + rng.normal(0, 0.1, prompts)[of_prompt]
    values += rng.normal(0, 0.05, (seeds, prompts))[of_seed, of_prompt]
    return values + rng.normal(0, 0.1, values.size), of_prompt, of_seed


def _width(interval) -> float:
    return interval.high - interval.low


def test_one_way_is_the_clustered_regression_of_statsmodels():
    regression = pytest.importorskip("statsmodels.api")
    values, prompts = _clips()
    fit = regression.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": prompts}
    )
    np.testing.assert_allclose(np.sqrt(spread_of(values, prompts).variance), fit.bse[0], rtol=1e-10)
    assert spread_of(values, prompts).freedom == 29


def test_single_clips_give_the_t_interval_of_a_mean():
    values, _ = _clips()
    spread = spread_of(values, np.arange(len(values)))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(2 * spread.half_width(), expected.high - expected.low, rtol=1e-12)
    narrow = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    np.testing.assert_allclose(2 * spread.half_width(0.9), narrow.high - narrow.low, rtol=1e-12)


def test_mean_squares_are_those_of_statsmodels():
    formula = pytest.importorskip("statsmodels.formula.api")
    from statsmodels.stats.anova import anova_lm

    values, prompts, seeds = _crossed()
    frame = pd.DataFrame({"y": values, "p": prompts, "s": seeds})
    cells = frame.groupby(["s", "p"], as_index=False)["y"].mean()
    table = anova_lm(formula.ols("y ~ C(s) + C(p)", cells).fit())
    found = spread_of(values, prompts, seeds)
    for part, row in ((found.seed, "C(s)"), (found.prompt, "C(p)"), (found.both, "Residual")):
        np.testing.assert_allclose(part, table.loc[row, "mean_sq"] / (4 * 12), rtol=1e-9)
    squares, free = table["mean_sq"].to_numpy(), table["df"].to_numpy()
    signs = np.array([1.0, 1.0, -1.0])
    variance = signs @ squares
    np.testing.assert_allclose(found.variance, variance / 48, rtol=1e-9)
    freedom = variance**2 / (squares**2 / free).sum()
    np.testing.assert_allclose(found.freedom, freedom, rtol=1e-9)


def test_the_variance_is_that_of_a_mixed_model():
    """Crossed effects by restricted likelihood: equal where no component is at its bound."""
    formula = pytest.importorskip("statsmodels.formula.api")
    values, prompts, seeds = _crossed(seed=1)
    frame = pd.DataFrame({"y": values, "p": prompts, "s": seeds, "all": 1})
    cells = frame.groupby(["s", "p", "all"], as_index=False)["y"].mean()
    parts = {"s": "0 + C(s)", "p": "0 + C(p)"}
    model = formula.mixedlm("y ~ 1", cells, groups="all", vc_formula=parts).fit(reml=True)
    found = spread_of(values, prompts, seeds)
    assert found.seed > 1.5 * found.both
    np.testing.assert_allclose(np.sqrt(found.variance), model.bse["Intercept"], rtol=0.02)


def test_seeds_that_do_not_differ_leave_the_prompts_interval():
    values, prompts, seeds = _crossed()
    table = values.reshape(4, 12, 3)
    alike = (table - table.mean((1, 2), keepdims=True)).ravel()
    found = spread_of(alike, prompts, seeds)
    assert found.seed == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(found.variance, spread_of(alike, prompts).variance, rtol=1e-10)


def test_seeds_and_prompts_may_be_exchanged():
    values, prompts, seeds = _crossed()
    one, other = spread_of(values, prompts, seeds), spread_of(values, seeds, prompts)
    np.testing.assert_allclose(
        [one.seed, one.prompt, one.both], [other.prompt, other.seed, other.both]
    )


def test_missing_cells_change_little_and_no_common_prompt_is_refused():
    values, prompts, seeds = _crossed(5, 60, 4)
    whole = spread_of(values, prompts, seeds)
    keep = np.random.default_rng(0).uniform(size=values.size) < 0.9
    part = spread_of(values[keep], prompts[keep], seeds[keep])
    np.testing.assert_allclose(part.variance, whole.variance, rtol=0.2)
    with pytest.raises(ValueError, match="5 training seeds without a prompt in common"):
        spread_of(values, prompts + 60 * seeds, seeds)


def test_one_seed_is_an_interval_over_prompts():
    values, prompts = _clips()
    for of in (clustered_mean, clustered_rate):
        assert of(values, prompts, np.zeros(len(values), np.int64)) == of(values, prompts)


def test_agrees_with_the_cluster_bootstrap():
    values, prompts = _clips(1, prompts=80)
    sums, sizes = np.bincount(prompts, values), np.bincount(prompts)
    draws = np.random.default_rng(0).integers(0, 80, (4000, 80))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    naive = 1.96 * values.std() / np.sqrt(len(values))
    for of in (clustered_mean, clustered_rate):
        result = of(values, prompts)
        np.testing.assert_allclose((result.low, result.high), (low, high), atol=0.15 * (high - low))
        assert _width(result) / 2 > 1.3 * naive  # the clusters matter here


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_a_rate_of_single_clips_is_near_scipys_wilson_interval(level):
    values = np.zeros(500)
    values[:20] = 1.0
    result = clustered_rate(values, np.arange(500), level=level)
    expected = stats.binomtest(20, 500).proportion_ci(level, method="wilson")
    np.testing.assert_allclose(result[1:], (expected.low, expected.high), rtol=0.02)


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("prompts", [1, 40, 200])
@pytest.mark.parametrize("seeds", [1, 5])
def test_unanimous_prompts_get_the_wilson_interval_of_as_many_trials(rate, prompts, seeds):
    of_seed, clusters = (np.repeat(a.ravel(), 4) for a in np.indices((seeds, prompts)))
    result = clustered_rate(np.full(len(clusters), rate), clusters, of_seed)
    z2 = (stats.norm.ppf(0.975) if prompts == 1 else stats.t.ppf(0.975, prompts - 1)) ** 2
    other = z2 / (prompts + z2)
    np.testing.assert_allclose(result[1:], (0, other) if rate == 0 else (1 - other, 1), atol=1e-12)
    if prompts > 1:
        trial = stats.binomtest(int(rate * prompts), prompts).proportion_ci(method="wilson")
        np.testing.assert_allclose(result[1:], (trial.low, trial.high), atol=0.1 * other)


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_no_cliff_where_policies_are_nearly_equal(seeds):
    of_seed, prompts = (np.repeat(a.ravel(), 4) for a in np.indices((seeds, 213)))
    differences = np.zeros(len(prompts))
    widths, rates = [], []
    for clip in range(40):  # clips that differ, each of another prompt and seed
        widths.append(_width(clustered_mean(differences, prompts, of_seed)))
        rates.append(clustered_rate(np.abs(differences), prompts, of_seed).high)
        differences[(clip * 4 * 71) % len(prompts)] = (-1) ** clip
    assert 0.001 < widths[0] < 0.006  # identical: a clip of 4 x 213 up or down
    assert min(widths) == widths[0]
    assert all(0.8 < b / a < 1.5 for a, b in itertools.pairwise(widths))
    assert rates[0] == pytest.approx(stats.t.ppf(0.975, 212) ** 2 / 213, rel=0.03)
    assert all(0.8 < b / a < 1.3 for a, b in itertools.pairwise(rates))
    tiny = clustered_mean(np.full(len(prompts), 1e-9), prompts, of_seed)
    assert _width(tiny) == pytest.approx(widths[0], rel=1e-4)


def test_seeds_are_not_trials_where_nothing_differs():
    widths = {}
    for seeds in (1, 2, 5):
        of_seed, prompts = (np.repeat(a.ravel(), 4) for a in np.indices((seeds, 50)))
        widths[seeds] = _width(clustered_mean(np.zeros(len(prompts)), prompts, of_seed))
    assert widths[2] == pytest.approx(widths[1])
    assert widths[5] == pytest.approx(widths[1])


def test_one_or_two_prompts_say_little():
    for values, prompts in (([0.0, 1.0, 1.0], [0, 0, 0]), ([0.0, 1.0, 0.0, 1.0], [0, 0, 1, 1])):
        values, prompts = np.array(values), np.array(prompts)
        assert clustered_mean(values, prompts)[1:] == (-1.0, 1.0)
        rate = clustered_rate(values, prompts)
        assert 0 <= rate.low < rate.mean < rate.high <= 1
        assert _width(rate) > 0.5


def test_more_equal_prompts_narrow_the_interval():
    for of in (clustered_mean, clustered_rate):
        widths = [_width(of(np.zeros(n), np.arange(n))) for n in (2, 5, 50, 500)]
        assert widths == sorted(widths, reverse=True)
        assert 0 < widths[-1] < 0.02


def test_truncated_to_bounds():
    result = clustered_mean(np.array([0.0, 0.0, 9.0]), np.arange(3), bounds=(0.0, 10.0))
    assert (result.low, result.high) == (0.0, 10.0)
    assert (result.mean, clustered_rate(np.array([0.0, 1.0]), np.arange(2)).mean) == (3.0, 0.5)


def test_no_clips():
    for of in (clustered_mean, clustered_rate):
        with pytest.raises(ValueError, match="no clips"):
            of(np.zeros(0), np.zeros(0, np.int64))


def test_other_numbers_of_seeds():
    values, prompts, seeds = _crossed(8, 300, 2)
    spread = clustered_spread(values, prompts, seeds)
    same = spread.at(8)
    np.testing.assert_allclose(
        [same.variance, same.freedom], [spread.variance, spread.freedom], rtol=1e-10
    )
    # variances of seeds, prompts and cells, as they enter the mean of 8 seeds and 300 prompts
    cell = spread.both * 8 * 300
    seed, prompt = 8 * (spread.seed - spread.both), 300 * (spread.prompt - spread.both)
    expected = seed / 4 + prompt / 300 + cell / (4 * 300)
    np.testing.assert_allclose(spread.at(4).variance, expected, rtol=1e-10)
    assert spread.at(80).variance < spread.variance / 3
    with pytest.raises(ValueError, match="one seed says nothing"):
        clustered_spread(values, prompts).at(3)
