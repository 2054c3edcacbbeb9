"""The last stage: evaluation.json, config.yaml and the HTML report of a run."""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import pandas as pd
from ml_collections import ConfigDict

import vidpref
from vidpref.config.by_name import config_yaml
from vidpref.config.schema import NO_JUDGE
from vidpref.datasets.video_writing import PLAYED_FPS
from vidpref.evaluation.gallery import Sample, write_gallery
from vidpref.evaluation.report import ClipRow, JudgedClip, ReportData, write_report
from vidpref.evaluation.rounds import title
from vidpref.evaluation.statistics import evaluation_json
from vidpref.evaluation.tables import (
    Table,
    comparison_table,
    dimension_tables,
    rounds_table,
    splits_of,
    write_csv,
    write_markdown,
)
from vidpref.files import write_text
from vidpref.runs.compare import Candidate, Comparison
from vidpref.runs.graph import Finished
from vidpref.runs.policies import PRETRAINED, policy_name
from vidpref.runs.rounds import Evaluated, Run
from vidpref.stages.label import evaluation_frame, read_labels
from vidpref.stages.sample import read_clips, seen_clip
from vidpref.training.metrics import read_metrics

_ROWS_PER_CATEGORY = 2  # before/after clips shown of each category
_JUDGED = 5  # accepted and rejected examples shown of each kind


def write_run_report(run: Run, *, command: str) -> Path:
    """Writes `evaluation.json`, `config.yaml` and `report.html` into the work directory.

    Without a judge there is no `evaluation.json`, and the report shows clips alone.

    Args:
        run: a finished run.
        command: what the user typed.

    Returns:
        The path of the report.
    """
    config = run.recipe.config
    if config.reward.name == NO_JUDGE:
        return _write_gallery(run, command)
    frame = evaluation_frame({name: e.labels for name, e in run.evaluated.items()})
    return _write(
        run.recipe.workdir,
        frame,
        run.evaluated,
        run.stages,
        {"config.yaml": config_yaml(config)},
        config,
        title=f"{config.name}:{config.scale}",
        command=command,
    )


def _write_gallery(run: Run, command: str) -> Path:
    config, workdir = run.recipe.config, run.recipe.workdir
    path = workdir / "report.html"
    if jax.process_index() != 0:
        return path
    write_text(workdir / "config.yaml", config_yaml(config))
    clips = {name: read_clips(e.samples) for name, e in run.evaluated.items()}
    samples = [
        Sample(
            name=row.clip_id.replace("/", "-"),
            prompt=row.prompt,
            split=row.split,
            clips={name: seen_clip(found.clip(row.clip_id)) for name, found in clips.items()},
        )
        for row in clips[PRETRAINED].index.itertuples()
    ]
    title = f"{config.name}:{config.scale}"
    write_gallery(
        path,
        samples,
        title=title,
        command=command,
        fps=config.data.fps or PLAYED_FPS,
        curves=training_curves(run.stages),
    )
    return path


def write_comparison_report(
    found: Comparison, configs: Sequence[ConfigDict], workdir: Path, *, command: str
) -> Path:
    """Writes `comparison.md`, its tables as CSV, `evaluation.json` and `report.html`.

    Args:
        found: result of `compare`.
        configs: the compared configs, before hyper-parameters were chosen.
        workdir: where to write.
        command: what the user typed.

    Returns:
        The path of the report.
    """
    stages = {f.path: f for run in found.runs for f in run.stages}
    names = ", ".join(policy_name(c, 1) for c in configs)
    return _write(
        workdir,
        found.frame,
        found.evaluated,
        list(stages.values()),
        {f"{policy_name(c, 1)}.yaml": config_yaml(c) for c in configs},
        configs[0],
        title=f"{names} at {configs[0].scale} scale",
        command=command,
        candidates=found.candidates,
    )


