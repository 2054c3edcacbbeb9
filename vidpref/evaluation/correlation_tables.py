"""Correlations of automatic scores with people's as tables for readers, and as numbers."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from vidpref.evaluation.correlation_levels import (
    CATEGORIES,
    CLIPS,
    LEVELS,
    POLICIES,
    PROMPTS,
    WITHIN,
    LevelCorrelation,
)
from vidpref.evaluation.judge_tables import p_value, rounded
from vidpref.evaluation.tables import Cell, Estimate, Table
from vidpref.evaluation.words import category

_INTERVALS = "Pearson's r with 95 % intervals over prompts (jackknife)"
_CAPTIONS = {
    CLIPS: f"{_INTERVALS}; p-values as if clips were independent, which those of a prompt are not: "
    "where the two disagree, the interval counts.",
    WITHIN: "Of what clips of a prompt have above its mean, which is what pairs for training see: "
    f"{_INTERVALS}; p-values with n - prompts - 1 degrees of freedom, as a mean is taken off each. "
    "Prompts with one clip are left out.",
    PROMPTS: f"Of means over the clips of a prompt (AIF Table 4): {_INTERVALS}; p-values as if "
    "prompts were drawn independently.",
    POLICIES: "Of means over the clips of a policy (AIF Figure 7): intervals over policies "
    "(jackknife), and p-values, as if policies were drawn independently; those that share a method "
    "or a reward are not.",
    CATEGORIES: f"{_INTERVALS}; p-values as if clips were independent.",
}


def correlation_tables(found: Sequence[LevelCorrelation]) -> list[Table]:
    """Returns a table a level."""
    levels = [level for level in LEVELS if any(one.level == level for one in found)]
    return [_table(level, [one for one in found if one.level == level]) for level in levels]


def correlation_frame(found: Sequence[LevelCorrelation]) -> pd.DataFrame:
    """Returns all numbers unrounded, a row a level, category, score and dimension."""
    return pd.DataFrame([_flat(one) for one in found])


def _table(level: str, found: Sequence[LevelCorrelation]) -> Table:
    counted = "Policies" if level == POLICIES else "Prompts"
    own = [] if level in (PROMPTS, POLICIES) else [counted]
    first = ["Category"] if level == CATEGORIES else []
    notes = ["Note"] if any(one.note for one in found) else []
    number = "Clips" if own else counted
    columns = [*first, "Truth", "Score", number, *own, "Pearson", "p", "Spearman", "p ", *notes]
    rows: list[list[Cell]] = []
    for one in found:
        row: list[Cell] = [category(one.category)] if first else []
        row += [one.truth.replace("_", " "), one.proxy, one.n, *([one.clusters] if own else [])]
        r = one.correlation
        row += [_estimate(one), p_value(r.pearson_p), rounded(r.spearman, 2), p_value(r.spearman_p)]
        rows.append([*row, one.note] if notes else row)
    return Table(level.capitalize(), columns, rows, _CAPTIONS[level])


def _estimate(one: LevelCorrelation) -> Cell:
    if math.isnan(one.interval.mean):
        return None
    return Estimate(*one.interval, signed=True, percent=False)


def _flat(one: LevelCorrelation) -> dict[str, Any]:
    row = dataclasses.asdict(one)
    found, interval, note = (row.pop(name) for name in ("correlation", "interval", "note"))
    spread = {"pearson_low": interval.low, "pearson_high": interval.high}
    return row | found._asdict() | spread | {"note": note}
