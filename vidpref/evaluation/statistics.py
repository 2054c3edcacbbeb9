"""Acceptance, paired differences and best-of-N of labelled evaluation clips.

A frame has one row a clip: `policy`, `split`, `category`, `prompt`, `sample` (the seed of the
clip's noise, the same across policies) and `accept` (0 or 1). Two columns are optional: `scene_id`
when a prompt is sampled from several first frames, and `training_seed` when runs are pooled. Every
other column is a further dimension that the judge scored, within [0, 1].
Every interval is one of `intervals.py`: over prompts, or over training seeds and prompts where the
frame has several seeds. Rates have Wilson's, graded scores and differences the t interval.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import comb

from vidpref.evaluation.intervals import Interval, clustered_mean, clustered_rate

TIE = 0.005  # scores closer than half a point of 100 are a tie
_COLUMNS = ("policy", "split", "category", "prompt", "sample", "accept")
_SEED = "training_seed"


def acceptance(frame: pd.DataFrame) -> dict:
    """Returns the acceptance rate of one policy's clips, and of each category.

    Returns:
        `{"accept", "ci": [lo, hi], "n", "prompts", "categories": {name: the first four}}`; n counts
        clips.

    Raises:
        ValueError: a column is missing or `accept` is not a number in [0, 1].
    """
    _check(frame)
    categories = frame.groupby("category", sort=True)
    return _rate(frame) | {"categories": {name: _rate(rows) for name, rows in categories}}


def paired_difference(frame: pd.DataFrame, policy: str, baseline: str) -> dict:
    """Returns the mean difference in acceptance, clip by clip with the same prompt and noise.

    Args:
        frame: clips of at least the two policies, of one or several splits.
        policy: the policy to judge.
        baseline: the one it is compared to.

    Returns:
        `{"diff", "ci": [lo, hi]}`, the difference within [-1, 1].

    Raises:
        ValueError: a policy is unknown, or the clips do not match one to one (names them).
    """
    pairs = paired(frame, policy, baseline)
    return _difference(pairs)


def over_seeds(frame: pd.DataFrame, policy: str, baseline: str) -> dict:
    """Returns the paired difference of several training runs, over seeds and prompts.

    Args:
        frame: clips with a `training_seed` column; within a seed as in `paired_difference`.
        policy: the policy to judge.
        baseline: the one it is compared to, of the same seed.

    Returns:
        `{"diff", "ci", "over": "seeds and prompts" | "prompts", "seeds": {seed: {"diff", "ci"}}}`.
        With a single seed `over` is "prompts": the interval then says nothing about other seeds.

    Raises:
        ValueError: as `paired_difference`, or there is no `training_seed` column.
    """
    if _SEED not in frame:
        raise ValueError(f"a comparison over seeds needs the column {_SEED!r}")
    pairs = paired(frame, policy, baseline)
    seeds = {str(seed): _difference(rows) for seed, rows in pairs.groupby(_SEED, sort=True)}
    over = "seeds and prompts" if len(seeds) > 1 else "prompts"
    return _difference(pairs) | {"over": over, "seeds": seeds}


def dimension_scores(frame: pd.DataFrame) -> dict:
    """Returns the mean score of one policy's clips in every further dimension.

    Returns:
        `{dimension: {"mean", "ci": [lo, hi]}}`; empty where the judge scored acceptance alone.
    """
    found = {}
    for name in dimensions_of(frame):
        _check(frame, name)
        scores = frame[name].to_numpy(np.float64)
        interval = clustered_mean(scores, *clusters(frame), bounds=(0.0, 1.0))
        found[name] = {"mean": interval.mean, "ci": _ci(interval)}
    return found


def paired_dimensions(frame: pd.DataFrame, policy: str, baseline: str) -> dict:
    """Returns how a policy's clips differ from the baseline's in every further dimension.

    Args:
        frame, policy, baseline: as for `paired_difference`; over seeds too where the frame has
            them.

    Returns:
        `{dimension: {"diff", "ci": [lo, hi], "win_rate", "win_ci": [lo, hi]}}`; the win rate is the
        fraction of clips with the higher score, ties counted as half (VideoAlign 5.2): pairs whose
        scores differ by less than `TIE`.
    """
    found = {}
    for name in dimensions_of(frame):
        pairs = paired(frame, policy, baseline, name)
        difference = pairs["difference"].to_numpy()
        won = 0.5 + 0.5 * np.sign(difference) * (np.abs(difference) >= TIE)
        wins = clustered_rate(won, *clusters(pairs))
        found[name] = _difference(pairs) | {"win_rate": wins.mean, "win_ci": _ci(wins)}
    return found


def dimensions_of(frame: pd.DataFrame) -> list[str]:
    """The columns that are dimensions of the judge besides acceptance."""
    return [c for c in frame if c not in (*_COLUMNS, "scene_id", _SEED)]


def best_of_n(
    frame: pd.DataFrame,
    best: int = 8,
    of: int = 32,
    *,
    score: str = "accept",
    bounds: tuple[float, float] = (0.0, 1.0),
) -> dict:
    """Returns the mean score of the best `best` of `of` clips a prompt (AIF section 4).

    Where a prompt has more than `of` clips it is the mean over all subsets of that many (the
    U-statistic): none is thrown away. Meant for graded scores: of 0/1 labels it only counts prompts
    with fewer than `best` accepted.

    Args:
        frame: one policy's clips.
        best: clips that are averaged.
        of: clips they are chosen from.
        score: column of the score, higher is better.
        bounds: smallest and largest possible score.

    Returns:
        `{"mean", "ci": [lo, hi], "best", "of", "prompts"}`.

    Raises:
        ValueError: `best > of`, a score out of bounds, or prompts with fewer than `of` clips.
    """
    if not 1 <= best <= of:
        raise ValueError(f"the best {best} of {of} clips: best must lie between 1 and {of}")
    _check(frame, score, bounds)
    runs = _present(frame, _SEED, "split", "prompt")
    counts = frame.groupby(runs).size()
    if (counts < of).any():
        raise ValueError(f"best of {of}: fewer clips for {_some(counts.index[counts < of])}")
    rank = frame.groupby(runs)[score].rank(method="first").to_numpy(np.int64)  # 1 is the lowest
    sizes = frame.groupby(runs)[score].transform("size").to_numpy()
    weights = np.empty(len(frame))
    for size in np.unique(sizes):
        weights[sizes == size] = _weights(int(size), best, of)[rank[sizes == size] - 1]
    top = (frame[score] * weights).groupby([frame[c] for c in runs]).sum().reset_index(name=score)
    interval = clustered_mean(top[score].to_numpy(np.float64), *clusters(top), bounds=bounds)
    prompts = int(top["prompt"].nunique())
    return {"mean": interval.mean, "ci": _ci(interval), "best": best, "of": of, "prompts": prompts}


def _weights(clips: int, best: int, of: int) -> np.ndarray:
    """Weight of each clip, from the lowest score to the highest, in the mean over all subsets.

    The i-th lowest is the k-th best of a subset that has of - k of the i - 1 below it and k - 1 of
    the clips above it.
    """
    i = np.arange(1, clips + 1)[:, None]
    k = np.arange(1, best + 1)
    chances = comb(clips - i, k - 1) * comb(i - 1, of - k) / comb(clips, of)
    return chances.sum(axis=1) / best


def evaluation_json(
    frame: pd.DataFrame, baseline: str = "pretrained", *, best_of: Sequence[int] | None = (8, 32)
) -> dict:
    """Returns everything a report says about the policies, as plain JSON.

    Args:
        frame: clips of all policies and splits.
        baseline: the policy the others are compared to.
        best_of: `best, of` of `best_of_n`; None leaves it out.

    Returns:
        `{"baseline", "policies": {NAME: {SPLIT: acceptance}}, "paired": {NAME: {SPLIT:
        paired_difference}}, "best_of_n": {NAME: {SPLIT: best_of_n}}}`, policies in their order in
        the frame; differences carry the keys of `over_seeds` where it has a `training_seed` column.
        Where the judge scored further dimensions there is also `"dimensions": {"policies": {NAME:
        {SPLIT: dimension_scores}}, "paired": {NAME: {SPLIT: paired_dimensions}}}`.

    Raises:
        ValueError: as the functions above; no clips of the baseline.
    """
    _check(frame)
    names = list(frame["policy"].unique())
    if baseline not in names:
        raise ValueError(f"no clips of the baseline {baseline!r}; policies: {', '.join(names)}")
    names.sort(key=lambda name: name != baseline)
    compare = over_seeds if _SEED in frame else paired_difference
    result = {"baseline": baseline, "policies": {}, "paired": {}}
    dimensions = {"policies": {}, "paired": {}}
    for name in names:
        splits = frame[frame["policy"] == name].groupby("split")
        result["policies"][name] = {split: acceptance(rows) for split, rows in splits}
        scores = {split: dimension_scores(rows) for split, rows in splits}
        dimensions["policies"][name] = scores
        if best_of is not None:
            top = {split: best_of_n(rows, *best_of) for split, rows in splits}
            result.setdefault("best_of_n", {})[name] = top
        if name != baseline:
            both = frame[frame["policy"].isin([name, baseline])]
            result["paired"][name] = {
                split: compare(both[both["split"] == split], name, baseline)
                for split in splits.groups
            }
            dimensions["paired"][name] = {
                split: paired_dimensions(both[both["split"] == split], name, baseline)
                for split in splits.groups
            }
    return result | ({"dimensions": dimensions} if dimensions_of(frame) else {})


def _rate(frame: pd.DataFrame) -> dict:
    interval = clustered_rate(frame["accept"].to_numpy(np.float64), *clusters(frame))
    return {
        "accept": interval.mean,
        "ci": _ci(interval),
        "n": len(frame),
        "prompts": int(frame["prompt"].nunique()),
    }


def _difference(pairs: pd.DataFrame) -> dict:
    interval = clustered_mean(pairs["difference"].to_numpy(np.float64), *clusters(pairs))
    return {"diff": interval.mean, "ci": _ci(interval)}


def clusters(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns prompt and training seed of each clip as numbers; None for seeds without a column."""
    prompts = frame.groupby(_present(frame, "split", "prompt")).ngroup().to_numpy()
    return prompts, frame.groupby(_SEED).ngroup().to_numpy() if _SEED in frame else None