def _write(
    workdir: Path,
    frame: pd.DataFrame,
    evaluated: Mapping[str, Evaluated],
    stages: Sequence[Finished],
    yamls: Mapping[str, str],
    config: ConfigDict,
    *,
    title: str,
    command: str,
    candidates: Sequence[Candidate] = (),
) -> Path:
    path = workdir / "report.html"
    if jax.process_index() != 0:
        return path
    evaluation = evaluation_json(frame, PRETRAINED, best_of=tuple(config.evaluate.best_of))
    write_text(workdir / "evaluation.json", json.dumps(evaluation, indent=2))
    frame.to_parquet(workdir / "evaluation.parquet")  # one row a clip, for other statistics
    for name, text in yamls.items():
        write_text(workdir / name, text)
    if candidates:
        tables = [comparison_table(evaluation), search_table(candidates)]
        tables += [rounds_table(evaluation, split) for split in splits_of(evaluation)]
        tables += dimension_tables(evaluation)
        write_markdown(workdir / "comparison.md", tables, heading=title)
        for table in tables:
            file = re.sub(r"\W+", "_", table.title.lower()).strip("_")
            write_csv(workdir / f"{file}.csv", table)
    write_report(
        path,
        ReportData(
            title=title,
            command=command,
            config_yaml="\n".join(f"# {name}\n{text}" for name, text in yamls.items()),
            environment=environment(),
            evaluation=evaluation,
            curves=training_curves(stages),
            timings=[(f.stage.name, f.seconds, f.reused) for f in stages],
            before_after=before_after(evaluated),
            judged=judged_examples(evaluated[PRETRAINED]),
            tables=[
                *([comparison_table(evaluation), search_table(candidates)] if candidates else []),
                *dimension_tables(evaluation),
            ],
        ),
    )
    return path


def search_table(candidates: Sequence[Candidate]) -> Table:
    """Returns every hyper-parameter candidate with its acceptance on validation prompts."""
    rows = [
        [
            title(c.policy),
            ", ".join(o.removeprefix("align.") for o in c.overrides) or "as in the config",
            None if c.validation is None else round(100 * c.validation, 1),
            "chosen" if c.chosen else "",
        ]
        for c in candidates
    ]
    return Table(
        "Hyper-parameters",
        ["Method", "Candidate", "Validation prompts, %", ""],
        rows,
        "Chosen with the first training seed on prompts that neither train nor test.",
    )


def environment() -> dict[str, str]:
    """Returns versions and devices, for the reader who wants to repeat a run."""
    devices = jax.devices()
    return {
        "vidpref": vidpref.__version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": str(jax.process_count()),
    }


def training_curves(stages: Sequence[Finished]) -> dict[str, list[dict]]:
    """Returns the metrics of every trained stage, by the name of its folder."""
    metrics = {f.path.name: read_metrics(f.path) for f in stages}
    return {stage: records for stage, records in metrics.items() if records}


def before_after(evaluated: Mapping[str, Evaluated]) -> list[ClipRow]:
    """Returns clips of all policies from the same noise, the first held-out scenes a category.

    The scenes are taken in their order, whatever came out: a choice by result would flatter.
    """
    labels = {name: read_labels(e.labels).set_index("clip_id") for name, e in evaluated.items()}
    clips = {name: read_clips(e.samples) for name, e in evaluated.items()}
    first = next(iter(labels.values()))
    held_out = first[(first.split == "test") & (first["sample"] == 0)]
    shown = held_out.groupby("category", sort=True).head(_ROWS_PER_CATEGORY)
    return [
        ClipRow(
            prompt=row.prompt,
            category=row.category,
            split=row.split,
            clips={name: seen_clip(found.clip(row.Index)) for name, found in clips.items()},
            accepted={name: bool(table.score[row.Index] > 0.5) for name, table in labels.items()},
        )
        for row in shown.sort_values("category", kind="stable").itertuples()
    ]


def judged_examples(evaluated: Evaluated) -> list[JudgedClip]:
    """Returns held-out clips that the judge accepted and that it rejected, with its reasons."""
    labels, clips = read_labels(evaluated.labels), read_clips(evaluated.samples)
    held_out = labels[labels.split == "test"]
    examples = []
    for accepted in (True, False):
        chosen = held_out[(held_out.score > 0.5) == accepted]
        chosen = chosen.groupby("category", sort=True).head(1).head(_JUDGED)
        examples += [
            JudgedClip(row.prompt, seen_clip(clips.clip(row.clip_id)), accepted, row.rationale)
            for row in chosen.itertuples()
        ]
    return examples
