"""Metrics over the steps of a training, and how the clips of one on fresh clips drift."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vidpref.evaluation import words
from vidpref.evaluation.svg import PALETTE, Figure, panel

_MOST_PANELS = 14
_OF_STEPS = ("grad_norm", "learning_rate", "param_norm", "update_norm")  # drawn last
_LETTERS = 36  # of a line of a small panel's title
_SMOOTH_FROM = 40  # points from which a curve also gets a running mean
_OF_CLIPS = _REWARD, _TRUTH, _LOOK = "reward/", "truth/", "look/"
_JUDGES = ("judge", "verifier")
_STYLES = ("-", "--", ":")


def training_curves(stage: str, records: Sequence[Mapping[str, Any]]) -> Figure:
    """Returns one small panel for each metric of a training stage.

    What a judge says of fresh clips is left to `drift_curves`.

    Args:
        stage: name of the stage, or of its folder.
        records: one mapping a logged step, with "step"; other keys are metrics, which need not be
            in every record. Values that are not finite are left out and counted in the caption.

    Raises:
        ValueError: a record has no "step".
    """
    series, dropped = _series(stage, records)
    series = {n: points for n, points in series.items() if not n.startswith(_OF_CLIPS)}
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


def drift_curves(stage: str, records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Returns how the clips that a policy drew to learn from changed; None where it drew none.

    A panel a dimension, in which the judge that the policy learns from stands beside the verifier
    where that looked too, and one of how the clips look, as shares of the first drawing.

    Args:
        stage, records: as for `training_curves`.

    Raises:
        ValueError: a record has no "step".
    """
    series, _ = _series(stage, records)
    looks = {n.removeprefix(_LOOK): points for n, points in series.items() if n.startswith(_LOOK)}
    if not looks:
        return None
    names = [n.partition("/")[2] for n in series if n.startswith((_REWARD, _TRUTH))]
    panels = []
    for name in dict.fromkeys(names):
        keys = dict(zip(_JUDGES, (f"{_REWARD}{name}", f"{_TRUTH}{name}"), strict=True))
        lines = {label: series[key] for label, key in keys.items() if key in series}
        panels.append(_together(stage, name, lines))
    shares = {
        name: (steps, values / values[0]) for name, (steps, values) in looks.items() if values[0]
    }
    panels.append(_together(stage, "look of the clips, to the first", shares))
    caption = (
        "Means over the clips that the policy drew, before each step that learns from new ones. "
        "Where the judge rises and the verifier falls, or the look drifts, the policy may be "
        "hacking its reward."
    )
    heading = f"{words.capital(words.stage(stage))}: the clips that it drew"
    return Figure(heading, "\n".join(panels), caption)


def _curve(stage: str, name: str, steps: np.ndarray, values: np.ndarray) -> str:
    label = f"{words.capital(words.metric(name))}, {words.stage(stage)}"
    with panel(label, width=3.4, height=2.3, ids=f"{stage}-{name}") as (axes, svg):
        _line(axes, steps, values, PALETTE[1])
        _dress(axes, words.metric(name))
        if np.ptp(values) == 0 and values[0] != 0:  # a constant, not noise around it
            axes.set_ylim(*sorted((0, 2 * values[0])))
    return svg[0]


def _together(stage: str, name: str, lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Several series in one panel."""
    title = name.replace("_", " ")
    label = f"{words.capital(title)} of drawn clips, {words.stage(stage)}"
    with panel(label, width=3.4, height=2.6, ids=f"{stage}-drawn-{name}") as (axes, svg):
        for place, (own, points) in enumerate(lines.items()):
            i = _JUDGES.index(own) if own in _JUDGES else place  # alike in all panels
            style = _STYLES[i % len(_STYLES)]
            _line(axes, *points, PALETTE[1 + i], style=style, label=own)
        _dress(axes, title)
        axes.figure.legend(loc="outside lower center", ncols=len(lines))
    return svg[0]


def _line(
    axes: Axes,
    steps: np.ndarray,
    values: np.ndarray,
    colour: str,
    *,
    style: str = "-",
    label: str | None = None,
) -> None:
    """The values, and with many their running mean, which then has the label."""
    many = len(steps) >= _SMOOTH_FROM
    alone = {} if many else {"label": label, "linestyle": style}
    marker = "" if len(steps) > 1 else "o"
    axes.plot(steps, values, color=colour, alpha=0.35 if many else 1, marker=marker, **alone)
    if many:
        mean = _running_mean(values)
        axes.plot(steps, mean, color=colour, linewidth=1.8, linestyle=style, label=label)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(textwrap.fill(words.capital(title), _LETTERS), loc="left")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
    axes.yaxis.get_offset_text().set(x=1, horizontalalignment="right")


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
