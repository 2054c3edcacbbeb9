"""The clips that stages drew and kept in a work directory: which there are, and those chosen."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vidpref.config.by_name import ConfigError, read_config
from vidpref.config.nearest import nearest
from vidpref.datasets.video_writing import PLAYED_FPS
from vidpref.evaluation.changes import ACCEPTED
from vidpref.evaluation.report import ClipRow
from vidpref.evaluation.rounds import title
from vidpref.evaluation.tables import SPLITS, Table
from vidpref.runs.run_folder import home, read_record
from vidpref.stages.label import read_labels, shares
from vidpref.stages.sample import INDEX, read_clips, seen_clip
from vidpref.storage.mirror import pull

_DRAWN = re.compile(r"sample-(?P<set>train|evaluation|validation|losers)-(?P<policy>.+)-\w{12}")
_DONE, _SETTINGS = "done.json", "settings.json"
_FIRST = "pretrained"
_ALIKE = 0.2  # least likeness of a prompt that is named for another


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """The clips that one stage drew of a policy.

    Attributes:
        name: what for: "evaluation", "train" (to learn from), "validation" or "losers".
        policy: the policy that drew them.
        folder: the stage's folder.
        labels: folder of their labels; None where no judge scored them.
    """

    name: str
    policy: str
    folder: Path
    labels: Path | None

    def table(self) -> pd.DataFrame:
        """Returns a row a clip: clip_id, prompt, category, split, sample, accepted and reason.

        The last two are missing without labels.
        """
        index = pd.read_parquet(self.folder / INDEX)
        index = index[["clip_id", "prompt", "category", "split", "sample"]]
        if self.labels is None:
            return index
        labels = shares(read_labels(self.labels)).set_index("clip_id")
        labels = labels.loc[index["clip_id"]]
        scores = labels["accept"] if "accept" in labels else labels["score"]
        reasons = labels["rationale"].fillna("").to_numpy()
        return index.assign(accepted=(scores > ACCEPTED).to_numpy(), reason=reasons)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which clips to show; empty fields do not choose.

    Attributes:
        set: see `ClipSet`.
        policy, split: of the clips.
        prompt: part of the prompt, in whatever case.
        accepted: the judge's verdict.
    """

    set: str
    policy: str = ""
    split: str = ""
    prompt: str = ""
    accepted: bool | None = None


def clip_sets(workdir: Path) -> list[ClipSet]:
    """Returns the clips of a run that are stored.

    Args:
        workdir: a work directory, for its newest finished run; or the folder of any run in it,
            `WORKDIR/runs/NAME`. Where no run is finished, the newest clips of every policy count.

    Raises:
        ValueError: no such folder, or no stage that draws clips is done there.
    """
    if not workdir.is_dir():
        raise ValueError(f"--workdir={workdir} is no folder")
    whole, record = home(workdir), read_record(workdir)
    if record is not None:
        names = [*record.clips.values(), *record.stages]
    else:
        done = sorted(whole.glob(f"sample-*/{_DONE}"), key=lambda p: -p.stat().st_mtime_ns)
        names = [path.parent.name for path in done]
    labels = _label_folders(whole, () if record is None else record.stages)
    found: dict[tuple[str, str], ClipSet] = {}
    for name in names:  # of several training seeds the first counts
        match = _DRAWN.fullmatch(name)
        if match and (pull(whole / name) / INDEX).exists():
            key, labelled = (match["set"], match["policy"]), labels.get(name)
            labelled = None if labelled is None else pull(labelled)
            found.setdefault(key, ClipSet(*key, whole / name, labelled))
    if not found:
        raise ValueError(
            f"{workdir} holds no clips yet: no stage that draws clips is done there; is it the "
            "--workdir of a run?"
        )
    order = ("evaluation", "train", "validation", "losers")
    return sorted(found.values(), key=lambda s: (order.index(s.name), s.policy != _FIRST))


def overview(sets: Sequence[ClipSet]) -> Table:
    """Returns how many clips there are, a row for each set, policy and split."""
    rows = []
    for clips in sets:
        for split, table in clips.table().groupby("split", sort=True):
            accepted = int(table["accepted"].sum()) if clips.labels is not None else None
            prompts = table["prompt"].nunique()
            rows.append([clips.name, clips.policy, split, prompts, len(table), accepted])
    columns = ["--set", "--policy", "--split", "prompts", "clips", "accepted"]
    return Table("Stored clips", columns, rows)


