"""The label stage: a judge's score of every sampled clip, as Parquet."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from vidpref.datasets.records import RecordFile
from vidpref.rewards.reward import Reward
from vidpref.stages.configs import PROJECT_ROOT
from vidpref.stages.sample import Row, read_clips
from vidpref.training.metrics import Progress

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


def _build(reward: ConfigDict) -> Reward:
    if reward.name == "verifier":
        from vidpref.rewards.verifier import Verifier

        return Verifier(dimensions=tuple(reward.get("dimensions", (reward.dimension,))))
    if reward.name == "remote_judge":
        from vidpref.rewards.remote_judge import RemoteJudge

        template = PROJECT_ROOT / "data" / "judge_templates" / "accept_reject.txt"
        return RemoteJudge(**reward.remote_judge, template=template.read_text())
    raise ValueError(f"config.reward.name={reward.name!r}: known are remote_judge and verifier")


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
                temporary = path.with_suffix(".partial")
                _label(clips, range(start, stop), judge, reward).to_parquet(temporary)
                temporary.replace(path)
            progress.update(stop - start)
    parts = [pd.read_parquet(p) for p in sorted(folder.glob("labels-*.parquet"))]
    temporary = folder / "labels.partial"
    pd.concat(parts, ignore_index=True).to_parquet(temporary)
    temporary.replace(folder / "labels.parquet")


def mean_score(
    drawn: Iterable[tuple[list[Row], list[np.ndarray]]], reward: ConfigDict
) -> dict[str, float]:
    """Returns {dimension: mean score} of freshly drawn clips, over all processes.

    Args:
        drawn: rows and clips as `Sampler` returns them.
        reward: the config's `reward` section.
    """
    judge = build_reward(reward)
    scores = [
        judge.score(videos[-1], [scene.text for scene, _ in rows])[reward.dimension]
        for rows, videos in drawn
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


def _label(clips: RecordFile, rows: range, judge: Reward, reward: ConfigDict) -> pd.DataFrame:
    records = [clips[i] for i in rows]
    video = "video_high" if "video_high" in records[0] else "video"
    prompts = [r["prompt"] for r in records]
    scores = judge.score(np.stack([r[video] for r in records]), prompts)
    columns = ("clip_id", "scene_id", "prompt", "category", "split", "sample")
    frame = pd.DataFrame([{c: r[c] for c in columns} for r in records])
    frame["score"] = scores[reward.dimension]
    frame["dimension"] = reward.dimension
    frame["who"] = reward.name
    frame["rationale"] = getattr(judge, "last_rationales", "")
    for dimension in judge.dimensions:
        frame[dimension] = scores[dimension]
    return frame