def paired(
    frame: pd.DataFrame,
    policy: str,
    baseline: str,
    score: str = "accept",
    bounds: tuple[float, float] = (0.0, 1.0),
) -> pd.DataFrame:
    """Returns the `difference` of a score, a row a clip that both policies made of the same noise.

    Raises:
        ValueError: a policy is unknown, a score is out of bounds, or the clips do not match one to
            one (names them).
    """
    _check(frame, score, bounds)
    keys = _present(frame, _SEED, "split", "prompt", "scene_id", "sample")
    sides = []
    for name in (policy, baseline):
        rows = frame[frame["policy"] == name]
        if rows.empty:
            known = ", ".join(map(str, frame["policy"].unique()))
            raise ValueError(f"no clips of policy {name!r} to compare; there are {known}")
        twice = rows.duplicated(keys)
        if twice.any():
            index = pd.MultiIndex.from_frame(rows.loc[twice, keys])
            raise ValueError(f"policy {name!r} has two clips of {_some(index)} ({', '.join(keys)})")
        sides.append(rows.set_index(keys)[score].astype(np.float64))
    ours, theirs = sides
    for name, missing in (
        (policy, theirs.index.difference(ours.index)),
        (baseline, ours.index.difference(theirs.index)),
    ):
        if len(missing):
            raise ValueError(
                f"cannot pair {policy!r} with {baseline!r}: {name!r} lacks {_some(missing)} "
                f"({', '.join(keys)}); sample both with the same prompts and seeds"
            )
    return (ours - theirs).rename("difference").reset_index()


