"""The judge stage: a reward model is trained on pairs of videos, normalised and written whole."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import logging

from vidpref.coordination.agreeing import decided
from vidpref.datasets.pipeline import training_batches
from vidpref.files import write_table, write_text
from vidpref.interop.video_reward_export import export_video_reward
from vidpref.language.reward_scores import Normalisation
from vidpref.models.qwen_vl.packing import Room
from vidpref.rewards.registry import JUDGE
from vidpref.stages.judge_held_out import ACCOUNT, SCORES, HeldOut, pair_accuracy
from vidpref.stages.judge_rows import JudgeRows, SeenClips, room_of
from vidpref.stages.judge_training import JudgeTraining
from vidpref.storage import mirror
from vidpref.training.loop import fit
from vidpref.training.parts_and_adapters import PartsAndAdapters
from vidpref.training.processes import padded, share_of
from vidpref.training.sharding import (
    batch_sharding,
    filled_up,
)
from vidpref.typing import Float, Int, PyTree


def train_judge(
    folder: Path,
    training: JudgeTraining,
    rows: JudgeRows,
    clips: SeenClips,
    held_out: Mapping[str, HeldOut],
    *,
    seed: int,
) -> None:
    """Trains a reward model, and writes it to `folder/judge` with the scale of its scores.

    Scores are normalised by the mean and deviation of the validation clips. `folder/judge.json`
    holds that, and of each held-out split the accuracy without ties, `folder/scores.parquet` the
    scores of its clips.

    Args:
        folder: the stage's folder; a run that was stopped there goes on.
        training: result of `judge_training`.
        rows: pairs to train on.
        clips: all clips.
        held_out: by split, "validation" among them.
        seed: seed of the head, the order of the rows and dropout.

    Raises:
        ValueError: fewer than two validation clips.
    """
    validation = held_out["validation"].numbers
    if len(validation) < 2:
        raise ValueError(
            f"{len(validation)} clips of validation prompts: scores cannot be normalised by them. "
            "Raise config.data.held_out, or add prompts"
        )
    plan = training.plan
    size = plan.settings.batch_size
    said = ", ".join(f"{r.tokens}x{r.frames}x{r.patches}" for r in rows.rooms)
    logging.info("judge: %d pairs; tokens x frames x patches of batches: %s", len(rows), said)
    batches = training_batches(
        rows,
        batch_size=size,
        seed=seed,
        shapes=rows.shapes,
        positions=share_of(batch_sharding(plan.mesh), size).held,
    )
    params = training.start(seed)
    tuning = plan.tuning
    state = fit(
        plan,
        batches,
        folder,
        seed=seed,
        start=tuning.start(params),
        frozen=tuning.frozen(params),
    )
    trained = state.ema if plan.settings.ema_decay else state.params
    adapted = isinstance(tuning, PartsAndAdapters)
    policy = (tuning.adapted if adapted else tuning.whole)(trained, params)
    scores = {
        split: score_clips(training, policy, clips, own.numbers) for split, own in held_out.items()
    }
    dimensions = training.settings.dimensions
    scale = Normalisation.fit(
        dict(zip(dimensions, scores["validation"].T, strict=True)),
        f"{len(validation)} clips of validation prompts",
    )
    if mirror.mirrored(folder):  # where a folder of files is not put whole
        mirror.remove(folder / JUDGE)
    if not (folder / JUDGE).exists():
        export_video_reward(
            folder / JUDGE,
            training.module,
            policy,
            dataclasses.replace(training.settings, normalisation=scale),
            training.reader,
            step=plan.settings.steps,
            dtype=training.section.export_dtype,
        )
    account = {"normalisation": {"mean": dict(scale.mean), "std": dict(scale.std), "of": scale.of}}
    for split, own in held_out.items():
        account[split] = {"clips": len(own.numbers), "pairs": len(own.pairs)}
        if len(own.pairs):
            account[split] |= pair_accuracy(dimensions, scores[split], own)
    decided("judge: account", lambda: _write(folder, account, clips, held_out, scores, scale))
    logging.info("judge: scores are normalised by %s", scale)
    for split in held_out:
        logging.info("judge: %s: %s", split, account[split])


def score_clips(
    training: JudgeTraining, policy: PyTree, clips: SeenClips, numbers: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n d"]:
    """Returns raw scores of clips, the same in every process.

    Args:
        training: result of `judge_training`.
        policy: what `apply_network` takes.
        clips: all clips.
        numbers: which of them, in `clips.index`.
    """
    reader, mesh = training.reader, training.plan.mesh
    size = filled_up(training.section.score_batch, mesh)
    share = share_of(batch_sharding(mesh), size)
    found = np.zeros((len(numbers), training.module.dimensions), np.float32)
    rooms: dict[Room, list[int]] = {}
    for i, number in enumerate(numbers):
        rooms.setdefault(room_of(clips.index.iloc[number], reader), []).append(i)
    for room, places in rooms.items():
        for start in range(0, len(places), size):
            part = places[start : start + size]
            full = np.array(padded(part, size))
            held = [clips.record(int(numbers[i])) for i in full[share.held]]
            rows = [reader.row(r["video"], r["fps"], r["prompt"]) for r in held]
            scores = training.scorer(policy, share.place(reader.pack(rows, room)))
            found[part] = np.asarray(scores)[: len(part)]
    return found


def _write(
    folder: Path,
    account: dict[str, Any],
    clips: SeenClips,
    held_out: Mapping[str, HeldOut],
    scores: Mapping[str, np.ndarray],
    scale: Normalisation,
) -> None:
    tables = []
    for split, own in held_out.items():
        raw = dict(zip(scale.mean, scores[split].T, strict=True))
        chosen = clips.index.iloc[own.numbers]
        about = {"clip": chosen.index, "prompt": chosen["prompt"].to_numpy(), "split": split}
        about |= {name: chosen[name].to_numpy() for name in ("frames", "height", "width")}
        as_read = {f"raw_{name}": values for name, values in raw.items()}
        tables.append(pd.DataFrame({**about, **scale(raw), **as_read}))
    write_table(folder / SCORES, pd.concat(tables, ignore_index=True))
    write_text(folder / ACCOUNT, json.dumps(account, indent=2) + "\n")
