"""What the report of runs shows besides its numbers: clips, accounts, settings, versions."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import pandas as pd
from ml_collections import ConfigDict

import vidpref
from vidpref.config.by_name import PROJECT_ROOT
from vidpref.config.fields import lookup
from vidpref.config.schema import FIELDS, counts_in
from vidpref.evaluation import words
from vidpref.evaluation.changes import ACCEPTED
from vidpref.evaluation.report import ClipRow, JudgedClip, duration
from vidpref.evaluation.rounds import by_method, title
from vidpref.evaluation.tables import Table
from vidpref.runs.graph import Finished
from vidpref.runs.methods import METHODS
from vidpref.runs.policies import PRETRAINED, policy_name
from vidpref.runs.rounds import Evaluated, Run
from vidpref.runs.stage_time import StageTime
from vidpref.stages.judge_held_out import ACCOUNT
from vidpref.stages.label import read_labels, shares
from vidpref.stages.online.watching import ACCOUNT as WATCHED
from vidpref.stages.sample import read_clips, seen_clip
from vidpref.training.metrics import read_metrics

_ROWS = 10  # clips of all policies side by side, over all categories
_JUDGED = 5  # accepted and rejected examples of each kind
_CHANGED = 3  # clips of each method whose verdict changed, each way
_MOST = 60  # prompts of a page without a judge
_VERSIONS = ("jax", "flax", "numpy")

# The settings that matter most; the whole config stands below them.
_SETTINGS = (
    *("model.name", "model.init", "diffusion.name", "compute_dtype"),
    *("data.name", "data.path", "data.pairs", "data.held_out", "data.frames", "data.height"),
    *("data.width", "data.buckets", "data.fps", "text.name", "pretrain.train.steps"),
    *("label.prompts", "label.per_prompt", "reward.name", "align.method", "align.reference"),
    *("align.rows", "align.pairs", "align.lora.rank", "align.lora.alpha", "align.train.steps"),
    *("align.train.batch_size", "align.train.optimizer.name"),
    *("align.train.optimizer.learning_rate", "sampler.name", "sampler.steps"),
    *("sampler.guidance_scale", "rounds", "seed"),
)


def side_by_side(evaluated: Mapping[str, Evaluated]) -> tuple[list[ClipRow], str]:
    """Returns clips of all policies from the same noise, and how they were chosen, a sentence.

    They are the first held-out scenes of each category, whatever came out: a choice by result would
    flatter. Data without held-out prompts show those of training. Without a judge all clips are
    shown, up to a number.
    """
    shown = _Shown(evaluated)
    if not shown.labels:
        index = shown.clips[PRETRAINED].index
        rows = [shown.row(clip_id) for clip_id in index["clip_id"][:_MOST]]
        if len(rows) == len(index):
            return rows, f"These are all {len(index)} clips of each policy."
        return rows, (
            f"These are the first {len(rows)} of {len(index)} clips of each policy; "
            "launch/clips.py writes the others."
        )
    held_out = _held_out(next(iter(shown.labels.values())))
    held_out = held_out[held_out["sample"] == 0]
    count = max(1, _ROWS // held_out["category"].nunique())
    chosen = held_out.groupby("category", sort=True).head(count)
    chosen = chosen.sort_values("category", kind="stable")
    split = "held-out" if (chosen["split"] == "test").all() else "training"
    each = " of each category" if held_out["category"].nunique() > 1 else ""
    choice = f"The prompts are the first {split} ones{each}, whatever came out."
    return [shown.row(clip_id) for clip_id in chosen.index], choice


def changed_clips(evaluated: Mapping[str, Evaluated]) -> list[ClipRow]:
    """Returns clips of the last policy of each method whose verdict is not the pre-trained one's.

    They are the first held-out ones, of as many categories as there are: some of each way.
    """
    shown = _Shown(evaluated)
    rows = []
    for names in by_method(evaluated, PRETRAINED).values():
        policy = names[-1]
        before = _held_out(shown.labels[PRETRAINED])
        now = shown.labels[policy].loc[before.index]
        for accepted in (True, False):
            changed = before[(before["accepted"] != accepted) & (now["accepted"] == accepted)]
            rank = changed.groupby("category").cumcount()
            order = changed.assign(rank=rank).sort_values(["rank", "category"], kind="stable")
            note = f"{title(policy)}: now {'accepted' if accepted else 'rejected'}"
            rows += [
                shown.row(clip_id, (PRETRAINED, policy), note) for clip_id in order.index[:_CHANGED]
            ]
    return rows


def judged_examples(evaluated: Evaluated) -> list[JudgedClip]:
    """Returns held-out clips that the judge accepted and that it rejected, with its reasons."""
    labels, clips = _verdicts(read_labels(evaluated.labels)), read_clips(evaluated.samples)
    held_out = _held_out(labels)
    examples = []
    for accepted in (True, False):
        chosen = held_out[held_out["accepted"] == accepted]
        chosen = chosen.groupby("category", sort=True).head(1).head(_JUDGED)
        examples += [
            JudgedClip(
                row.prompt,
                seen_clip(clips.clip(row.Index)),
                accepted,
                row.rationale,
                f"judged/{_file_name(row.Index)}",
            )
            for row in chosen.itertuples()
        ]
    return examples


def training_curves(stages: Sequence[Finished]) -> dict[str, list[dict]]:
    """Returns the metrics of every trained stage, by the name of its folder."""
    metrics = {f.path.name: read_metrics(f.path) for f in stages}
    return {stage: records for stage, records in metrics.items() if records}


def accounts(stages: Iterable[Finished]) -> list[Table]:
    """Returns how many pairs or clips each training learnt from, and which were left out.

    Args:
        stages: finished stages; those that wrote no account are passed over.
    """
    tables, known = [], set()
    for stage in stages:
        rows, notes = _account(stage.path)
        key = (stage.stage.name, *rows)
        if rows and key not in known:  # training seeds that learn from the same say the same
            heading = words.capital(words.stage(stage.stage.name))
            caption = " ".join(f"{words.capital(n).rstrip('.')}." for n in notes)
            caption = f"{caption} Folder: {stage.path.name}.".strip()
            tables.append(Table(heading, ["What", "Count"], [list(row) for row in rows], caption))
            known.add(key)
    return tables


def judge_account(stages: Iterable[Finished]) -> dict[str, Any]:
    """Returns what the judge that a run trained was worth on clips that it did not learn from.

    Args:
        stages: finished stages; of several that trained one the last counts. {} without any.
    """
    found: dict[str, Any] = {}
    for stage in stages:
        if (path := stage.path / ACCOUNT).exists():
            found = json.loads(path.read_text(encoding="utf-8"))
    return found


def time_table(times: Iterable[StageTime]) -> Table:
    """Returns a row a cause: its time in all stages of a run together, and its share."""
    whole = sum(times, StageTime())
    parts = {
        "work that counts": whole.productive,
        "compiling": whole.compiling,
        "waiting for checkpoints": whole.saving,
        "waiting for other hosts": whole.waiting,
        "work lost where a run was stopped": whole.lost,
    }
    rows: list[list[Any]] = [
        [cause, duration(seconds), f"{100 * seconds / max(whole.total, 1e-9):.1f} %"]
        for cause, seconds in parts.items()
    ]
    rows.append(["all stages", duration(whole.total), ""])
    caption = (
        "All attempts of all stages, as host 0 saw them; a kill takes up to 20 s from the account. "
        "Who is slow inside a training step is in its metrics (slowest_host)."
    )
    if whole.between:
        caption += f" Between attempts it stood still for {duration(whole.between)}."
    return Table("Where the time went", ["What", "Time", "Share"], rows, caption)


def settings_table(configs: Sequence[ConfigDict]) -> Table:
    """Returns the settings that matter most: with their meaning, or a column for each config."""
    found = {}
    for config in configs:
        hyper = METHODS[config.align.method].settings(config)
        paths = [*_SETTINGS, *(f"align.{name}" for name in hyper)]
        found[policy_name(config, 1)] = {
            path: _text(lookup(config, path))
            for path in dict.fromkeys(paths)
            if path in FIELDS and counts_in(path, config) and lookup(config, path) not in ("", ())
        }
    paths = [path for path in FIELDS if any(path in values for values in found.values())]
    caption = "All of them stand in the configuration below."
    if len(found) == 1:
        (values,) = found.values()
        rows = [[path, values[path], FIELDS[path].meaning] for path in paths]
        return Table("Settings", ["Field", "Value", "Meaning"], rows, caption)
    rows = [[path, *(values.get(path) for values in found.values())] for path in paths]
    return Table("Settings", ["Field", *map(title, found)], rows, caption)


def configs_of(runs: Sequence[Run]) -> list[ConfigDict]:
    """Returns the config of every method of some runs, of its first seed."""
    found = {}
    for run in runs:
        found.setdefault(policy_name(run.recipe.config, 1), run.recipe.config)
    return list(found.values())


def environment() -> dict[str, str]:
    """Returns versions, commit, date and devices, for the reader who wants to repeat a run."""
    devices = jax.devices()
    return {
        "vidpref": vidpref.__version__,
        **({"commit": commit} if (commit := commit_of(PROJECT_ROOT)) else {}),
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _VERSIONS},
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": str(jax.process_count()),
        "system": platform.platform(),
    }


def commit_of(checkout: Path) -> str:
    """Returns what `git describe` says of a checkout, "-dirty" behind it where files are changed;
    "" where there is no checkout, or no git.
    """
    if not (checkout / ".git").exists():
        return ""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--tags"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


class _Shown:
    """The evaluation clips of policies, with their labels where there are any."""

    def __init__(self, evaluated: Mapping[str, Evaluated]):
        self.clips = {name: read_clips(e.samples) for name, e in evaluated.items()}
        read = {n: read_labels(e.labels) for n, e in evaluated.items() if e.labels is not None}
        first = next(iter(read.values()), None)
        self.labels = {name: _verdicts(labels, first) for name, labels in read.items()}

    def row(self, clip_id: str, policies: Iterable[str] = (), note: str = "") -> ClipRow:
        """The clips of an id, of some policies or of all."""
        policies = tuple(policies) or tuple(self.clips)
        records = {name: self.clips[name].clip(clip_id) for name in policies}
        first = records[policies[0]]
        said = {name: self.labels[name].loc[clip_id] for name in policies if name in self.labels}
        return ClipRow(
            prompt=first["prompt"],
            category=first["category"],
            split=first["split"],
            clips={name: seen_clip(record) for name, record in records.items()},
            accepted={n: bool(label["accepted"]) for n, label in said.items()} if said else None,
            reasons={name: label["rationale"] or "" for name, label in said.items()},
            name=_file_name(clip_id),
            note=note,
        )


def _verdicts(labels: pd.DataFrame, first: pd.DataFrame | None = None) -> pd.DataFrame:
    """Labels by clip id, with the column `accepted`, the verdict that tables count; `first` are
    those of the policy that others are compared with, see `shares`."""
    labels = shares(labels, first).set_index("clip_id")
    scores = labels["accept"] if "accept" in labels else labels["score"]
    return labels.assign(accepted=scores > ACCEPTED)


def _held_out(labels: pd.DataFrame) -> pd.DataFrame:
    """The clips of held-out prompts; all where there are none."""
    held_out = labels[labels.split == "test"]
    return labels if held_out.empty else held_out


def _file_name(clip_id: str) -> str:
    return clip_id.replace("/", "-")


def _account(folder: Path) -> tuple[list[tuple[str, int | float]], list[str]]:
    """Counts, and what else is said of them."""
    rows, notes = [], []
    if (folder / "pairs.json").exists():
        account = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
        rows, notes = words.counts(account), words.notes(account)
    if (folder / WATCHED).exists():
        account = json.loads((folder / WATCHED).read_text(encoding="utf-8"))
        rows, notes = rows + words.counts(account), notes + words.notes(account)
    if (folder / "bad_clips.csv").exists() and (folder / "clips.parquet").exists():
        rows.append(("clips that were read", len(pd.read_parquet(folder / "clips.parquet"))))
    for path in sorted(folder.glob("**/bad_clips.csv")):
        reasons = pd.read_csv(path)["reason"].value_counts()
        rows.append((f"clips that could not be read ({path.name} names them)", int(reasons.sum())))
        rows += [(f"of these: {reason}", int(count)) for reason, count in reasons.items()]
    return rows, notes


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
