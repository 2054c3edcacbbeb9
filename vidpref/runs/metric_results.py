"""Metrics of programs made of the measures of their clips: numbers, intervals, and what to mind."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vidpref.evaluation.frechet import Moments, distance_of
from vidpref.evaluation.inception_score import inception_score
from vidpref.evaluation.intervals import clustered_mean, clustered_rate
from vidpref.evaluation.vbench_scores import DIMENSIONS, VBenchScores, normalised, vbench_scores
from vidpref.files import write_text
from vidpref.json_text import read_json
from vidpref.models.inception import WIDTH
from vidpref.runs.measure_videos import SHAPE, MeasuredClips
from vidpref.runs.score_tables import write
from vidpref.video_metrics.registry import METRICS

_NAMED = 20  # clips in a message
_SHOWN = ("frames", "height", "width", "fps")


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
    moments, count = None, 0
    for _, values in clips.values(measure):
        rows = values[:, :WIDTH] if values.ndim == 2 else values[None]
        moments = moments or Moments(rows.shape[1])
        moments.add(rows)
        count += 1
    return None if moments is None else (moments, count)


def _unlike(program: MeasuredClips, reference: MeasuredClips) -> list[str]:
    """In what the usual clip of a program differs from that of the reference."""
    usual = [_usual_shape(clips) for clips in (program, reference)]
    if any(shape is None for shape in usual):
        return []
    return [
        f"{name} {a:g}, of the reference {b:g}"
        for name, a, b in zip(_SHOWN, *usual, strict=True)
        if abs(a - b) > 0.05 * b
    ]


def _usual_shape(clips: MeasuredClips) -> np.ndarray | None:
    shapes = [shape for _, shape in clips.values(SHAPE)]
    return np.median(shapes, axis=0) if shapes else None


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
    note = f"{groups} prompts" if groups < len(found) else ""
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


def table(found: Sequence[Result]) -> pd.DataFrame:
    """Returns a row a program and metric, with VBench's normalised value where there is one."""
    rows = [
        dataclasses.asdict(r)
        | {
            "better": "higher" if METRICS[r.metric].higher else "lower",
            "normalised": normalised(r.metric, r.value) if r.metric in DIMENSIONS else float("nan"),
        }
        for r in found
    ]
    return pd.DataFrame(rows)


def clip_table(programs: Sequence[MeasuredClips], metrics: Sequence[str]) -> pd.DataFrame:
    """Returns a row a clip: what it is like, the metrics that are numbers a clip, and failures."""
    names = [name for name in metrics if METRICS[name].kind in ("mean", "rate")]
    tables = []
    for program in programs:
        own = program.clips[["id", "prompt"]].rename(columns={"id": "clip"})
        own = own.assign(program=program.name).reset_index(drop=True)
        shapes = dict(program.values(SHAPE))
        for place, column in enumerate(_SHOWN):
            own[column] = [shapes[n][place] if n in shapes else np.nan for n in range(len(own))]
        for name in names:
            measured = METRICS[name].measure in program.failures
            values = dict(program.values(METRICS[name].measure)) if measured else {}
            own[name] = [float(values[n]) if n in values else np.nan for n in range(len(own))]
        own["failure"] = _failures(program)
        tables.append(own)
    found = pd.concat(tables, ignore_index=True)
    found = found[["program", *(name for name in found if name != "program")]]
    return found.astype(dict.fromkeys(("frames", "height", "width"), "Int64"))


def _failures(program: MeasuredClips) -> list[str]:
    """What of each clip could not be measured, in words; "" if all could."""
    found = []
    for number in range(len(program.clips)):
        whys: dict[str, list[str]] = {}
        for measure, failed in program.failures.items():
            if number in failed:
                whys.setdefault(failed[number], []).append(measure)
        if SHAPE in [measure for measures in whys.values() for measure in measures]:
            found.append("; ".join(whys))  # the file itself cannot be read
        else:
            found.append("; ".join(f"{', '.join(of)}: {why}" for why, of in whys.items()))
    return found


def account(found: pd.DataFrame, clips: pd.DataFrame, vbench: Mapping[str, VBenchScores]) -> str:
    """Returns the metrics of all programs in words, and which clips could not be measured."""
    lines = []
    for program, rows in found.groupby("program", sort=False):
        lines.append(f"{program}:")
        for row in rows.itertuples():
            spread = f", from {row.low:.4g} to {row.high:.4g}" if np.isfinite(row.low) else ""
            arrow = {"higher": "^", "lower": "v"}[row.better]
            note = f"; {row.note}" if row.note else ""
            lines.append(
                f"  {row.metric} {arrow} {row.value:.4g}{spread} ({row.clips} clips{note})"
            )
        scores = vbench[program]
        for name in ("quality", "semantic", "total"):
            value = getattr(scores, name)
            if value is not None:
                lines.append(f"  VBench {name} {100 * value:.2f} %")
        if scores.total is None and any(name in DIMENSIONS for name in rows["metric"]):
            lines.append(f"  no VBench total without {', '.join(scores.missing)}")
    failed = clips[clips["failure"] != ""]
    if len(failed):
        lines.append(f"{len(failed)} of {len(clips)} clips could not be measured in all:")
        shown = failed.head(_NAMED)
        lines += [f"  {row.program}/{row.clip}: {row.failure}" for row in shown.itertuples()]
        lines += [f"  ... and {len(failed) - _NAMED} more"] if len(failed) > _NAMED else []
    return "\n".join(lines)


def write_results(
    folder: Path,
    found: pd.DataFrame,
    clips: pd.DataFrame,
    vbench: Mapping[str, VBenchScores],
    about: Mapping[str, Any],
) -> None:
    """Writes metrics.csv, clips.csv, and both numbers and settings as metrics.json.

    Args:
        folder: is made.
        found: see `table`.
        clips: see `clip_table`.
        vbench: VBench's averages by program.
        about: what the numbers depend on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "metrics.csv", found)
    write(folder / "clips.csv", clips)
    whole = {
        "settings": dict(about),
        "metrics": json.loads(found.to_json(orient="records")),
        "vbench": {name: dataclasses.asdict(scores) for name, scores in vbench.items()},
        "not_measured": json.loads(
            clips.loc[clips["failure"] != "", ["program", "clip", "failure"]].to_json(
                orient="records"
            )
        ),
    }
    write_text(folder / "metrics.json", json.dumps(whole, indent=2) + "\n")
