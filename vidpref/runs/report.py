"""The last stage: the files that say what a run or a comparison found, and its HTML report.

They are written into a folder of that run, and the work directory gets a copy: see `run_folder`.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import pandas as pd
from ml_collections import ConfigDict

from vidpref.config.by_name import config_yaml
from vidpref.config.schema import NO_JUDGE
from vidpref.datasets.video_writing import PLAYED_FPS
from vidpref.evaluation.changes import verdict_changes
from vidpref.evaluation.clips import EMBEDDED, Videos
from vidpref.evaluation.differences import (
    between_methods,
    difference_matrices,
    differences_table,
)
from vidpref.evaluation.papers import paper_table
from vidpref.evaluation.proxies import proxy_json, proxy_table
from vidpref.evaluation.report import ReportData, write_report
from vidpref.evaluation.statistics import evaluation_json
from vidpref.evaluation.tables import (
    Table,
    comparison_table,
    dimension_tables,
    evaluation_table,
    rounds_table,
    splits_of,
    write_csv,
)
from vidpref.files import write_table, write_text
from vidpref.runs.compare import Comparison
from vidpref.runs.comparison_tables import best_of, search_table, training_table, write_tables
from vidpref.runs.graph import Finished
from vidpref.runs.policies import PRETRAINED, policy_name
from vidpref.runs.report_contents import (
    accounts,
    changed_clips,
    configs_of,
    environment,
    judge_account,
    judged_examples,
    settings_table,
    side_by_side,
    time_table,
    training_curves,
)
from vidpref.runs.rounds import Evaluated, Run
from vidpref.runs.run_folder import REPORT, RunRecord, publish, run_folder, write_record
from vidpref.stages.label import evaluation_frame
from vidpref.storage import mirror


@dataclasses.dataclass(frozen=True)
class _Shown:
    """What every report shows, of a run or of a comparison, with a judge or without.

    Attributes:
        workdir: the work directory.
        name: what `run_folder` names its folder by.
        title: title of the page.
        command: what the user typed.
        config: a config whose evaluation and frame rate count.
        yamls: file name -> text of each config.
        runs: finished runs.
        stages: stages that the page gives the time of.
        evaluated: clips and labels of each policy.
    """

    workdir: Path
    name: str
    title: str
    command: str
    config: ConfigDict
    yamls: Mapping[str, str]
    runs: Sequence[Run]
    stages: Sequence[Finished]
    evaluated: Mapping[str, Evaluated]

    @property
    def folder(self) -> Path:
        """The folder of its own."""
        return run_folder(self.workdir, self.name, (f.path.name for f in self.stages))


def write_run_report(run: Run, *, command: str) -> Path:
    """Writes `evaluation.json`, `evaluation.csv`, `config.yaml` and `report.html`.

    They go into a folder of this run, and a copy into the work directory. Without a judge there is
    no evaluation: the report shows clips and training, and `training.csv` has the numbers.

    Args:
        run: a finished run.
        command: what the user typed.

    Returns:
        The path of the report in the work directory.
    """
    config = run.recipe.config
    if jax.process_index() != 0:
        return run.recipe.workdir / REPORT
    for stage in run.stages:
        mirror.pull(stage.path)
    name = f"{config.name}:{config.scale}"
    shown = _Shown(
        run.recipe.workdir,
        name,
        name,
        command,
        config,
        {"config.yaml": config_yaml(config)},
        [run],
        run.stages,
        run.evaluated,
    )
    shown.folder.mkdir(parents=True, exist_ok=True)
    if config.reward.name == NO_JUDGE:
        return _write_unjudged(shown)
    frame = evaluation_frame({name: e.labels for name, e in run.evaluated.items()})
    evaluation = _write_evaluation(shown, frame)
    proxies = _write_proxies(shown, evaluation)
    paper = paper_table(config.name, evaluation, judge_account(run.stages))
    if paper is not None:
        write_csv(shown.folder / "paper.csv", paper)
    return _write(shown, evaluation, [*proxies, *dimension_tables(evaluation)], frame, paper)


def write_comparison_report(
    found: Comparison, configs: Sequence[ConfigDict], workdir: Path, *, command: str
) -> Path:
    """Writes `comparison.md` and `.tex`, their tables as CSV, `evaluation.json` and `report.html`.

    They go into a folder of this comparison, and a copy into the work directory. Without a judge
    the tables are those of training, and the page shows clips side by side.

    Args:
        found: result of `compare`.
        configs: the compared configs, before hyper-parameters were chosen.
        workdir: the work directory.
        command: what the user typed.

    Returns:
        The path of the report in the work directory.
    """
    if jax.process_index() != 0:
        return workdir / REPORT
    stages = {mirror.pull(f.path): f for run in found.runs for f in run.stages}
    names = ", ".join(policy_name(c, 1) for c in configs)
    shown = _Shown(
        workdir,
        "comparison",
        f"{names} at {configs[0].scale} scale",
        command,
        configs[0],
        {f"{policy_name(c, 1)}.yaml": config_yaml(c) for c in configs},
        found.runs,
        list(stages.values()),
        found.evaluated,
    )
    shown.folder.mkdir(parents=True, exist_ok=True)
    if found.frame is None:
        write_tables(shown.folder, [training_table(found.runs)], heading=shown.title)
        return _write_unjudged(shown)
    evaluation = _write_evaluation(shown, found.frame)
    proxies = _write_proxies(shown, evaluation)
    evaluation["between_methods"] = between_methods(found.frame, PRETRAINED)
    write_text(shown.folder / "evaluation.json", json.dumps(evaluation, indent=2))
    methods, search = comparison_table(evaluation), search_table(found.candidates)
    matrices = difference_matrices(evaluation)
    rounds = [rounds_table(evaluation, split) for split in splits_of(evaluation)]
    training, graded = training_table(found.runs), dimension_tables(evaluation)
    tables = [methods, *matrices, search, *rounds, *graded, training]
    write_tables(shown.folder, tables, heading=shown.title)
    write_csv(shown.folder / "differences.csv", differences_table(evaluation))
    tables = [methods, *matrices, *proxies, search, *graded, training]
    return _write(shown, evaluation, tables, found.frame)


def comparison_summary(found: Comparison, workdir: Path) -> str:
    """Returns the main tables of a comparison for a terminal, once its report is written.

    These are acceptance and the methods against each other on held-out prompts; without a judge,
    the end of training.
    """
    if found.frame is None:
        return training_table(found.runs).to_text()
    evaluation = json.loads((workdir / "evaluation.json").read_text(encoding="utf-8"))
    first = {splits_of(evaluation)[0]}
    tables = [comparison_table(evaluation), *difference_matrices(evaluation, first)]
    return "\n".join(table.to_text() for table in tables)


def _write_evaluation(shown: _Shown, frame: pd.DataFrame) -> dict[str, Any]:
    """Writes the numbers of a judge's labels, and returns them."""
    section = shown.config.evaluate
    evaluation = evaluation_json(frame, PRETRAINED, best_of=best_of(section))
    write_text(shown.folder / "evaluation.json", json.dumps(evaluation, indent=2))
    write_table(shown.folder / "evaluation.parquet", frame)  # one row a clip, for other statistics
    write_csv(shown.folder / "evaluation.csv", evaluation_table(evaluation))
    return evaluation


