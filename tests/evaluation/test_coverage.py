"""How often intervals hold the truth, by simulation: over seeds and prompts, and of rare events.

    pytest -m slow -s tests/evaluation/test_coverage.py    # prints the whole table

Standard deviations are in points of acceptance. Measured for paired differences after a round: clip
40 to 44, seed x prompt 16 to 24, prompt 14 to 18, training seed 0 to 2.6.
"""

import itertools

import numpy as np
import pytest

from vidpref.evaluation.intervals import Spread, clustered_rate, clustered_spread

CLIPS = 8


def coverage(seeds, prompts, seed_sd, prompt_sd, cell_sd, *, runs, level=0.95, rng):
    """Share of intervals that hold the truth, and their mean half width over the smallest right
    one; values as normal, given as mean squares, whose distribution is known exactly.
    """
    both = cell_sd**2  # of a cell's mean, clips included
    by_prompt, by_seed = both + seeds * prompt_sd**2, both + prompts * seed_sd**2
    free = prompts - 1

    def squares(expected, freedom):
        return expected * rng.chisquare(freedom, runs) / freedom / (seeds * prompts)

    spread = Spread(
        squares(by_seed, seeds - 1),
        squares(by_prompt, free),
        squares(both, (seeds - 1) * free),
        seeds,
        prompts,
    )
    error = np.sqrt((by_seed + by_prompt - both) / (seeds * prompts))
    half = spread.half_width(level)
    return np.mean(np.abs(rng.normal(0, error, runs)) < half), np.mean(half) / (1.96 * error)


def _cells(seed_sds):
    """Standard deviations (seed, prompt, cell) in points; a cell has the mean of 8 clips."""
    for seed_sd, prompt_sd, both_sd in itertools.product(seed_sds, (10, 16, 25), (12, 20)):
        yield seed_sd, prompt_sd, np.sqrt(both_sd**2 + 42**2 / CLIPS)


# (seeds, least and most coverage in per cent, over training seeds that differ by 0 to 3 points)
EXPECTED = {2: (89, 98.6), 3: (93, 98.3), 5: (94, 97.7), 8: (94, 97.5)}


@pytest.mark.parametrize("seeds", EXPECTED)
def test_over_seeds_and_prompts(seeds):
    rng = np.random.default_rng(seeds)
    low, high = EXPECTED[seeds]
    for sds in _cells((0, 1.5, 3)):
        found, _ = coverage(seeds, 213, *sds, runs=20000, rng=rng)
        assert low - 0.5 < 100 * found < high + 0.5, sds


def test_clips_are_covered_as_their_mean_squares_are():
    """The same from clips, through the function that reads them."""
    rng = np.random.default_rng(0)
    of_seed, of_prompt = (np.repeat(a.ravel(), 2) for a in np.indices((5, 40)))
    hits = []
    for _ in range(1500):
        values = rng.normal(0, 0.03, 5)[of_seed] + rng.normal(0, 0.16, 40)[of_prompt]
        values += rng.normal(0, 0.2, (5, 40))[of_seed, of_prompt] + rng.normal(0, 0.42, 400)
        half = clustered_spread(values, of_prompt, of_seed).half_width()
        hits.append(abs(values.mean()) < half)
    assert 0.93 < np.mean(hits) < 0.98


def test_missing_clips_do_not_spoil_it():
    rng = np.random.default_rng(1)
    of_seed, of_prompt = (np.repeat(a.ravel(), 2) for a in np.indices((5, 40)))
    hits = []
    for _ in range(1000):
        values = rng.normal(0, 0.03, 5)[of_seed] + rng.normal(0, 0.16, 40)[of_prompt]
        values += rng.normal(0, 0.42, 400)
        keep = rng.uniform(size=400) < 0.8
        part = values[keep], of_prompt[keep], of_seed[keep]
        hits.append(abs(part[0].mean()) < clustered_spread(*part).half_width())
    assert 0.93 < np.mean(hits) < 0.985


@pytest.mark.parametrize(("rate", "concentration"), [(0.01, 2.0), (0.03, 1.0), (0.4, 3.0)])
def test_rates_of_correlated_clips(rate, concentration):
    """Beta-distributed prompts; a correlation of 1 / (1 + concentration) within them."""
    rng = np.random.default_rng(2)
    prompts = np.repeat(np.arange(213), 4)
    hits = []
    for _ in range(1000):
        rates = rng.beta(rate * concentration, (1 - rate) * concentration, 213)
        found = clustered_rate(rng.binomial(1, rates[prompts]) * 1.0, prompts)
        hits.append(found.low <= rate <= found.high)
    assert 0.925 < np.mean(hits) < 0.995


@pytest.mark.slow
def test_the_whole_table(capsys):
    rng = np.random.default_rng(3)
    lines = ["seeds prompts   seed prompt cell   95 %   90 %  width"]
    for seeds, prompts in itertools.product(EXPECTED, (40, 213)):
        for sds in _cells((0, 1, 2, 3, 5, 10, 20)):
            found, width = coverage(seeds, prompts, *sds, runs=100_000, rng=rng)
            narrow, _ = coverage(seeds, prompts, *sds, runs=100_000, level=0.9, rng=rng)
            lines.append(
                f"{seeds:5} {prompts:7} {sds[0]:6} {sds[1]:6} {sds[2]:4.0f} {100 * found:6.1f} "
                f"{100 * narrow:6.1f} {width:6.2f}"
            )
            assert found > (0.86 if seeds == 2 else 0.92 if seeds == 3 else 0.94), lines[-1]
            assert found < 0.99, lines[-1]
    with capsys.disabled():
        print("\n" + "\n".join(lines))
