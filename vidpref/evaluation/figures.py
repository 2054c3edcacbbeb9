"""Figures as inline SVG: training curves, categories, rounds. Text takes the colour of the page."""

import contextlib
import dataclasses
import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vidpref.evaluation import words
from vidpref.evaluation.rounds import by_method, split_round, title
from vidpref.evaluation.tables import SPLITS, baseline_of, splits_of

# Okabe and Ito's palette, told apart with any colour vision; its blue a little lighter, so that it
# stands out on dark pages as well.
PALETTE = ("#8c8c8c", "#1f86c8", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
_HATCHES = ("", "///", "...", "\\\\\\", "xx", "++", "oo")
_MARKERS = "osD^vPX"
_INK = "#010203"  # stands for the page's text colour until the SVG is written
_MOST_PANELS = 14
_OF_STEPS = ("grad_norm", "learning_rate", "param_norm", "update_norm")  # drawn last
_LETTERS = 36  # of a line of a small panel's title
_SMOOTH_FROM = 40  # points from which a curve also gets a running mean
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.color": _INK,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure for the page.

    Attributes:
        title: heading.
        svg: one or several `<svg>` elements, which the page sets side by side as space allows.
        caption: what one must know to read it.
    """

    title: str
    svg: str
    caption: str = ""


def training_curves(stage: str, records: Sequence[Mapping[str, Any]]) -> Figure:
    """Returns one small panel for each metric of a training stage.

    Args:
        stage: name of the stage, or of its folder.
        records: one mapping a logged step, with "step"; other keys are metrics, which need not be
            in every record. Values that are not finite are left out and counted in the caption.

    Raises:
        ValueError: a record has no "step".
    """
    series, dropped = _series(stage, records)
    shown = dict(list(series.items())[:_MOST_PANELS])
    panels = [_curve(stage, name, *points) for name, points in shown.items()]
    notes = [f"Folder: {stage}."]
    if any(len(steps) >= _SMOOTH_FROM for steps, _ in shown.values()):
        notes.append("Faint: as logged; strong: running mean.")
    if dropped:
        notes.append(f"Not drawn, because not finite: {dropped} values.")
    if len(series) > len(shown):
        left = ", ".join(words.metric(name) for name in list(series)[_MOST_PANELS:])
        notes.append(f"Not drawn: {left}.")
    return Figure(words.capital(words.stage(stage)), "\n".join(panels), " ".join(notes))


def category_bars(evaluation: Mapping[str, Any]) -> Figure:
    """Returns acceptance by category with 95 % intervals, one panel a split.

    Args:
        evaluation: result of `statistics.evaluation_json`.
    """
    panels = [_bars(evaluation, split) for split in splits_of(evaluation)]
    caption = "Accepted clips; the lines are 95 % intervals, clustered by prompt."
    return Figure("Acceptance by category", "\n".join(panels), caption)


def rounds_curve(evaluation: Mapping[str, Any]) -> Figure:
    """Returns acceptance against fine-tuning rounds (AIF Figure 5, left), one panel a split.

    Args:
        evaluation: result of `statistics.evaluation_json`; round 0 is the baseline.
    """
    panels = [_rounds(evaluation, split) for split in splits_of(evaluation)]
    caption = (
        "Accepted clips after each round of sampling, judging and tuning, with 95 % intervals."
    )
    return Figure("Acceptance against rounds", "\n".join(panels), caption)


def _curve(stage: str, name: str, steps: np.ndarray, values: np.ndarray) -> str:
    label = f"{words.capital(words.metric(name))}, {words.stage(stage)}"
    with _panel(label, width=3.4, height=2.3, ids=f"{stage}-{name}") as (axes, svg):
        many = len(steps) >= _SMOOTH_FROM
        marker = "" if len(steps) > 1 else "o"
        axes.plot(steps, values, color=PALETTE[1], alpha=0.35 if many else 1, marker=marker)
        if many:
            axes.plot(steps, _running_mean(values), color=PALETTE[1], linewidth=1.8)
        axes.set_title(textwrap.fill(words.capital(words.metric(name)), _LETTERS), loc="left")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
        axes.yaxis.get_offset_text().set(x=1, horizontalalignment="right")
        if np.ptp(values) == 0 and values[0] != 0:  # a constant, not noise around it
            axes.set_ylim(*sorted((0, 2 * values[0])))
    return svg[0]


def _bars(evaluation: Mapping[str, Any], split: str) -> str:
    results = {n: s[split] for n, s in evaluation["policies"].items() if split in s}
    names = sorted({c for entry in results.values() for c in entry["categories"]})
    thickness = 0.8 / len(results)
    heading = f"{SPLITS.get(split, split)} prompts".capitalize()
    height = 0.9 + 0.28 * len(names) * (len(results) + 0.6) + 0.22 * len(results)
    with _panel(f"Acceptance by category, {heading}", width=4.4, height=height) as (axes, svg):
        for i, (policy, entry) in enumerate(results.items()):
            found = [(j, entry["categories"][c]) for j, c in enumerate(names)
                     if c in entry["categories"]]  # fmt: skip
            at = [j + (i + 0.5) * thickness - 0.4 for j, _ in found]
            rates = np.array([e["accept"] for _, e in found])
            axes.barh(
                at, rates, thickness * 0.9, label=title(policy), color=PALETTE[i % len(PALETTE)],
                hatch=_HATCHES[i % len(_HATCHES)], edgecolor=_INK, linewidth=0.4,
                xerr=_whiskers([e for _, e in found]), ecolor=_INK,
                error_kw={"elinewidth": 1.1, "capsize": 2},
            )  # fmt: skip
        axes.set_yticks(range(len(names)), [words.category(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="y", visible=False)
        axes.set_title(heading, loc="left")
        axes.figure.legend(loc="outside lower center", ncols=min(3, len(results)))
    return svg[0]


def _rounds(evaluation: Mapping[str, Any], split: str) -> str:
    baseline = baseline_of(evaluation)
    policies = {n: s[split] for n, s in evaluation["policies"].items() if split in s}
    methods = by_method(policies, baseline)
    heading = f"{SPLITS.get(split, split)} prompts".capitalize()
    with _panel(f"Acceptance against rounds, {heading}", width=4.4, height=3.2) as (axes, svg):
        for i, (method, names) in enumerate(methods.items()):
            line = [(0, policies[baseline])] if baseline in policies else []
            line += [(split_round(n)[1], policies[n]) for n in names]
            shift = 0.04 * (i - (len(methods) - 1) / 2)  # keeps whiskers apart
            axes.errorbar(
                [r + shift for r, _ in line], [e["accept"] for _, e in line],
                yerr=_whiskers([e for _, e in line]), label=title(method),
                color=PALETTE[1 + i % (len(PALETTE) - 1)], marker=_MARKERS[i % len(_MARKERS)],
                capsize=3,
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("round")
        axes.set_title(heading, loc="left")
        axes.figure.legend(loc="outside lower center", ncols=min(3, len(methods)))
    return svg[0]


@contextlib.contextmanager
def _panel(
    label: str, *, width: float, height: float, ids: str = ""
) -> Iterator[tuple[Axes, list[str]]]:
    """Gives axes to draw on and a list that holds the finished SVG afterwards.

    `ids` begins the ids of its elements, which must be unique on a page; by default the label does.
    """
    svg: list[str] = []
    with mpl.rc_context(_STYLE | {"svg.hashsalt": label}):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        yield canvas.add_subplot(), svg
        svg.append(_inline_svg(canvas, label, ids or label))


def _inline_svg(canvas: Canvas, label: str, ids: str) -> str:
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    # Ids are only unique within one file; several figures share a page.
    prefix = re.sub(r"\W+", "-", ids)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    return text.replace("<svg ", str(Markup('<svg role="img" aria-label="{}" ').format(label)), 1)


def _series(
    stage: str, records: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    points: dict[str, list[tuple[float, float]]] = {}
    dropped = 0
    for record in records:
        if "step" not in record:
            raise ValueError(f"a metric record of {stage} has no 'step': {sorted(record)}")
        for name, value in record.items():
            if name == "step" or isinstance(value, bool | str) or value is None:
                continue
            if not math.isfinite(value):
                dropped += 1
                continue
            points.setdefault(name, []).append((float(record["step"]), float(value)))
    arrays = {name: np.array(sorted(p)).T for name, p in points.items()}
    names = list(arrays)
    order = sorted(names, key=lambda n: ("loss" not in n, n in _OF_STEPS, names.index(n)))
    return {name: (arrays[name][0], arrays[name][1]) for name in order}, dropped


def _running_mean(values: np.ndarray) -> np.ndarray:
    width = max(3, len(values) // 15) | 1
    kernel = np.ones(width)
    counts = np.convolve(np.ones(len(values)), kernel, "same")
    return np.convolve(values, kernel, "same") / counts


def _whiskers(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The lengths below and above of each entry's interval: [2, entries]."""
    rates = np.array([e["accept"] for e in entries])
    low, high = np.array([e["ci"] for e in entries]).T
    return np.maximum([rates - low, high - rates], 0.0)
