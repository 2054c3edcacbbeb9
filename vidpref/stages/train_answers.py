"""The judge stage of a model that answers: it learns to, and is asked about held-out clips."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import pandas as pd
from absl import logging

from vidpref.coordination.agreeing import decided, gathered
from vidpref.datasets.pipeline import training_batches
from vidpref.files import write_table, write_text
from vidpref.interop.qwen_vl_folders import export_qwen_vl
from vidpref.rewards.questions import shown_frames
from vidpref.rewards.registry import JUDGE
from vidpref.rewards.vlm_judge import VlmJudge
from vidpref.stages.answer_examples import Bounds, word_of
from vidpref.stages.answer_rows import AnswerRows
from vidpref.stages.answer_training import AnswerTraining
from vidpref.stages.judge_held_out import ACCOUNT, SCORES, HeldOut, pair_accuracy
from vidpref.stages.judge_rows import SeenClips
from vidpref.stages.ranked_rows import RankedRows
from vidpref.storage import mirror
from vidpref.training.loop import fit
from vidpref.training.processes import share_of
from vidpref.training.sharding import batch_sharding
from vidpref.typing import Float, PyTree

_CHUNK = 256  # clips that are asked about at once: what the host holds


def train_answers(
    folder: Path,
    training: AnswerTraining,
    rows: AnswerRows | RankedRows,
    *,
    seed: int,
) -> PyTree:
    """Trains a judge to answer; returns the parameters of the whole network.

    Args:
        folder: the stage's folder; a run that was stopped there goes on.
        training: result of `answer_training`.
        rows: what is asked and answered.
        seed: seed of the order of the rows and of dropout.
    """
    plan = training.plan
    size = plan.settings.batch_size
    said = ", ".join(f"{r.tokens}x{r.frames}x{r.patches}, answers {n}" for r, n in rows.rooms)
    logging.info("judge: %d questions; tokens x frames x patches: %s", len(rows), said)
    batches = training_batches(
        rows,
        batch_size=size,
        seed=seed,
        shapes=rows.shapes,
        positions=share_of(batch_sharding(plan.mesh), size).held,
    )
    params, tuning = training.start(), plan.tuning
    state = fit(
        plan,
        batches,
        folder,
        seed=seed,
        start=tuning.start(params),
        frozen=tuning.frozen(params),
    )
    trained = state.ema if plan.settings.ema_decay else state.params
    return tuning.whole(trained, params)


def write_judge(
    folder: Path,
    training: AnswerTraining,
    params: PyTree,
    clips: SeenClips,
    held_out: Mapping[str, HeldOut],
    bounds: Mapping[str, Bounds],
    compared: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Writes a judge to `folder/judge`, as transformers reads it, and asks it about held-out clips.

    It is asked as a run would ask it: `folder/judge.json` has of each split and dimension how often
    it says the word that the rating stands for, and how often it orders a pair right,
    `folder/scores.parquet` what it said.

    Args:
        folder: the stage's folder.
        training: what was trained.
        params: of the whole network.
        clips: all clips.
        held_out: by split.
        bounds: by dimension, result of `bounds_of`.
        compared: by split, what else is said of it under "comparisons".
    """
    if mirror.mirrored(folder):  # where a folder of files is not put whole
        mirror.remove(folder / JUDGE)
    if not (folder / JUDGE).exists():
        export_qwen_vl(
            folder / JUDGE,
            training.model,
            params["model"],
            source=training.base.path,
            dtype=training.section.export_dtype,
        )
    account, tables = {}, []
    judge = _judge(folder / JUDGE, training)
    for split, own in held_out.items():
        scores, reasons = _asked(judge, training.reader.own.frames, clips, own.numbers, split)
        account[split] = _account(training, scores, own, bounds)
        if split in compared:
            account[split]["comparisons"] = dict(compared[split])
        logging.info("judge: %s: %s", split, account[split])
        about = clips.index.iloc[own.numbers]
        table = {"clip": about.index, "prompt": about["prompt"].to_numpy(), "split": split}
        table |= dict(zip(judge.dimensions, scores.T, strict=True))
        tables.append(pd.DataFrame(table | {"rationale": reasons}))

    def write() -> None:
        write_table(folder / SCORES, pd.concat(tables, ignore_index=True))
        write_text(folder / ACCOUNT, json.dumps(account, indent=2) + "\n")

    decided("judge: account", write)


def _judge(folder: Path, training: AnswerTraining) -> VlmJudge:
    own = training.reader.own.to_dict() | {"folder": str(folder)}
    for name in ("graded", "templates"):
        del own[name]
    return VlmJudge(training.reader.single, **own)


def _asked(
    judge: VlmJudge, frames: int, clips: SeenClips, numbers: np.ndarray, split: str
) -> tuple[Float[np.ndarray, "n d"], list[str]]:
    """Scores of clips, NaN where an answer is not clear, and what was said; in every process."""
    mine = range(jax.process_index(), len(numbers), jax.process_count())
    sizes = clips.index[["frames", "height", "width"]].to_numpy()
    by_size: dict[tuple[int, ...], list[int]] = {}
    for i in mine:
        by_size.setdefault(tuple(sizes[numbers[i]].tolist()), []).append(i)
    found: list[list[Any]] = []
    for places in by_size.values():
        for start in range(0, len(places), _CHUNK):
            part = places[start : start + _CHUNK]
            records = [clips.record(int(numbers[i])) for i in part]
            chosen = [r["video"][shown_frames(len(r["video"]), frames)] for r in records]
            prompts = [str(clips.index["prompt"].iloc[int(numbers[i])]) for i in part]
            said = judge.score(np.stack(chosen), prompts)
            for k, i in enumerate(part):
                row = [float(said.scores[name][k]) for name in judge.dimensions]
                row = [None if np.isnan(x) else x for x in row]
                found.append([i, row, said.failures.get(k) or said.reasons[k]])
    every = gathered(f"judge: {split}", found)
    rows = sorted((row for own in every for row in own), key=lambda row: row[0])
    scores = [[np.nan if x is None else x for x in row] for _, row, _ in rows]
    shape = (-1, len(judge.dimensions))
    return np.array(scores, np.float32).reshape(shape), [reason for *_, reason in rows]


def _account(
    training: AnswerTraining,
    scores: Float[np.ndarray, "n d"],
    own: HeldOut,
    bounds: Mapping[str, Bounds],
) -> dict[str, Any]:
    """Of a split and each dimension: how often the word is right, and the order of pairs.

    Of a score between the words, the nearest is what it says.
    """
    found: dict[str, Any] = {"clips": len(own.numbers), "pairs": len(own.pairs)}
    single = training.reader.single
    ordered = pair_accuracy(tuple(single), scores, own) if len(own.pairs) else {}
    for i, (name, asked) in enumerate(single.items()):
        rated, words = ~np.isnan(own.ratings[:, i]), asked[0].words
        meant = [words[word_of(asked[0], float(r), bounds[name])] for r in own.ratings[rated, i]]
        said = scores[rated, i]
        worth = np.array(sorted(words.values()))
        near = worth[np.abs(np.nan_to_num(said, nan=9.0)[:, None] - worth).argmin(axis=1)]
        right = (near == np.array(meant)) & ~np.isnan(said)
        found[name] = {
            "rated": len(said),
            "unclear": int(np.isnan(said).sum()),
            "right": float(right.mean()) if len(said) else None,
            **ordered.get(name, {}),
        }
    return found
