"""The last stage: evaluation.json, config.yaml and the HTML report of a run."""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

import vidpref
from vidpref.config.by_name import config_yaml
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
from vidpref.runs.artifacts import Artifact
from vidpref.runs.compare import Candidate, Comparison
from vidpref.runs.recipe import PRETRAINED, Labelled, Recipe, policy_name
from vidpref.stages.label import (
    NO_JUDGE,
    build_reward,
    evaluation_frame,
    one_dimension,
    read_labels,
)
from vidpref.stages.sample import read_clips
from vidpref.training.metrics import read_metrics

_ROWS_PER_CATEGORY = 2  # before/after clips shown of each category
_JUDGED = 5  # accepted and rejected examples shown of each kind


def write_run_report(recipe: Recipe, evaluated: Mapping[str, Labelled], *, command: str) -> Path:
    """Writes `evaluation.json`, `config.yaml` and `report.html` into the work directory.

    Without a judge there is no `evaluation.json`, and the report shows clips alone.

    Args:
        recipe: a finished recipe.
        evaluated: labelled evaluation clips of each policy, the pre-trained one first.
        command: what the user typed.

    Returns:
        The path of the report.
    """
    config = recipe.config
    if config.reward.name == NO_JUDGE:
        return _write_gallery(recipe, evaluated, command)
    frame = evaluation_frame({name: e.labels.path for name, e in evaluated.items()})
    return _write(
        recipe.workdir,
        frame,
        evaluated,
        recipe.artifacts,
        {"config.yaml": config_yaml(config)},
        config,
        title=f"{config.name}:{config.scale}",
        command=command,
    )


def _write_gallery(recipe: Recipe, evaluated: Mapping[str, Labelled], command: str) -> Path:
    path = recipe.workdir / "report.html"
    if jax.process_index() != 0:
        return path
    config = recipe.config
    write_text(recipe.workdir / "config.yaml", config_yaml(config))
    clips = {name: read_clips(e.samples.path) for name, e in evaluated.items()}
    samples = []
    for number in range(len(clips[PRETRAINED])):
        records = {name: found[number] for name, found in clips.items()}
        first = records[PRETRAINED]
        samples.append(
            Sample(
                name=first["clip_id"].replace("/", "-"),
                prompt=first["prompt"],
                split=first["split"],
                clips={name: _video(record) for name, record in records.items()},
            )
        )
    title = f"{config.name}:{config.scale}"
    write_gallery(
        path,
        samples,
        title=title,
        command=command,
        fps=config.data.get("fps", 8.0),
        curves=training_curves(recipe.artifacts),
    )
    return path


def write_comparison_report(
    found: Comparison, configs: Sequence[ConfigDict], workdir: Path, *, command: str
) -> Path:
    """Writes `comparison.md`, its tables as CSV, `evaluation.json` and `report.html`.

    Args:
        found: of `compare`.
        configs: the compared configs, before hyper-parameters were chosen.
        workdir: where to write.
        command: what the user typed.

    Returns:
        The path of the report.
    """
    artifacts = {a.path: a for recipe in found.recipes for a in recipe.artifacts}
    names = ", ".join(policy_name(c, 1) for c in configs)
    return _write(
        workdir,
        found.frame,
        found.evaluated,
        list(artifacts.values()),
        {f"{policy_name(c, 1)}.yaml": config_yaml(c) for c in configs},
        configs[0],
        title=f"{names} at {configs[0].scale} scale",
        command=command,
        candidates=found.candidates,
    )


def _write(
    workdir: Path,
    frame: pd.DataFrame,
    evaluated: Mapping[str, Labelled],
    artifacts: Sequence[Artifact],
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
            curves=training_curves(artifacts),
            timings=[(a.stage, a.seconds, a.reused) for a in artifacts],
            before_after=before_after(evaluated),
            before_after_note="The first held-out prompts of each category, whatever came out.",
            judged=judged_examples(evaluated[PRETRAINED], config.reward),
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


def training_curves(artifacts: Sequence[Artifact]) -> dict[str, list[dict]]:
    """Returns the metrics of every trained stage, by the name of its folder."""
    metrics = {a.path.name: read_metrics(a.path) for a in artifacts}
    return {stage: records for stage, records in metrics.items() if records}


def before_after(evaluated: Mapping[str, Labelled]) -> list[ClipRow]:
    """Returns clips of all policies from the same noise, the first held-out scenes a category.

    The scenes are taken in their order, whatever came out: a choice by result would flatter.
    """
    labels = {name: read_labels(e.labels.path) for name, e in evaluated.items()}
    clips = {name: read_clips(e.samples.path) for name, e in evaluated.items()}
    first = next(iter(labels.values()))
    held_out = first[(first.split == "test") & (first["sample"] == 0)]
    shown = held_out.groupby("category", sort=True).head(_ROWS_PER_CATEGORY)
    rows = []
    for index in shown.sort_values("category", kind="stable").index:
        row = first.loc[index]
        rows.append(
            ClipRow(
                prompt=row.prompt,
                category=row.category,
                split=row.split,
                clips={name: _video(c[int(index)]) for name, c in clips.items()},
                accepted={name: bool(f.score[index] > 0.5) for name, f in labels.items()},
            )
        )
    return rows


def judged_examples(labelled: Labelled, reward: ConfigDict) -> list[JudgedClip]:
    """Returns held-out clips that the judge accepted and that it rejected, with its reasons."""
    judge = build_reward(one_dimension(reward))
    labels, clips = read_labels(labelled.labels.path), read_clips(labelled.samples.path)
    held_out = labels[labels.split == "test"]
    examples = []
    for accepted in (True, False):
        chosen = held_out[(held_out.score > 0.5) == accepted]
        chosen = chosen.groupby("category", sort=True).head(1).head(_JUDGED)
        for index, row in chosen.iterrows():
            video = _video(clips[int(index)])
            reason = judge.explain(video, row.prompt) if hasattr(judge, "explain") else ""
            examples.append(JudgedClip(row.prompt, video, accepted, reason))
    return examples


def _video(record: dict) -> np.ndarray:
    return record.get("video_high", record["video"])