def choose(sets: Sequence[ClipSet], wanted: Wanted) -> pd.DataFrame:
    """Returns the rows of `ClipSet.table` that are wanted, with the column `policy`.

    They are in the order in which the clips were drawn, those of one prompt and noise together.

    Raises:
        ValueError: none is; says what there is.
    """
    of_set = [s for s in sets if s.name == wanted.set]
    if not of_set:
        known = dict.fromkeys(s.name for s in sets)
        raise ValueError(f"--set={wanted.set}: no such clips; there are {', '.join(known)}")
    policies = [s.policy for s in of_set]
    if wanted.policy and wanted.policy not in policies:
        raise ValueError(
            f"--policy={wanted.policy}: the {wanted.set} clips are of {', '.join(policies)}"
        )
    of_policy = [s for s in of_set if wanted.policy in ("", s.policy)]
    if wanted.accepted is not None and all(s.labels is None for s in of_policy):
        flag = "accepted" if wanted.accepted else "noaccepted"
        raise ValueError(f"--{flag}: no judge scored the {wanted.set} clips of this run")
    rows = pd.concat([s.table().assign(policy=s.policy) for s in of_policy])
    if wanted.split:
        splits = dict.fromkeys(rows["split"])
        rows = rows[rows["split"] == wanted.split]
        if rows.empty:
            raise ValueError(
                f"--split={wanted.split}: the {wanted.set} clips are of the prompts of "
                f"{', '.join(splits)}"
            )
    if wanted.prompt:
        prompts = list(dict.fromkeys(rows["prompt"]))
        rows = rows[rows["prompt"].str.contains(wanted.prompt, case=False, regex=False)]
        if rows.empty:
            hint = nearest(wanted.prompt, prompts, cutoff=_ALIKE)
            raise ValueError(
                f"--prompt={wanted.prompt!r}: in none of the {len(prompts)} prompts; {hint}"
            )
    if wanted.accepted is not None:
        count, rows = len(rows), rows[rows["accepted"] == wanted.accepted]
        if rows.empty:
            verdict = "accepted" if wanted.accepted else "rejected"
            raise ValueError(f"of the {count} clips that match otherwise, none is {verdict}")
    order = {name: number for number, name in enumerate(dict.fromkeys(rows["clip_id"]))}
    return rows.sort_values("clip_id", key=lambda ids: ids.map(order), kind="stable")


def read_rows(sets: Sequence[ClipSet], chosen: pd.DataFrame, name: str) -> list[ClipRow]:
    """Returns chosen clips with their frames, those of one prompt and noise in one row.

    Args:
        sets: from `clip_sets`.
        chosen: rows from `choose`.
        name: name of the set that they are of.
    """
    stored = {s.policy: read_clips(s.folder) for s in sets if s.name == name}
    rows = []
    for clip_id, clips in chosen.groupby("clip_id", sort=False):
        by_policy = clips.set_index("policy")
        first: Any = clips.iloc[0]
        judged = "accepted" in clips and not by_policy["accepted"].isna().any()
        rows.append(
            ClipRow(
                prompt=first["prompt"],
                category=first["category"],
                split=first["split"],
                clips={p: seen_clip(stored[p].clip(clip_id)) for p in by_policy.index},
                accepted={p: bool(a) for p, a in by_policy["accepted"].items()} if judged else None,
                reasons=dict(by_policy["reason"]) if judged else {},
                name=str(clip_id).replace("/", "-"),
            )
        )
    return rows


def played_fps(workdir: Path) -> float:
    """Returns the frames a second at which the run's clips play."""
    try:
        return read_config(workdir).data.fps or PLAYED_FPS
    except ConfigError:  # not finished, a comparison, or of another version: the clips are as good
        return PLAYED_FPS


def describe(wanted: Wanted) -> str:
    """Returns which clips were asked for, in words: "DPO, held-out prompts, accepted"."""
    parts = [f"{wanted.set} clips"]
    parts += [title(wanted.policy)] if wanted.policy else []
    parts += [f"{SPLITS.get(wanted.split, wanted.split)} prompts"] if wanted.split else []
    parts += [f"prompts with {wanted.prompt!r}"] if wanted.prompt else []
    if wanted.accepted is not None:
        parts.append("accepted" if wanted.accepted else "rejected")
    return ", ".join(parts)


def _label_folders(workdir: Path, preferred: Sequence[str]) -> dict[str, Path]:
    """Folder of clips -> that of their labels: one of `preferred`, else the newest."""
    done = sorted(workdir.glob(f"label-*/{_DONE}"), key=lambda path: path.stat().st_mtime_ns)
    folders = sorted((path.parent for path in done), key=lambda path: path.name in preferred)
    found = {}
    for folder in folders:
        inputs = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))["inputs"]
        found[inputs["samples"]] = folder
    return found
