"""The label stage: a judge's score of every sampled clip, as Parquet."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.datasets.records import RecordFile
from vidpref.files import write_table
from vidpref.generation.cascade import Row
from vidpref.rewards.remote_judge import JudgeError, RemoteJudge
from vidpref.rewards.reward import Reward
from vidpref.stages.sample import read_clips
from vidpref.training.metrics import Progress

NO_JUDGE = "none"  # as `config.reward.name`: clips are drawn, and nobody scores them
_LABEL = ("clip_id", "dimension", "who", "rationale")  # of a label, beside scene and scores
_CHUNK = 512  # clips between two saves: what a kill of a slow judge can cost


def build_reward(reward: ConfigDict) -> Reward:
    """Returns the judge named by `reward.name`.

    Raises:
        ValueError: unknown name or dimension, or a setting that the judge needs is missing.
    """
    judge = _build(reward)
    if reward.dimension not in judge.dimensions:
        raise ValueError(
            f"config.reward.dimension={reward.dimension!r}: {reward.name} scores "
            + ", ".join(judge.dimensions)
        )
    return judge


def one_dimension(reward: ConfigDict) -> ConfigDict:
    """Returns the section without further dimensions: a remote judge is paid by the dimension."""
    return ConfigDict(reward.to_dict() | {"dimensions": (reward.dimension,)})


def _build(reward: ConfigDict) -> Reward:
    dimensions = tuple(reward.get("dimensions", (reward.dimension,)))
    if reward.name == "verifier":
        from vidpref.rewards.verifier import Verifier

        return Verifier(dimensions=dimensions)
    if reward.name == "remote_judge":
        templates = PROJECT_ROOT / "data" / "judge_templates"
        return RemoteJudge(
            **reward.remote_judge,
            template=(templates / "accept_reject.txt").read_text(),
            dimensions=dimensions,
            graded_template=(templates / "good_normal_poor.txt").read_text(),
            descriptions={p.stem: p.read_text() for p in (templates / "dimensions").glob("*.txt")},
        )
    raise ValueError(
        f"config.reward.name={reward.name!r}: known are remote_judge, verifier and none"
    )


def label_clips(folder: Path, clips_folder: Path, reward: ConfigDict, *, name: str) -> None:
    """Scores the clips of a sample stage and writes `folder/labels.parquet`.

    One row a clip: clip_id, scene_id, prompt, category, split, sample, score (in
    `reward.dimension`), dimension, who, rationale (the words of a judge that gives some), and one
    column a dimension of the judge.
    A cascade's clips are judged at their final resolution. In a pod the first process labels.

    Args:
        folder: the stage's folder; chunks found there are kept.
        clips_folder: the folder of the sample stage.
        reward: the config's `reward` section.
        name: of the progress bar.

    Raises:
        JudgeError: clips without a verdict. All others are kept: the next call asks for the rest.
    """
    if jax.process_index() != 0:
        return
    judge = build_reward(reward)
    clips = read_clips(clips_folder)
    starts = range(0, len(clips), _CHUNK)
    with Progress(name, total=len(clips), enabled=jax.process_index() == 0) as progress:
        for start in starts:
            path = folder / f"labels-{start // _CHUNK:05d}.parquet"
            stop = min(start + _CHUNK, len(clips))
            if not path.exists():
                _label_chunk(path, clips, range(start, stop), judge, reward)
            progress.update(stop - start)
    parts = [pd.read_parquet(p) for p in sorted(folder.glob("labels-*.parquet"))]
    write_table(folder / "labels.parquet", pd.concat(parts, ignore_index=True))


def mean_score(
    drawn: Iterable[tuple[list[Row], dict[str, np.ndarray]]], reward: ConfigDict
) -> dict[str, float]:
    """Returns {dimension: mean score} of freshly drawn clips, over all processes.

    Args:
        drawn: rows and clips as `Sampler` returns them.
        reward: the config's `reward` section.
    """
    judge = build_reward(one_dimension(reward))
    scores = [
        judge.score([*clips.values()][-1], [scene.text for scene, _ in rows])[reward.dimension]
        for rows, clips in drawn
        if rows
    ]
    total = np.array([sum(s.sum() for s in scores), sum(len(s) for s in scores)])
    if jax.process_count() > 1:
        total = multihost_utils.process_allgather(total).sum(axis=0)
    return {reward.dimension: float(total[0] / total[1])}


def read_labels(folder: Path) -> pd.DataFrame:
    """Reads the labels of a finished label stage."""
    return pd.read_parquet(folder / "labels.parquet")


def evaluation_frame(labels: Mapping[str, Path]) -> pd.DataFrame:
    """Returns one row a clip: policy, split, category, prompt, scene_id, sample, accept, and the
    other dimensions of the judge.

    Args:
        labels: policy name -> folder of the label stage of its evaluation clips.
    """
    frames = [read_labels(folder).assign(policy=policy) for policy, folder in labels.items()]
    frame = pd.concat(frames, ignore_index=True)
    scores = frame.pop("score")
    if "accept" not in frame:  # a judge of something else: its one score stands for acceptance
        frame["accept"] = scores
    known = ("policy", "split", "category", "prompt", "scene_id", "sample", "accept")
    return frame[[*known, *(c for c in frame if c not in (*known, *_LABEL))]]


def _label_chunk(
    path: Path, clips: RecordFile, rows: range, judge: Reward, reward: ConfigDict
) -> None:
    """Writes the labels of `rows`, or, if the judge fails, those it gave for the next attempt."""
    kept = path.with_name(path.name.replace("labels", "scored"))
    before = [pd.read_parquet(kept)] if kept.exists() else []
    left = [i for i in rows if not any(i in frame.index for frame in before)]
    frame, failure = _label(clips, left, judge, reward)
    frame = pd.concat([*before, frame]).sort_index()
    if failure is not None:
        write_table(kept, frame)
        failure.add_note(
            f"The labels of {len(frame)} of these {len(rows)} clips are kept in {kept}; "
            "the same command asks for the others."
        )
        raise failure
    write_table(path, frame)
    kept.unlink(missing_ok=True)


def _label(
    clips: RecordFile, rows: Sequence[int], judge: Reward, reward: ConfigDict
) -> tuple[pd.DataFrame, JudgeError | None]:
    """Labels by row, and the failure of a judge that gave some clips none: these are left out."""
    records = [clips[i] for i in rows]
    video = "video_high" if "video_high" in records[0] else "video"
    prompts = [r["prompt"] for r in records]
    failure = None
    try:
        scores = judge.score(np.stack([r[video] for r in records]), prompts)
    except JudgeError as error:
        failure, scores = error, error.scores
    columns = ("clip_id", "scene_id", "prompt", "category", "split", "sample")
    frame = pd.DataFrame([{c: r[c] for c in columns} for r in records], index=list(rows))
    frame["score"] = scores[reward.dimension]
    frame["dimension"] = reward.dimension
    frame["who"] = reward.name
    frame["rationale"] = getattr(judge, "last_rationales", "")
    for dimension in judge.dimensions:
        frame[dimension] = scores[dimension]
    if failure is not None:
        frame = frame.dropna(subset=list(judge.dimensions))
    return frame, failure
