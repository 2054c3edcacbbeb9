"""Accuracy of a judge as a picture: with and without ties, with intervals and what chance gives."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from vidpref.evaluation.judge_accuracy import JudgeAccuracy
from vidpref.evaluation.svg import PALETTE
from vidpref.files import whole_file

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
}


def draw_accuracy(path: Path, found: Sequence[JudgeAccuracy], title: str) -> None:
    """Writes a PNG with a line a dimension: accuracy with ties on the left, without on the right.

    Args:
        path: the picture.
        found: the judge in each dimension.
        title: above the picture, such as the judge and the benchmark.
    """
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(9.0, 1.9 + 0.45 * len(found)), layout="constrained", dpi=150)
        canvas.get_layout_engine().set(wspace=0.06)
        canvas.suptitle(title, x=0.01, horizontalalignment="left", fontsize=12)
        left, right = canvas.subplots(1, 2, sharey=True)
        _panel(left, found, with_ties=True)
        _panel(right, found, with_ties=False)
        left.set_yticks(range(len(found)), [_label(one) for one in found])
        left.set_ylim(len(found) - 0.5, -0.5)
        handles, labels = left.get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        with whole_file(path) as temporary:
            canvas.savefig(temporary, format="png")


def _panel(axes: Axes, found: Sequence[JudgeAccuracy], *, with_ties: bool) -> None:
    rows = [
        (y, one.with_ties if with_ties else one.without_ties)
        for y, one in enumerate(found)
        if with_ties or one.without_ties is not None
    ]
    middles = [interval.mean for _, interval in rows]
    whiskers = [
        [interval.mean - interval.low for _, interval in rows],
        [interval.high - interval.mean for _, interval in rows],
    ]
    places = [y for y, _ in rows]
    axes.errorbar(
        middles, places, xerr=whiskers, fmt="o", color=PALETTE[1], capsize=3, label="judge, 95 %"
    )  # fmt: skip
    chance = [one.random if with_ties else 0.5 for one in found]
    axes.scatter(
        chance, range(len(found)), marker="|", s=220, color=PALETTE[5], linewidths=2, label="random"
    )  # fmt: skip
    if with_ties:
        official = [one.official for one in found]
        axes.scatter(
            official, range(len(found)), marker="D", s=26, facecolors="none",
            edgecolors=PALETTE[3], linewidths=1.3, zorder=3, label="official search",
        )  # fmt: skip
    for y, interval in rows:
        axes.annotate(
            f"{100 * interval.mean:.1f}", (interval.mean, y), xytext=(0, 7),
            textcoords="offset points", horizontalalignment="center", fontsize=9,
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y", visible=False)
    axes.set_title("accuracy with ties" if with_ties else "accuracy without ties", loc="left")


def _label(one: JudgeAccuracy) -> str:
    return f"{one.dimension.replace('_', ' ')}\n{one.votes} votes, {100 * one.ties:.0f} % ties"
