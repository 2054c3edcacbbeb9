"""Votes of people on pairs of clips beside what a judge said of them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vidpref.config.nearest import nearest
from vidpref.datasets.preferences.frames import OVERALL
from vidpref.evaluation.position_bias import both_orders

# Columns of a table of scores that are no dimension.
NO_SCORES = frozenset(
    ("clip", "prompt", "judge", "seen", "frames", "height", "width", "fps", "reason", "failure")
)
_VOTES = {"A": 1.0, "B": -1.0, "tie": 0.0}  # all else is nan
_NAMED = 3  # clips in a message


@dataclasses.dataclass(frozen=True)
class JudgedPairs:
    """Votes in one dimension, n of them, and the judge's on the same pairs.

    Attributes:
        dimension: that people judged.
        columns: the judge's dimensions that stand for it; their mean counts.
        votes: 1 where people prefer clip A, -1 for B, 0 for a tie; nan where the label is missing.
        margins: the judge's score of A less that of B; nan where it failed on one of them.
        prompts: a number for the prompt of each pair.
        shown, swapped: votes of a judge of pairs with A first, and with B first, in terms of A;
            None for a judge of single clips.
    """

    dimension: str
    columns: tuple[str, ...]
    votes: np.ndarray
    margins: np.ndarray
    prompts: np.ndarray
    shown: np.ndarray | None = None
    swapped: np.ndarray | None = None


def judged_by_scores(
    comparisons: pd.DataFrame,
    scores: pd.DataFrame,
    match: Mapping[str, Sequence[str]] | None = None,
    *,
    partial: bool = False,
) -> list[JudgedPairs]:
    """Returns the votes of each dimension that a judge of single clips scores.

    Args:
        comparisons: as `Preferences` has them.
        scores: a row a clip: clip (its id), a column a dimension, and any of `NO_SCORES`.
        match: dimension of the votes -> columns whose mean stands for it. By default those of the
            same name; for "overall" the first that there is of: a column "overall", the mean of all
            others that match, "accept", the only column.
        partial: leave out pairs with a clip that was not scored, instead of refusing them.

    Raises:
        ValueError: no dimension in common, an unknown one in `match`, a clip that stands twice or
            was scored for another prompt, a score that is no number, or pairs without scores.
    """
    columns = [name for name in scores if name not in NO_SCORES]
    chosen = matched(list(comparisons["dimension"].unique()), columns, match or {})
    table = scores.assign(clip=[os.path.normpath(str(name)) for name in scores["clip"]])
    _check_clips(comparisons, table, partial)
    table = table.drop_duplicates("clip").set_index("clip")
    used = sorted({name for names in chosen.values() for name in names})
    numbers = pd.DataFrame({name: numbers_of(table[name]) for name in used}, index=table.index)
    found = []
    for dimension, names in chosen.items():
        rows = comparisons[comparisons["dimension"] == dimension]
        there = rows["clip_a"].isin(table.index) & rows["clip_b"].isin(table.index)
        rows = rows[there]
        value = numbers[list(names)].mean(axis=1, skipna=False)
        margins = (
            value.reindex(rows["clip_a"]).to_numpy() - value.reindex(rows["clip_b"]).to_numpy()
        )
        found.append(JudgedPairs(dimension, tuple(names), *_people(rows, margins)))
    return found


def judged_by_verdicts(
    comparisons: pd.DataFrame,
    verdicts: pd.DataFrame,
    match: Mapping[str, Sequence[str]] | None = None,
    *,
    partial: bool = False,
) -> list[JudgedPairs]:
    """Returns the votes of each dimension that a judge of pairs gives verdicts in.

    Args:
        comparisons: as `Preferences` has them.
        verdicts: a row for each time a pair was shown: clip_a (shown first), clip_b, and a column a
            dimension with A, B or tie; anything else is an answer that could not be read.
        match: see `judged_by_scores`; one column each.
        partial: see `judged_by_scores`.

    Raises:
        ValueError: as `judged_by_scores`; several columns for a dimension, a pair that stands twice
            in one order.
    """
    columns = [name for name in verdicts if name not in {*NO_SCORES, "clip_a", "clip_b"}]
    chosen = matched(list(comparisons["dimension"].unique()), columns, match or {}, mean=False)
    sides = {
        side: verdicts[side].astype(str).map(os.path.normpath) for side in ("clip_a", "clip_b")
    }
    index = pd.MultiIndex.from_arrays(list(sides.values()))
    if index.has_duplicates:
        first = index[index.duplicated()][0]
        raise ValueError(f"{first[0]} and {first[1]} stand twice in this order; remove one")
    found = []
    for dimension, (name,) in chosen.items():
        said = pd.Series(verdicts[name].map(_VOTES).to_numpy(np.float64), index=index)
        rows = comparisons[comparisons["dimension"] == dimension]
        orders = [pd.MultiIndex.from_frame(rows[list(o)]) for o in (_AB, _AB[::-1])]
        there = orders[0].isin(index) | orders[1].isin(index)
        if not there.all() and not partial:
            lost = [f"{a} and {b}" for a, b in orders[0][~there].unique()]
            raise ValueError(_lacking(lost, len(orders[0].unique()), "pairs"))
        rows = rows[there]
        shown = said.reindex(orders[0][there]).to_numpy()
        swapped = -said.reindex(orders[1][there]).to_numpy()
        votes = _people(rows, both_orders(shown, swapped))
        found.append(JudgedPairs(dimension, (name,), *votes, shown, swapped))
    return found


def matched(
    dimensions: Sequence[str],
    columns: Sequence[str],
    match: Mapping[str, Sequence[str]],
    *,
    mean: bool = True,
) -> dict[str, tuple[str, ...]]:
    """Returns {dimension of votes: columns of the judge that stand for it}; see `judged_by_scores`.

    Args:
        dimensions: of the votes.
        columns: of the judge.
        match: what the user says.
        mean: whether a mean of several columns may stand for a dimension.

    Raises:
        ValueError: an unknown name, several columns without `mean`, or nothing in common.
    """
    for dimension, names in match.items():
        if dimension not in dimensions:
            raise ValueError(f"nobody voted on {dimension!r}; {nearest(dimension, dimensions)}")
        for name in names:
            if name not in columns:
                raise ValueError(f"the judge has no {name!r}; {nearest(name, columns)}")
        if len(names) > 1 and not mean:
            raise ValueError(f"verdicts have no mean: give one column for {dimension!r}")
    same = {name: (name,) for name in dimensions if name in columns and name not in match}
    found = same | {dimension: tuple(names) for dimension, names in match.items()}
    if OVERALL in dimensions and OVERALL not in found:
        rest = tuple(name for (name,) in same.values()) if mean else ()
        choices = (rest, ("accept",) if "accept" in columns else (), tuple(columns))
        names = next((c for c in choices if c), ())
        if names and (names is not choices[-1] or len(columns) == 1):
            found[OVERALL] = names
    if not found:
        raise ValueError(
            f"people voted on {', '.join(dimensions)}, and the judge has "
            f"{', '.join(columns) or 'no score'}: say what stands for what"
        )
    return {name: found[name] for name in dimensions if name in found}


_AB = ("clip_a", "clip_b")


def _people(rows: pd.DataFrame, margins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    votes = rows["verdict"].map(_VOTES).to_numpy(np.float64)
    return votes, margins, pd.factorize(rows["prompt"])[0].astype(np.int64)


def _check_clips(comparisons: pd.DataFrame, scores: pd.DataFrame, partial: bool) -> None:
    wanted = list(dict.fromkeys([*comparisons["clip_a"], *comparisons["clip_b"]]))
    repeated = scores["clip"][scores.duplicated("clip")]
    if len(repeated):
        raise ValueError(f"{repeated.iloc[0]} is scored twice; remove one")
    known = set(scores["clip"])
    lost = [name for name in wanted if name not in known]
    if len(lost) == len(wanted):
        raise ValueError(
            f"the scores are of other clips: none of the {len(wanted)} that people voted on is "
            f"among them. People call the first {wanted[0]}, the scores {scores['clip'].iloc[0]}; "
            "paths are relative to --root"
        )
    if lost and not partial:
        raise ValueError(_lacking(lost, len(wanted), "clips"))
    if "prompt" in scores:
        asked = scores.set_index("clip")["prompt"]
        for side in ("clip_a", "clip_b"):
            scored = comparisons[side].map(asked)
            other = scored.notna() & (scored != comparisons["prompt"])
            if other.any():
                row = comparisons[other].iloc[0]
                raise ValueError(
                    f"{row[side]} was scored for {scored[other].iloc[0]!r}, and people saw it for "
                    f"{row['prompt']!r}: have it scored again, for that prompt"
                )


def _lacking(lost: Sequence[str], total: int, what: str) -> str:
    more = ", ..." if len(lost) > _NAMED else ""
    return (
        f"{len(lost)} of {total} {what} that people voted on have no score: "
        f"{', '.join(lost[:_NAMED])}{more}. Have them judged, or give --partial to leave them out"
    )


def numbers_of(column: pd.Series) -> pd.Series:
    """Returns a column of scores as numbers; empty texts are nan.

    Args:
        column: scores by clip.

    Raises:
        ValueError: another text, or an infinite number.
    """
    texts = column.replace("", np.nan) if column.dtype.kind not in "fiub" else column
    numbers = pd.to_numeric(texts, errors="coerce")
    bad = (numbers.isna() & texts.notna()) | np.isinf(numbers.to_numpy(np.float64))
    if bad.any():
        clip = column.index[bad.to_numpy()][0]
        raise ValueError(f"{clip}: {column.name}={column[clip]!r} is not a finite number")
    return numbers.astype("float64")
