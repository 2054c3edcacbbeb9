"""Accuracy of a judge as tables for readers, and as numbers for programs."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from vidpref.evaluation.intervals import Interval
from vidpref.evaluation.judge_accuracy import JudgeAccuracy
from vidpref.evaluation.position_bias import PositionBias
from vidpref.evaluation.scored_clips import ScoreAgreement
from vidpref.evaluation.tables import Cell, Decimals, Estimate, Table

_CAPTION = (
    "Per cent, with 95 % intervals over prompts. With ties: at the threshold below which scores "
    "count as equal that is best for these very votes; official: the same by VideoAlign's public "
    "search, a missing label being wrong; random: what that search makes of random scores. Without "
    "ties, random is 50. Correlations are of score differences with votes (1, 0, -1), p-values as "
    "if votes were independent. Failed: votes on pairs without a verdict of the judge, left out."
)


def accuracy_table(found: Sequence[JudgeAccuracy], title: str = "Accuracy of the judge") -> Table:
    """Returns a row a dimension; see `JudgeAccuracy`."""
    columns = [
        *("Dimension", "Votes", "Prompts", "Ties", "With ties", "Official", "Random"),
        *("Without ties", "Kappa", "Pearson", "p", "Spearman", "p ", "Failed", "No label"),
    ]
    rows = []
    for one in found:
        r = one.correlation
        rows.append(
            [
                _named(one),
                one.votes,
                one.prompts,
                _percent(one.ties),
                _estimate(one.with_ties),
                _percent(one.official),
                _percent(one.random),
                _estimate(one.without_ties),
                rounded(one.kappa, 3),
                rounded(r.pearson, 3),
                p_value(r.pearson_p),
                rounded(r.spearman, 3),
                p_value(r.spearman_p),
                one.failed,
                one.unlabelled,
            ]
        )
    return Table(title, columns, rows, _CAPTION)


def position_table(found: Sequence[JudgeAccuracy]) -> Table | None:
    """Returns the position bias of a judge of pairs; None of any other judge."""
    rows = [
        [
            one.dimension.replace("_", " "),
            one.position.pairs,
            _estimate(one.position.flips),
            _estimate(one.position.changes),
            _percent(one.position.first),
        ]
        for one in found
        if one.position is not None
    ]
    if not rows:
        return None
    columns = ["Dimension", "In both orders", "Winner flips", "Verdict changes", "First wins"]
    caption = (
        "Per cent, of votes on pairs that were shown in both orders. First wins: of all verdicts "
        "with a winner, those for the clip that was shown first; 50 without bias."
    )
    return Table("Position bias", columns, rows, caption)


def agreement_table(found: Sequence[ScoreAgreement]) -> Table | None:
    """Returns the correlation of a judge's scores of clips with people's; None without any."""
    columns = ["Dimension", "Clips", "Pearson", "p", "Spearman", "p ", "Not scored"]
    rows = []
    for one in found:
        r = one.correlation
        numbers = [
            rounded(r.pearson, 3),
            p_value(r.pearson_p),
            rounded(r.spearman, 3),
            p_value(r.spearman_p),
        ]
        rows.append([_named(one), one.clips, *numbers, one.unscored])
    caption = (
        "Of scores of single clips, the mean over people; p-values as if clips were independent."
    )
    return Table("Agreement on scores", columns, rows, caption) if rows else None


def accuracy_frame(found: Sequence[JudgeAccuracy]) -> pd.DataFrame:
    """Returns all numbers unrounded, a row a dimension; an interval x becomes x, x_low, x_high."""
    return pd.DataFrame([_flat(one) for one in found])


def rounded(value: float, digits: int) -> Cell:
    """Returns a number for a cell, None (a dash) for nan."""
    return None if math.isnan(value) else Decimals(value, digits)


def p_value(value: float) -> Cell:
    """Returns a p-value with two digits for a cell, None for nan."""
    return None if math.isnan(value) else float(f"{value:.1e}")


def _flat(one: JudgeAccuracy) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in dataclasses.fields(JudgeAccuracy):
        value = getattr(one, field.name)
        if field.name == "columns":
            value = "+".join(value)
        if isinstance(value, PositionBias):
            for part in dataclasses.fields(PositionBias):
                row |= _spread(f"position_{part.name}", getattr(value, part.name))
        elif field.name == "correlation":
            row |= value._asdict()
        elif field.name != "position":
            row |= _spread(field.name, value)
    return row


def _spread(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Interval):
        return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
    return {name: value}


def _named(one: JudgeAccuracy | ScoreAgreement) -> str:
    name = one.dimension.replace("_", " ")
    if one.columns == (one.dimension,):
        return name
    parts = ", ".join(column.replace("_", " ") for column in one.columns)
    return f"{name} (mean of {parts})" if len(one.columns) > 1 else f"{name} ({parts})"


def _estimate(interval: Interval | None) -> Cell:
    return None if interval is None else Estimate(*interval)


def _percent(share: float) -> Cell:
    return rounded(100 * share, 1)
