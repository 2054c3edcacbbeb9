"""The label stage: a judge's score of every sampled clip and its reason, as Parquet."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict
from scipy import special

from vidpref.coordination.agreeing import decided, gathered
from vidpref.coordination.time_spent import keep
from vidpref.files import write_table
from vidpref.generation.cascade import Row
from vidpref.rewards.registry import REWARDS, build_reward, reward_spec
from vidpref.rewards.reward import JudgeError, Reward, complaint
from vidpref.stages.row_files import RowFiles, ranges
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
) -> dict[str, int]:
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

    Returns:
        The number of rows of each file.

    Raises:
        JudgeError: clips without a verdict, in all processes alike. All others are kept: the next
            call asks for the rest.
    """
    clips = read_clips(clips_folder)
    files = RowFiles(folder, "labels", ".parquet", len(clips))
    kept = dataclasses.replace(files, kind="scored")
    there, scored, written, error = files.there(), kept.there(apart=False), [], None
    missing = files.missing(there)
    try:
        known = [pd.read_parquet(kept.path(part)) for part in scored]
        asking = _Asking(clips, build_reward(reward, artifacts), reward, given)
        mine = _share(files.total)
        with Progress(
            name, total=sum(map(len, mine)), enabled=jax.process_index() == 0
        ) as progress:
            for chunk in mine:
                for part in ranges(n for n in chunk if missing[n]):
                    _label_part(files.path(part), kept.path(part), part, known, asking)
                    written.append(part)
                    keep()
                progress.update(len(chunk))
    except Exception as caught:  # told to all: the others would wait for this process for ever
        error = caught
    raise_in_all(error)
    parts = files.complete(there, written)
    decided(f"{name}: labels", lambda: _join(files, parts, kept, clips))
    return {files.path(part).name: len(part) for part in parts}


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
            told = first_frames(reward, frames)
            scores.append(_scores(judge, seen_clip(clips), rows, told)[reward.dimension])
        except Exception as caught:
            error = caught
    raise_in_all(error)
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


def shares(labels: pd.DataFrame, among: pd.DataFrame | None = None) -> pd.DataFrame:
    """Returns labels whose scores lie in [0, 1], as tables count them.

    Scores of a judge without bounds become the share of clips that score less: of normalised ones
    by the normal distribution, so that above 0.5 is better than the mean of the clips that they are
    normalised by; of others among the clips of `among`, half of the equal ones with them.

    Args:
        labels: of one label stage.
        among: labels of the clips that others are compared with; if None, `labels`.
    """
    who = labels["who"].iloc[:1].tolist() if "who" in labels else []  # one labels a whole stage
    units = {REWARDS[name].unit for name in who if name in REWARDS} - {"share"}
    if not units:
        return labels
    first = labels.columns.get_loc("score")
    names = [name for name in labels.columns[first:] if name not in _LABEL]
    if units == {"deviation"}:
        return labels.assign(**{name: special.ndtr(labels[name]) for name in names})
    others = labels if among is None else among
    return labels.assign(**{name: _share_below(labels[name], others[name]) for name in names})


def evaluation_frame(labels: Mapping[str, Path], *, raw: bool = False) -> pd.DataFrame:
    """Returns one row a clip: policy, split, category, prompt, scene_id, sample, accept, and the
    other dimensions of the judge.

    Args:
        labels: policy name -> folder of the label stage of its evaluation clips; the policy that
            others are compared with first.
        raw: scores as the judge gave them, instead of their `shares`.
    """
    read = {policy: read_labels(folder) for policy, folder in labels.items()}
    if not raw:
        first = next(iter(read.values()))
        read = {policy: shares(scored, first) for policy, scored in read.items()}
    frames = [scored.assign(policy=policy) for policy, scored in read.items()]
    frame = pd.concat(frames, ignore_index=True)
    scores = frame.pop("score")
    if "accept" not in frame:  # a judge of something else: its one score stands for acceptance
        frame["accept"] = scores
    known = ("policy", "split", "category", "prompt", "scene_id", "sample", "accept")
    return frame[[*known, *(c for c in frame if c not in (*known, *_LABEL))]]


