"""Correlations of automatic scores with people's as a picture: a panel a level and category."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from vidpref.evaluation.correlation_levels import CATEGORIES, LevelCorrelation
from vidpref.evaluation.judge_figure import STYLE
from vidpref.evaluation.svg import PALETTE
from vidpref.evaluation.words import category
from vidpref.files import whole_file

_ACROSS = 3  # panels beside each other
_COLOURS = PALETTE[1:]
_MARKERS = "osD^vP"  # after as many scores as there are colours, the next
_ROW = 0.14  # inches a point with its interval
_WIDTH = 9.0
_LINE, _HEADING = 100, 34  # characters in the width of the picture, and of a panel


def draw_correlations(path: Path, found: Sequence[LevelCorrelation], title: str) -> None:
    """Writes a PNG: for each dimension of the truth a point with its interval for each score.

    Args:
        path: the picture.
        found: of one level at least; those without a number have a cross on the line of zero.
        title: above the picture.
    """
    panels: dict[tuple[str, str], list[LevelCorrelation]] = {}
    for one in found:
        panels.setdefault((one.level, one.category), []).append(one)
    truths = list(dict.fromkeys(one.truth for one in found))
    proxies = list(dict.fromkeys(one.proxy for one in found))
    rows = -(-len(panels) // _ACROSS)
    high = 0.55 + max(_ROW * len(proxies) + 0.12, 0.34) * len(truths)
    legend = 0.3 * -(-(len(proxies) + 1) // _ACROSS)
    title = textwrap.fill(title, _LINE)
    with mpl.rc_context(STYLE):
        size = (_WIDTH, 0.5 + 0.2 * title.count("\n") + legend + rows * high)
        canvas = Canvas(figsize=size, layout="constrained", dpi=150)
        canvas.get_layout_engine().set(wspace=0.05)
        canvas.suptitle(title, x=0.01, horizontalalignment="left", fontsize=11)
        grid = canvas.subplots(rows, _ACROSS, sharex=True, sharey=True, squeeze=False)
        for axes, (key, own) in zip(grid.flat, panels.items(), strict=False):
            _panel(axes, own, truths, proxies)
            axes.set_title(_heading(*key, own), loc="left", fontsize=10)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        grid[0, 0].set_xlim(-1.02, 1.02)
        grid[0, 0].set_ylim(len(truths) - 0.5, -0.5)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        if any(math.isnan(one.interval.mean) for one in found):
            handles.append(Line2D([], [], color="black", marker="x", linestyle="", markersize=5))
            labels.append("no number: the tables say why")
        where = {"loc": "outside lower left", "ncols": _ACROSS, "frameon": False}
        canvas.legend(handles, labels, **where)
        with whole_file(path) as temporary:
            canvas.savefig(temporary, format="png")


def _panel(
    axes: Axes, found: Sequence[LevelCorrelation], truths: Sequence[str], proxies: Sequence[str]
) -> None:
    step = 0.8 / len(proxies)
    axes.axvline(0, color="black", linewidth=0.8)
    for edge in range(1, len(truths)):
        axes.axhline(edge - 0.5, color="black", alpha=0.12, linewidth=0.8)
    for number, proxy in enumerate(proxies):
        turn, place = divmod(number, len(_COLOURS))
        look = {"color": _COLOURS[place], "fmt": _MARKERS[turn % len(_MARKERS)]}
        own = [one for one in found if one.proxy == proxy]
        known = [one for one in own if not math.isnan(one.interval.mean)]
        r = [one.interval.mean for one in known]
        spread = [
            [one.interval.mean - one.interval.low for one in known],
            [one.interval.high - one.interval.mean for one in known],
        ]
        shift = (number - (len(proxies) - 1) / 2) * step
        heights = [truths.index(one.truth) + shift for one in known]
        axes.errorbar(
            r, heights, xerr=spread, markersize=4, elinewidth=1.3, label=proxy, **look
        )  # fmt: skip
        missing = [truths.index(one.truth) + shift for one in own if one not in known]
        axes.scatter([0] * len(missing), missing, marker="x", s=18, color=_COLOURS[place])
    axes.set_yticks(range(len(truths)), [name.replace("_", "\n") for name in truths])
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["-1", "-0.5", "0", "0.5", "1"])
    axes.tick_params(axis="y", length=0)
    axes.tick_params(labelbottom=True)
    axes.grid(axis="y", visible=False)


def _heading(level: str, of: str, found: Sequence[LevelCorrelation]) -> str:
    counts = sorted({one.n for one in found})
    many = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    name = f"clips: {category(of)}" if level == CATEGORIES else level
    return f"{textwrap.fill(name, _HEADING)} (n = {many})"
