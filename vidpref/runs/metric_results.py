"""Metrics of programs made of the measures of their clips: numbers, intervals, and what to mind."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from vidpref.evaluation.frechet import Moments, distance_of
from vidpref.evaluation.inception_score import inception_score
from vidpref.evaluation.intervals import clustered_mean, clustered_rate
from vidpref.evaluation.vbench_scores import DIMENSIONS, VBenchScores, vbench_scores
from vidpref.json_text import read_json
from vidpref.models.inception import WIDTH
from vidpref.runs.measure_videos import SHAPE, MeasuredClips
from vidpref.video_metrics.registry import METRICS

_CLIPS = 64  # whose features are counted at once
_ALIKE = 0.05  # relative difference up to which clips count as alike
SHOWN = ("frames", "height", "width", "fps")


@dataclasses.dataclass(frozen=True)
class Result:
    """A metric of a program.

    Attributes:
        program: its name.
        metric: a name of `METRICS`.
        value: the number; nan where there is none.
        low, high: its 95 % interval, over prompts or clips; nan where there is none.
        clips: how many it is of.
        note: what to mind.
    """

    program: str
    metric: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    clips: int = 0
    note: str = ""


def results(
    program: MeasuredClips,
    reference: MeasuredClips | None,
    metrics: Sequence[str],
    splits: int,
) -> list[Result]:
    """Returns the metrics of a program, in order.

    Args:
        program: its clips.
        reference: those that distances are to.
        metrics: names of `METRICS`.
        splits: of the Inception Score.

    Raises:
        ValueError: a distance without a reference.
    """
    found = []
    for name in metrics:
        metric = METRICS[name]
        if metric.kind == "distance":
            if reference is None:
                raise ValueError(f"{name} is a distance: give a reference")
            found.append(_distance(program, reference, name))
        elif metric.kind == "inception_score":
            found.append(_inception_score(program, name, splits))
        else:
            found.append(_mean(program, name))
    return found


def _distance(program: MeasuredClips, reference: MeasuredClips, name: str) -> Result:
    both = [_moments(clips, METRICS[name].measure) for clips in (program, reference)]
    clips = both[0][1] if both[0] else 0
    if any(found is None or found[0].count < 2 for found in both):
        return Result(program.name, name, float("nan"), clips=clips, note="too few clips")
    (first, clips), (second, others) = both
    width, notes = len(first.mean), []
    fewest = min(first.count, second.count)
    if fewest <= width:
        what = "clips" if (clips, others) == (first.count, second.count) else "frames"
        notes.append(
            f"{fewest} {what} for {width} features: biased upwards, compare with as many only"
        )
    if clips != others:
        notes.append(f"{clips} clips against {others}")
    notes += _unlike(program, reference)
    value = distance_of(first, second)
    return Result(program.name, name, value, clips=clips, note="; ".join(notes))


def _moments(clips: MeasuredClips, measure: str) -> tuple[Moments, int] | None:
    """Moments of features, and of how many clips; None of none."""
    found = (values for _, values in clips.values(measure))
    moments, count = None, 0
    while part := list(itertools.islice(found, _CLIPS)):
        rows = np.concatenate([v[:, :WIDTH] if v.ndim == 2 else v[None] for v in part])
        moments = moments or Moments(rows.shape[1])
        moments.add(rows)
        count += len(part)
    return None if moments is None else (moments, count)


def _unlike(program: MeasuredClips, reference: MeasuredClips) -> list[str]:
    """In what the clips of a program differ from those of the reference, or from each other."""
    shapes = [np.array([s for _, s in clips.values(SHAPE)]) for clips in (program, reference)]
    if not all(map(len, shapes)):
        return []
    notes = []
    for place, name in enumerate(SHOWN):
        own, real = (of[:, place] for of in shapes)
        usual = np.median(real)
        if np.abs(np.median(own) - usual) > _ALIKE * usual:
            notes.append(f"{name} {np.median(own):g}, of the reference {usual:g}")
        for whose, of in (("", own), (" of the reference", real)):
            if np.ptp(of) > _ALIKE * of.max():
                notes.append(f"{name}{whose} from {of.min():g} to {of.max():g}")
    return notes


def _inception_score(program: MeasuredClips, name: str, splits: int) -> Result:
    found = [values[:, WIDTH:] for _, values in program.values(METRICS[name].measure)]
    frames = sum(map(len, found))
    if frames < splits:
        note = f"{frames} frames cannot be divided into {splits} splits"
        return Result(program.name, name, float("nan"), clips=len(found), note=note)
    mean, deviation = inception_score(np.concatenate(found), splits)
    note = f"over {frames} frames in {splits} splits, which deviate by {deviation:.3g}"
    return Result(program.name, name, mean, clips=len(found), note=note)


def _mean(program: MeasuredClips, name: str) -> Result:
    metric, found = METRICS[name], dict(program.values(METRICS[name].measure))
    if not found:
        return Result(program.name, name, float("nan"), note="no clip has a value")
    values = np.array(list(found.values()), np.float64)
    prompts = program.clips["prompt"].to_numpy()[list(found)]
    # a clip without a prompt is one by itself
    named = [prompt or f"\0{number}" for number, prompt in zip(found, prompts, strict=True)]
    clusters = pd.factorize(np.array(named, object))[0]
    if metric.kind == "rate":
        interval = clustered_rate(values, clusters)
    else:
        interval = clustered_mean(values, clusters, bounds=metric.bounds)
    groups = clusters.max() + 1
    note = f"{groups} prompt{'s' if groups > 1 else ''}" if groups < len(found) else ""
    return Result(program.name, name, *interval, clips=len(found), note=note)


def vbench_of(found: Sequence[Result], others: Mapping[str, float]) -> VBenchScores:
    """Returns VBench's averages of a program.

    Args:
        found: its metrics.
        others: dimensions that were measured elsewhere; those of `found` count instead.
    """
    own = {r.metric: r.value for r in found if r.metric in DIMENSIONS and np.isfinite(r.value)}
    return vbench_scores({**others, **own})


def read_vbench_results(path: Path) -> dict[str, float]:
    """Reads dimensions that VBench itself has measured.

    Args:
        path: JSON of dimensions, each a number or, as VBench writes it, [number, clips].

    Raises:
        ValueError: no such file, or not such JSON.
    """
    held = read_json(path)
    if not isinstance(held, dict):
        raise ValueError(f"{path}: holds no dimensions, but {str(held)[:40]!r}")
    found = {}
    for name, value in held.items():
        number = value[0] if isinstance(value, list) and value else value
        key = name.replace(" ", "_")
        if key not in DIMENSIONS:
            raise ValueError(f"{path}: VBench has no dimension {name!r}: {', '.join(DIMENSIONS)}")
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise ValueError(f"{path}: {name} is no number but {str(value)[:40]!r}")
        found[key] = float(number)
    return found
