"""Method against method: paired differences of all pairs, as numbers and as tables.

The clips of all policies have the same prompts and the same noise, so the difference of two methods
is taken clip by clip, like that of a method and the pre-trained policy.
"""

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from vidpref.evaluation.rounds import by_method, split_round, title
from vidpref.evaluation.statistics import paired_difference, paired_dimensions
from vidpref.evaluation.tables import SPLITS, Estimate, Table, over, splits_of

_ACCEPT = "accept"

# round -> split -> score -> method -> other method -> {"diff", "ci"}
Differences = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Mapping[str, dict]]]]]


def between_methods(frame: pd.DataFrame, baseline: str = "pretrained") -> Differences:
    """Returns how every two methods differ after each round, clip by clip with the same noise.

    Intervals are those of `statistics.paired_difference`: over prompts, or over training seeds and
    prompts where the frame has several seeds. Each holds at 95 % for its own pair.

    Args:
        frame: clips of all policies, as `statistics.evaluation_json` takes them; later rounds are
            named `METHOD_round2` and on.
        baseline: the policy that is no method.

    Returns:
        `{round: {split: {score: {method: {other: {"diff", "ci": [lo, hi]}}}}}}`, the mean of method
        minus other; the scores are "accept" and the judge's further dimensions, which carry
        `win_rate` and `win_ci` too. Methods keep their order in the frame. Empty with fewer than
        two methods.

    Raises:
        ValueError: clips of two policies do not match one to one (names them).
    """
    methods = by_method(frame["policy"].unique(), baseline)
    found: dict[str, dict] = {}
    last = max((split_round(name)[1] for names in methods.values() for name in names), default=0)
    for round_ in range(1, last + 1):
        policies = {
            method: name
            for method, names in methods.items()
            for name in names
            if split_round(name)[1] == round_
        }
        for one, other in itertools.combinations(policies, 2):
            both = frame[frame["policy"].isin([policies[one], policies[other]])]
            for split, rows in both.groupby("split", sort=True):
                paired = {_ACCEPT: paired_difference(rows, policies[one], policies[other])}
                paired |= paired_dimensions(rows, policies[one], policies[other])
                scores = found.setdefault(str(round_), {}).setdefault(split, {})
                for score, entry in paired.items():
                    matrix = scores.setdefault(score, {method: {} for method in policies})
                    matrix[one][other] = entry
                    matrix[other][one] = _turned(entry)
    return found


def difference_matrices(evaluation: Mapping[str, Any], splits: Collection[str] = ()) -> list[Table]:
    """Returns the methods against each other after the last round: a table a split and score.

    Args:
        evaluation: result of `statistics.evaluation_json` with `between_methods` under that name;
            [] without it, or with fewer than two methods.
        splits: those that are shown; () for all.
    """
    found = evaluation.get("between_methods")
    if not found:
        return []
    last = max(found, key=int)
    tables = []
    for split in splits_of(evaluation):
        if splits and split not in splits:
            continue
        for score, matrix in found[last].get(split, {}).items():
            of_round = f", round {last}" if int(last) > 1 else ""
            heading = f"Method minus method, {_named(score)}, {SPLITS.get(split, split)} prompts"
            tables.append(_matrix(f"{heading}{of_round}", matrix, over(evaluation)))
    return tables


def differences_table(evaluation: Mapping[str, Any]) -> Table:
    """Returns every difference of `between_methods`, one a row, for other programs to read."""
    rows = [
        [int(round_), split, score, one, other, _estimate(entry), entry.get("win_rate")]
        for round_, splits in evaluation.get("between_methods", {}).items()
        for split, scores in splits.items()
        for score, matrix in scores.items()
        for one, row in matrix.items()
        for other, entry in row.items()
    ]
    columns = ["round", "split", "score", "method", "minus", "difference", "win_rate"]
    return Table("Differences", columns, rows)


def _matrix(heading: str, matrix: Mapping[str, Mapping[str, dict]], clusters: str) -> Table:
    rows = [
        [title(one), *(_estimate(row[other]) if other in row else None for other in matrix)]
        for one, row in matrix.items()
    ]
    count = len(matrix) * (len(matrix) - 1) // 2
    caption = (
        f"Row minus column in points, clip by clip with equal noise; 95 % intervals over {clusters}"
    )
    if count > 1:
        caption += f", each for its own pair: of {count} pairs that do not differ, one in 20 would "
        caption += "seem to"
    return Table(heading, ["Method", *map(title, matrix)], rows, f"{caption}.")


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    return Estimate(entry["diff"], *entry["ci"], signed=True)


def _turned(entry: Mapping[str, Any]) -> dict:
    """The entry of the other minus the one. 0.0 - x, as -x would make a zero negative."""
    low, high = entry["ci"]
    turned = {"diff": 0.0 - entry["diff"], "ci": [0.0 - high, 0.0 - low]}
    if "win_rate" in entry:
        low, high = entry["win_ci"]
        turned |= {"win_rate": 1 - entry["win_rate"], "win_ci": [1 - high, 1 - low]}
    return turned


def _named(score: str) -> str:
    return "accepted clips" if score == _ACCEPT else score.replace("_", " ")
