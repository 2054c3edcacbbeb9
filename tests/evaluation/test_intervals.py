"""Clustered intervals against closed forms, the bootstrap, and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from vidpref.evaluation.intervals import clustered_mean


def _clips(seed: int = 0, prompts: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Unbalanced 0/1 clips with a strong effect of the prompt."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, prompts)
    rates = np.repeat(rng.beta(1.5, 1.5, prompts), sizes)
    clusters = np.repeat(np.arange(prompts), sizes)
    return rng.binomial(1, rates).astype(np.float64), clusters


def test_one_way_is_the_sandwich_of_an_intercept_regression():
    values, prompts = _clips()
    x = np.ones((len(values), 1))
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ x.T @ values
    residuals = values - x @ beta
    groups, n = len(np.unique(prompts)), len(values)
    scores = [x[prompts == g].T @ residuals[prompts == g] for g in range(groups)]
    meat = sum(np.outer(s, s) for s in scores)
    correction = groups / (groups - 1) * (n - 1) / (n - 1)  # CR1 with one parameter
    error = np.sqrt(correction * (bread @ meat @ bread)[0, 0])
    half = stats.t.ppf(0.975, groups - 1) * error
    expected = (beta[0], beta[0] - half, beta[0] + half)
    np.testing.assert_allclose(clustered_mean(values, prompts), expected, rtol=1e-12)


def test_single_clips_give_the_t_interval_of_a_mean():
    values, _ = _clips()
    result = clustered_mean(values, np.arange(len(values)))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(result[1:], (expected.low, expected.high), rtol=1e-12)


def test_one_way_agrees_with_the_cluster_bootstrap():
    values, prompts = _clips(1, prompts=80)
    sums, sizes = np.bincount(prompts, values), np.bincount(prompts)
    draws = np.random.default_rng(0).integers(0, 80, (4000, 80))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    result = clustered_mean(values, prompts)
    np.testing.assert_allclose((result.low, result.high), (low, high), atol=0.15 * (high - low))
    naive = 1.96 * values.std() / np.sqrt(len(values))
    assert (result.high - result.low) / 2 > 1.3 * naive  # the clusters matter here


def test_two_ways_is_the_sum_over_pairs_that_share_a_seed_or_a_prompt():
    rng = np.random.default_rng(2)
    seeds, prompts = (a.ravel() for a in np.meshgrid(np.arange(6), np.arange(9), indexing="ij"))
    keep = rng.uniform(size=54) < 0.9
    seeds, prompts = np.repeat(seeds[keep], 2), np.repeat(prompts[keep], 2)
    values = 0.5 + rng.normal(0, 0.04, 6)[seeds] + rng.normal(0, 0.04, 9)[prompts]
    values += rng.normal(0, 0.02, len(values))
    u, n = values - values.mean(), len(values)
    cells = len({(s, p) for s, p in zip(seeds, prompts, strict=True)})
    total = 0.0
    for i in range(n):
        for j in range(n):
            same_seed, same_prompt = seeds[i] == seeds[j], prompts[i] == prompts[j]
            weight = same_seed * 6 / 5 + same_prompt * 9 / 8
            weight -= (same_seed and same_prompt) * cells / (cells - 1)
            total += weight * u[i] * u[j] / n**2
    half = stats.t.ppf(0.975, 5) * np.sqrt(total)
    result = clustered_mean(values, prompts, seeds)
    np.testing.assert_allclose((result.high - result.low) / 2, half, rtol=1e-10)
    swapped = clustered_mean(values, seeds, prompts)
    np.testing.assert_allclose(swapped, result, rtol=1e-10)


def test_two_ways_never_fall_below_one_way():
    # Equal prompt means in every seed: the interaction exceeds the variance by prompt.
    seeds, prompts = np.repeat([0, 1], 2), np.tile([0, 1], 2)
    values = np.array([0.2, 0.8, 0.7, 0.4])
    result = clustered_mean(values, prompts, seeds)
    one_way = clustered_mean(values, seeds)
    assert result.high - result.low >= one_way.high - one_way.low - 1e-12
    u = values - values.mean()
    by_seed = 2 * np.square([u[0] + u[1], u[2] + u[3]]).sum() / 16
    by_prompt = 2 * np.square([u[0] + u[2], u[1] + u[3]]).sum() / 16
    cells = 4 / 3 * np.square(u).sum() / 16
    assert by_seed + by_prompt - cells < max(by_seed, by_prompt)  # so that the floor is in force


def test_one_seed_is_an_interval_over_prompts():
    values, prompts = _clips()
    one_seed = clustered_mean(values, prompts, np.zeros(len(values), np.int64))
    assert one_seed == clustered_mean(values, prompts)


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("prompts", [1, 2, 40])
def test_unanimous_prompts_get_the_wilson_interval_of_as_many_trials(rate, prompts):
    clusters = np.repeat(np.arange(prompts), 4)
    result = clustered_mean(np.full(len(clusters), rate), clusters)
    trial = stats.binomtest(int(rate * prompts), prompts).proportion_ci(method="wilson")
    np.testing.assert_allclose(result[1:], (trial.low, trial.high), atol=1e-12)


@pytest.mark.parametrize(
    ("values", "prompts"),
    [
        (np.array([0.0, 1.0, 1.0]), np.array([0, 0, 0])),  # one prompt
        (np.array([0.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 1])),  # prompts exactly alike
    ],
)
def test_no_variation_between_prompts_is_not_certainty(values, prompts):
    for bounds in ((0.0, 1.0), (-1.0, 1.0)):
        result = clustered_mean(values, prompts, bounds=bounds)
        assert bounds[0] <= result.low < result.mean < result.high <= bounds[1]
        assert result.high - result.low > 0.5  # one or two prompts say little


def test_more_equal_prompts_narrow_the_interval():
    widths = [
        np.subtract(*clustered_mean(np.zeros(n), np.arange(n), bounds=(-1.0, 1.0))[:0:-1])
        for n in (1, 5, 50, 500)
    ]
    assert widths == sorted(widths, reverse=True)
    assert 0 < widths[-1] < 0.02


def test_truncated_to_bounds():
    result = clustered_mean(np.array([0.0, 0.0, 1.0]), np.arange(3))
    assert (result.low, result.high) == (0.0, 1.0)


def test_no_clips():
    with pytest.raises(ValueError, match="no clips"):
        clustered_mean(np.zeros(0), np.zeros(0, np.int64))


def _covers(interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def test_coverage_over_prompts():
    rng = np.random.default_rng(3)
    prompts = np.repeat(np.arange(40), 4)
    hits = []
    for _ in range(1200):
        rates = np.repeat(rng.beta(1.2, 1.8, 40), 4)
        hits.append(_covers(clustered_mean(rng.binomial(1, rates) * 1.0, prompts), 0.4))
    assert 0.92 < np.mean(hits) < 0.98


@pytest.mark.parametrize(
    ("seed_sd", "prompt_sd", "most"),
    # Two degrees of freedom are too few, hence conservative, where prompts vary much as well.
    [(0.06, 0.01, 0.98), (0.06, 0.05, 0.98), (0.06, 0.10, 1.0), (0.0, 0.10, 1.0)],
)
def test_coverage_over_seeds_and_prompts(seed_sd, prompt_sd, most):
    rng = np.random.default_rng(4)
    seeds, prompts = (np.repeat(a.ravel(), 2) for a in np.indices((3, 30)))
    hits, prompt_only = [], []
    for _ in range(600):
        values = 0.2 + rng.normal(0, seed_sd, 3)[seeds] + rng.normal(0, prompt_sd, 30)[prompts]
        values = np.clip(values + rng.normal(0, 0.1, len(values)), -1, 1)
        hits.append(_covers(clustered_mean(values, prompts, seeds, bounds=(-1.0, 1.0)), 0.2))
        prompt_only.append(_covers(clustered_mean(values, prompts, bounds=(-1.0, 1.0)), 0.2))
    assert 0.92 < np.mean(hits) <= most
    if seed_sd:
        assert np.mean(prompt_only) < 0.85  # what clustering by prompt alone would have claimed