def _share_below(scores: pd.Series, others: pd.Series) -> np.ndarray:
    known = np.sort(others.to_numpy())
    less, not_more = (np.searchsorted(known, scores, side) for side in ("left", "right"))
    return (less + not_more) / (2 * len(known))


def _in_order(labels: pd.DataFrame, clips: SampledClips) -> pd.DataFrame:
    return labels.set_index(clips.numbers(labels["clip_id"])).sort_index()


def _join(files: RowFiles, parts: Sequence[range], kept: RowFiles, clips: SampledClips) -> None:
    """Puts the labels of all files into one."""
    files.remove_others(parts)
    kept.remove_others([])
    labels = pd.concat([pd.read_parquet(files.path(part)) for part in parts], ignore_index=True)
    write_table(files.folder / "labels.parquet", _in_order(labels, clips).reset_index(drop=True))


def _share(clips: int) -> list[range]:
    """The clips that this process labels, in chunks: between two saves, or for another process."""
    size = min(_CHUNK, -(-clips // jax.process_count()))
    chunks = [range(start, min(start + size, clips)) for start in range(0, clips, size)]
    return chunks[jax.process_index() :: jax.process_count()]


@dataclasses.dataclass(frozen=True)
class _Asking:
    """Who judges which clips, and what it is told."""

    clips: SampledClips
    judge: Reward
    reward: ConfigDict
    given: bool

    def labels(self, ids: Sequence[str]) -> tuple[pd.DataFrame, str]:
        """The labels that the judge gives to clips, and its complaint where some are missing."""
        numbers = self.clips.numbers(ids)
        records = [self.clips[number] for number in numbers]
        prompts = [record["prompt"] for record in records]
        frames = [record.get("first_frame") for record in records] if self.given else []
        told = first_frames(self.reward, frames)
        shown = np.stack([seen_clip(record) for record in records])
        judgement = self.judge.score(shown, prompts, **told)
        labels = self.clips.index.iloc[numbers].reset_index(drop=True)
        labels["score"] = judgement.scores[self.reward.dimension]
        labels["dimension"] = self.reward.dimension
        labels["who"] = self.reward.name
        labels["rationale"] = judgement.reasons
        for dimension in self.judge.dimensions:
            labels[dimension] = judgement.scores[dimension]
        if not judgement.failures:
            return labels, ""
        names = [f"clip {name}, {prompt!r}" for name, prompt in zip(ids, prompts, strict=True)]
        said = complaint(self.judge, judgement, names)
        return labels.drop(index=list(judgement.failures)), said


def _label_part(
    path: Path, kept: Path, part: range, known: Sequence[pd.DataFrame], asking: _Asking
) -> None:
    """Writes the labels of clips, or, if the judge fails, those it gave for the next attempt.

    Args:
        path: for the labels.
        kept: for those that were given before the judge failed.
        part: numbers of the clips.
        known: labels of these and other clips that were given before the judge failed.
        asking: who labels the rest.
    """
    ids = asking.clips.index["clip_id"].iloc[part.start : part.stop].tolist()
    frames = [frame[frame["clip_id"].isin(ids)] for frame in known]
    asked = {name for frame in frames for name in frame["clip_id"]}
    left, complaints = [name for name in ids if name not in asked], ""
    if left:
        new, complaints = asking.labels(left)
        frames.append(new)
    labels = pd.concat(frames, ignore_index=True).drop_duplicates("clip_id")
    if complaints:
        write_table(kept, labels)
        raise JudgeError(
            f"{complaints}\n"
            f"The labels of {len(labels)} of these {len(ids)} clips are kept in {kept}; "
            "the same command asks for the others."
        )
    write_table(path, labels)


def first_frames(reward: ConfigDict, frames: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
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


def raise_in_all(error: Exception | None) -> None:
    """Raises in every process if any has an error; waits for all of them.

    Raises:
        JudgeError: names the processes and what each raised; with one process, its own error.
    """
    said = "" if error is None else f"{type(error).__name__}: {error}"
    failed = [f"process {i}: {text}" for i, text in enumerate(gathered("labelled", said)) if text]
    if failed and jax.process_count() > 1:
        raise JudgeError("\n".join(failed)) from error
    if error is not None:
        raise error
