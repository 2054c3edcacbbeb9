"""Figures of acceptance: categories and rounds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vidpref.evaluation import words
from vidpref.evaluation.rounds import by_method, split_round, title
from vidpref.evaluation.svg import INK, PALETTE, Figure, panel
from vidpref.evaluation.tables import SPLITS, baseline_of, splits_of

_HATCHES = ("", "///", "...", "\\\\\\", "xx", "++", "oo")
_MARKERS = "osD^vPX"


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


def _bars(evaluation: Mapping[str, Any], split: str) -> str:
    results = {n: s[split] for n, s in evaluation["policies"].items() if split in s}
    names = sorted({c for entry in results.values() for c in entry["categories"]})
    thickness = 0.8 / len(results)
    heading = f"{SPLITS.get(split, split)} prompts".capitalize()
    height = 0.9 + 0.28 * len(names) * (len(results) + 0.6) + 0.22 * len(results)
    with panel(f"Acceptance by category, {heading}", width=4.4, height=height) as (axes, svg):
        for i, (policy, entry) in enumerate(results.items()):
            found = [(j, entry["categories"][c]) for j, c in enumerate(names)
                     if c in entry["categories"]]  # fmt: skip
            at = [j + (i + 0.5) * thickness - 0.4 for j, _ in found]
            rates = np.array([e["accept"] for _, e in found])
            axes.barh(
                at, rates, thickness * 0.9, label=title(policy), color=PALETTE[i % len(PALETTE)],
                hatch=_HATCHES[i % len(_HATCHES)], edgecolor=INK, linewidth=0.4,
                xerr=_whiskers([e for _, e in found]), ecolor=INK,
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
    with panel(f"Acceptance against rounds, {heading}", width=4.4, height=3.2) as (axes, svg):
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


def _whiskers(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The lengths below and above of each entry's interval: [2, entries]."""
    rates = np.array([e["accept"] for e in entries])
    low, high = np.array([e["ci"] for e in entries]).T
    return np.maximum([rates - low, high - rates], 0.0)