def _write_proxies(shown: _Shown, evaluation: dict[str, Any]) -> list[Table]:
    """Writes what the judge says beside the truth, where tables go by that; adds it to the numbers.

    Of a comparison it is about the first seed.
    """
    proxies = {name: e.proxy for name, e in shown.evaluated.items()}
    if None in proxies.values():
        return []
    truth = {name: e.labels for name, e in shown.evaluated.items()}
    frames = (evaluation_frame(folders, raw=True) for folders in (proxies, truth))
    evaluation["proxy"] = proxy_json(*frames, PRETRAINED)
    write_text(shown.folder / "evaluation.json", json.dumps(evaluation, indent=2))
    table = proxy_table(evaluation["proxy"])
    write_csv(shown.folder / "proxy.csv", table)
    return [table]


def _write_unjudged(shown: _Shown) -> Path:
    training = training_table(shown.runs)
    write_csv(shown.folder / "training.csv", training)
    return _write(shown, None, [training], None)


def _write(
    shown: _Shown,
    evaluation: Mapping[str, Any] | None,
    tables: Sequence[Table],
    frame: pd.DataFrame | None,
    paper: Table | None = None,
) -> Path:
    """Writes the pages and the rest of the folder, and the work directory's copy of all."""
    for name, text in shown.yamls.items():
        write_text(shown.folder / name, text)
    rows, choice = side_by_side(shown.evaluated)
    made = environment()
    judged = frame is not None
    data = ReportData(
        title=shown.title,
        command=shown.command,
        config_yaml="\n".join(f"# {name}\n{text}" for name, text in shown.yamls.items()),
        environment=made,
        evaluation=evaluation,
        curves=training_curves(shown.stages),
        timings=[(f.stage.name, f.seconds, f.reused) for f in shown.stages],
        before_after=rows,
        choice=choice,
        changes=verdict_changes(frame, PRETRAINED) if judged else (),
        changed=changed_clips(shown.evaluated) if judged else (),
        judged=judged_examples(shown.evaluated[PRETRAINED]) if judged else (),
        tables=tables,
        accounts=accounts(shown.stages),
        spent=time_table(f.time for f in shown.stages),
        settings=settings_table(configs_of(shown.runs)),
        made=_made(made),
        paper=paper,
    )
    videos = Videos(
        shown.folder / "samples",
        fps=shown.config.data.fps or PLAYED_FPS,
        embed=EMBEDDED if judged else 0,  # without scores the videos are what the run is about
    )
    write_report(shown.folder / REPORT, data, videos, copies=[shown.workdir / REPORT])
    write_record(shown.folder, _record(shown))
    publish(shown.folder, shown.workdir)
    return shown.workdir / REPORT


def _record(shown: _Shown) -> RunRecord:
    evaluated = shown.evaluated.items()
    return RunRecord(
        shown.name,
        tuple(f.path.name for f in shown.stages),
        {policy: e.samples.name for policy, e in evaluated},
        {policy: e.labels.name for policy, e in evaluated if e.labels is not None},
    )


def _made(made: Mapping[str, str]) -> str:
    commit = f" ({made['commit']})" if "commit" in made else ""
    return f"{made['date']}, vidpref {made['vidpref']}{commit}, {made['devices']}"
