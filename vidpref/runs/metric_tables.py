"""Metrics of programs as tables, in words and in files."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vidpref.evaluation.vbench_scores import DIMENSIONS, VBenchScores, normalised
from vidpref.files import write_text
from vidpref.runs.measure_videos import SHAPE, MeasuredClips
from vidpref.runs.metric_results import SHOWN, Result
from vidpref.runs.score_tables import write
from vidpref.video_metrics.registry import METRICS

_NAMED = 20  # clips in a message


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
        for place, column in enumerate(SHOWN):
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