def _check(
    frame: pd.DataFrame, score: str = "accept", bounds: tuple[float, float] = (0.0, 1.0)
) -> None:
    columns = dict.fromkeys((*_COLUMNS, score))
    missing = [c for c in columns if c not in frame]
    if missing:
        raise ValueError(f"the clip table lacks the columns {', '.join(missing)}")
    if frame.empty:
        raise ValueError("the clip table has no rows")
    for column in _present(frame, *_COLUMNS, _SEED):
        if frame[column].isna().any():
            raise ValueError(f"{int(frame[column].isna().sum())} clips have no {column!r}")
    bad = ~frame[score].astype(np.float64).between(*bounds)
    if bad.any():
        where = pd.MultiIndex.from_frame(frame.loc[bad, ["policy", "prompt", "sample"]])
        raise ValueError(
            f"{score!r} must lie in [{bounds[0]:g}, {bounds[1]:g}]; it does not for {_some(where)}"
        )


def _present(frame: pd.DataFrame, *columns: str) -> list[str]:
    return [c for c in columns if c in frame]


def _some(index: pd.Index, most: int = 3) -> str:
    text = "; ".join(str(item) for item in index[:most])
    return f"{len(index)} clips or prompts: {text}{'; ...' if len(index) > most else ''}"


def _ci(interval: Interval) -> list[float]:
    return [interval.low, interval.high]
