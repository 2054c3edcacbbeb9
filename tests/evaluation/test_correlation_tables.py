"""Correlations as tables, as numbers and as a picture."""

import io

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from vidpref.evaluation.correlation import correlation, pearson_interval
from vidpref.evaluation.correlation_figure import draw_correlations
from vidpref.evaluation.correlation_levels import LevelCorrelation, level_correlations
from vidpref.evaluation.correlation_tables import correlation_frame, correlation_tables


@pytest.fixture(scope="module")
def found() -> list[LevelCorrelation]:
    rng = np.random.default_rng(0)
    clips = pd.DataFrame({"prompt": np.repeat([*"abcdefgh"], 5), "category": 20 * ["DM", "own"]})
    truth = pd.DataFrame({"visual_quality": rng.standard_normal(40)})
    proxies = pd.DataFrame({"judge.look": truth["visual_quality"] + rng.standard_normal(40)})
    proxies["judge.zero"] = 0.0
    proxies.loc[3, "judge.look"] = np.nan
    return level_correlations(clips, truth, proxies)


def test_a_table_a_level_with_dashes_and_why(found):
    tables = correlation_tables(found)
    titles = ["Clips", "Within prompts", "Prompts", "Clips by category"]
    assert [table.title for table in tables] == titles
    clips = tables[0]
    first, constant = clips.rows
    one = found[0]
    assert clips.columns == [
        *("Truth", "Score", "Clips", "Prompts", "Pearson", "p", "Spearman", "p ", "Note")
    ]
    assert first[:4] == ["visual quality", "judge.look", 39, 8]
    r, low, high = one.interval
    assert str(first[4]) == f"{r:+.2f} [{low:+.2f}, {high:+.2f}]"
    assert first[5] == float(f"{one.correlation.pearson_p:.1e}")
    assert constant[4:] == [*4 * [None], "judge.zero: the same for all"]
    assert "| judge.zero | 40 | 8 | – | – | – | – | judge.zero: the same" in clips.to_markdown()
    assert "n - prompts - 1 degrees of freedom" in tables[1].caption
    assert [row[0] for row in tables[3].rows[::2]] == ["directional movement", "own"]


def test_numbers_are_unrounded(found):
    file = io.StringIO(correlation_frame(found).to_csv(index=False))
    read = pd.read_csv(file)
    assert list(read) == [
        *("level", "category", "proxy", "truth", "n", "clusters", "pearson", "pearson_p"),
        *("spearman", "spearman_p", "pearson_low", "pearson_high", "note"),
    ]
    assert len(read) == len(found) == 10
    for one, row in zip(found, read.itertuples(), strict=True):
        numbers = (row.pearson, row.pearson_p, row.spearman, row.spearman_p)
        np.testing.assert_allclose(numbers, one.correlation, rtol=1e-12)
        np.testing.assert_allclose(
            (row.pearson_low, row.pearson_high), one.interval[1:], rtol=1e-12
        )
    assert read["note"].notna().sum() == 5


def test_the_picture_has_a_panel_a_level_and_category(found, tmp_path):
    whole, clips = tmp_path / "whole.png", tmp_path / "clips.png"
    draw_correlations(whole, found, "a judge against people, " * 12)
    draw_correlations(clips, found[:2], "a judge against people")
    sizes = [PIL.Image.open(path).size for path in (whole, clips)]
    assert sizes[0][0] == sizes[1][0] == 1350
    assert sizes[0][1] > 1.5 * sizes[1][1]  # five panels, three beside each other
    # a point lies where r is: the blue of the first score left of the middle, or right of it
    for sign in (-1, 1):
        x = np.linspace(-1, 1, 9)
        y = sign * x + np.array([0.1, -0.1, 0.1, -0.1, 0, -0.1, 0.1, -0.1, 0.1])
        interval = pearson_interval(x, y, np.arange(9))
        one = LevelCorrelation("clips", "", "p", "t", 9, 9, correlation(x, y), interval, "")
        draw_correlations(clips, [one], "")
        pixels = np.asarray(PIL.Image.open(clips).convert("RGB"), np.int64)
        blue = np.abs(pixels - (0x1F, 0x86, 0xC8)).sum(axis=-1) < 30
        panel = blue[: len(blue) * 2 // 3, :500]  # without the legend
        where = np.flatnonzero(panel.any(axis=0)).mean()
        assert (where > 300) == (sign > 0)
