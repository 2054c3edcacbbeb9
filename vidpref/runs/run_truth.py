"""What a finished run's verifier and its judge said of the clips that policies are compared on."""

import json
import os
import re
from pathlib import Path

import pandas as pd

from vidpref.runs.run_folder import RunRecord, home, read_record
from vidpref.stages.label import evaluation_frame
from vidpref.storage.mirror import open_folder, pull

_KEYS = ["policy", "split", "prompt", "scene_id", "sample"]


def is_run(place: str | os.PathLike) -> bool:
    """Whether a folder is a work directory with a finished run, or the folder of a run in it."""
    return read_record(open_folder(place)) is not None


def run_scores(place: str | os.PathLike) -> dict[str, pd.DataFrame]:
    """Returns the scores of evaluation clips, as they were given, of all policies of a run.

    Of a comparison over several seeds they are those of the first.

    Args:
        place: a work directory, for its newest run, or `WORKDIR/runs/NAME` of any; gs:// too.

    Returns:
        "truth", what the run's tables go by, and "judge", where a verifier stands beside it: a row
        a clip, clip (POLICY/SCENE/SAMPLE), policy, split, category, prompt, and a column a
        dimension.

    Raises:
        ValueError: no finished run, a run without scores, or a judge and truth of other clips.
    """
    folder = open_folder(place)
    record, whole = read_record(folder), home(folder)
    if record is None:
        raise ValueError(f"{place}: no finished run is here (no run.json)")
    if not record.labels:
        raise ValueError(f"{place}: nobody scored the clips of this run (config.reward.name=none)")
    truth = {policy: pull(whole / name) for policy, name in record.labels.items()}
    judges = {policy: _judge(whole, record, policy) for policy in truth}
    found = {"truth": evaluation_frame(truth, raw=True)}
    if None not in judges.values():
        found["judge"] = evaluation_frame(judges, raw=True)
        if not found["judge"][_KEYS].equals(found["truth"][_KEYS]):
            raise ValueError(f"{place}: judge and truth did not score the same clips")
    return {name: named_clips(frame) for name, frame in found.items()}


def _judge(workdir: Path, record: RunRecord, policy: str) -> Path | None:
    """The folder of what the judge said beside the verifier, None where it is the truth itself."""
    labels, samples = record.labels[policy], record.clips[policy]
    name = re.compile(rf"label-evaluation-{re.escape(policy)}-\w{{12}}")
    for stage in record.stages:
        if stage != labels and name.fullmatch(stage):
            settings = pull(workdir / stage) / "settings.json"
            if json.loads(settings.read_text(encoding="utf-8"))["inputs"]["samples"] == samples:
                return workdir / stage
    return None


def named_clips(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a frame of scores with clip, POLICY/SCENE/SAMPLE, in the place of scene and sample.

    A column "accept" goes where it repeats a score: such a judge has none.
    """
    clips = frame["policy"] + "/" + frame["scene_id"] + "/" + frame["sample"].astype(str)
    others = [name for name in frame if name not in (*_KEYS, "category", "accept")]
    if any(frame[name].equals(frame["accept"].rename(name)) for name in others):
        frame = frame.drop(columns="accept")
    return frame.drop(columns=["scene_id", "sample"]).assign(clip=clips)
