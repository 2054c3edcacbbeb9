"""The label stage: a judge's score of every sampled clip and its reason, as Parquet."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from vidpref.coordination.agreeing import decided, gathered
from vidpref.files import write_table
from vidpref.generation.cascade import Row
from vidpref.rewards.registry import build_reward, reward_spec
from vidpref.rewards.reward import JudgeError, Reward, complaint
from vidpref.stages.sample import SampledClips, clip_id, read_clips, seen_clip
from vidpref.training.metrics import Progress

_LABEL = ("clip_id", "dimension", "who", "rationale")  # of a label, beside scene and scores
_CHUNK = 512  # clips between two saves: what a kill of a slow judge can cost


def label_clips(
    folder: Path,
    clips_folder: Path,
    reward: ConfigDict,
    *,
    name: str,
    artifacts: Mapping[str, Path] = MappingProxyType({}),
    given: bool = False,
) -> None:
    """Scores the clips of a sample stage and writes `folder/labels.parquet`.

    One row a clip, in the order of the clips' index: clip_id, scene_id, prompt, category, split,
    sample, score (in `reward.dimension`), dimension, who, rationale (the judge's reason), and one
    column a dimension of the judge. A cascade's clips are judged at their final resolution. The
    processes of a pod divide the clips among them.

    Args:
        folder: the stage's folder; what was labelled there is kept.
        clips_folder: the folder of the sample stage.
        reward: the config's `reward` section.
        name: name of the progress bar.
        artifacts: folder of each artifact that the judge is built from, by its name.
        given: the generator began with each scene's first frame; a judge that can will compare.

    Raises:
        JudgeError: clips without a verdict, in all processes alike. All others are kept: the next
            call asks for the rest.
    """
    error = None
    try:
        clips = read_clips(clips_folder)
        chunks = _chunks(folder, clips)
        judge = build_reward(reward, artifacts)
        mine = chunks[jax.process_index() :: jax.process_count()]
        with Progress(
            name, total=sum(len(ids) for _, ids in mine), enabled=jax.process_index() == 0
        ) as progress:
            for path, ids in mine:
                if not path.exists():
                    _label_chunk(path, clips, ids, judge, reward, given)
                progress.update(len(ids))
    except Exception as caught:  # told to all: the others would wait for this process for ever
        error = caught
    _raise_in_all(error)
    decided(f"{name}: labels", lambda: _join(folder, chunks, clips))


def mean_score(
    drawn: Iterable[tuple[list[Row], dict[str, np.ndarray]]],
    reward: ConfigDict,
    artifacts: Mapping[str, Path] = MappingProxyType({}),
    given: bool = False,
) -> dict[str, float]:
    """Returns {dimension: mean score} of freshly drawn clips, over all processes.

    Args:
        drawn: rows and clips as `Sampler` returns them.
        reward: the config's `reward` section.
        artifacts: folder of each artifact that the judge is built from, by its name.
        given: see `label_clips`.

    Raises:
        JudgeError: clips without a verdict, in all processes alike.
    """
    # a remote judge is paid by the dimension
    judge = build_reward(reward, artifacts, dimensions=(reward.dimension,))
    scores, error = [], None
    for rows, clips in drawn:  # to the end, error or not: all processes draw together
        if not rows or error is not None:
            continue
        try:
            frames = [scene.first_frame for scene, _ in rows] if given else []
            told = _first_frames(reward, frames)
            scores.append(_scores(judge, seen_clip(clips), rows, told)[reward.dimension])
        except Exception as caught:
            error = caught
    _raise_in_all(error)
    total = [float(sum(s.sum() for s in scores)), sum(len(s) for s in scores)]
    sums, counts = zip(*gathered("mean score", total), strict=True)
    return {reward.dimension: sum(sums) / sum(counts)}


def read_labels(folder: Path) -> pd.DataFrame:
    """Reads the labels of a finished label stage."""
    return pd.read_parquet(folder / "labels.parquet")


def labels_of(clips: SampledClips, folder: Path) -> pd.DataFrame:
    """Returns the labels of clips, joined by their ids: in the order of the clips, whose numbers
    are the index.

    Args:
        clips: the clips.
        folder: the folder of a label stage.

    Raises:
        KeyError: labels of other clips.
    """
    return _in_order(read_labels(folder), clips)


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


def _in_order(labels: pd.DataFrame, clips: SampledClips) -> pd.DataFrame:
    return labels.set_index(clips.numbers(labels["clip_id"])).sort_index()


def _join(folder: Path, chunks: Sequence[tuple[Path, list[str]]], clips: SampledClips) -> None:
    """Puts the labels of all chunks into one file."""
    labels = pd.concat([pd.read_parquet(path) for path, _ in chunks], ignore_index=True)
    write_table(folder / "labels.parquet", _in_order(labels, clips).reset_index(drop=True))


def _chunks(folder: Path, clips: SampledClips) -> list[tuple[Path, list[str]]]:
    """The file of every chunk and the ids of its clips."""
    ids = clips.index["clip_id"].tolist()
    parts = [ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)]
    return [(folder / f"labels-{i:05d}.parquet", part) for i, part in enumerate(parts)]


def _label_chunk(
    path: Path,
    clips: SampledClips,
    ids: Sequence[str],
    judge: Reward,
    reward: ConfigDict,
    given: bool,
) -> None:
    """Writes the labels of clips, or, if the judge fails, those it gave for the next attempt."""
    kept = path.with_name(path.name.replace("labels", "scored"))
    frames = [pd.read_parquet(kept)] if kept.exists() else []
    known = {name for frame in frames for name in frame["clip_id"]}
    left = [name for name in ids if name not in known]
    numbers = clips.numbers(left)
    records = [clips[number] for number in numbers]
    prompts = [record["prompt"] for record in records]
    told = _first_frames(reward, [record.get("first_frame") for record in records] if given else [])
    judgement = judge.score(np.stack([seen_clip(record) for record in records]), prompts, **told)
    frame = clips.index.iloc[numbers].reset_index(drop=True)
    frame["score"] = judgement.scores[reward.dimension]
    frame["dimension"] = reward.dimension
    frame["who"] = reward.name
    frame["rationale"] = judgement.reasons
    for dimension in judge.dimensions:
        frame[dimension] = judgement.scores[dimension]
    labels = pd.concat([*frames, frame.drop(index=list(judgement.failures))], ignore_index=True)
    if judgement.failures:
        write_table(kept, labels)
        names = [f"clip {name}, {prompt!r}" for name, prompt in zip(left, prompts, strict=True)]
        raise JudgeError(
            f"{complaint(judge, judgement, names)}\n"
            f"The labels of {len(labels)} of these {len(ids)} clips are kept in {kept}; "
            "the same command asks for the others."
        )
    write_table(path, labels)
    kept.unlink(missing_ok=True)


def _first_frames(reward: ConfigDict, frames: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    """What `score` is told beside clips and prompts: where the judge compares them and all are
    there, the frames.
    """
    if not reward_spec(reward).first_frames or not frames or any(f is None for f in frames):
        return {}
    return {"first_frames": np.stack(frames)}


def _scores(
    judge: Reward, clips: np.ndarray, rows: Sequence[Row], told: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    judgement = judge.score(clips, [scene.text for scene, _ in rows], **told)
    if judgement.failures:
        names = [f"clip {clip_id(*row)}, {row[0].text!r}" for row in rows]
        raise JudgeError(complaint(judge, judgement, names))
    return judgement.scores


def _raise_in_all(error: Exception | None) -> None:
    """Raises in every process if any has an error; waits for all of them."""
    said = "" if error is None else f"{type(error).__name__}: {error}"
    failed = [f"process {i}: {text}" for i, text in enumerate(gathered("labelled", said)) if text]
    if failed and jax.process_count() > 1:
        raise JudgeError("\n".join(failed)) from error
    if error is not None:
        raise error
