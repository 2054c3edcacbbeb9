"""The align stage: labelled clips into rows, an objective over them, a better policy."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets import pairs
from vidpref.datasets.clip_rows import ClipRows
from vidpref.datasets.text import TextCache
from vidpref.objectives.alignment import OBJECTIVES, check_hyper
from vidpref.stages.artifacts import write_atomic
from vidpref.stages.generator import Generator
from vidpref.stages.label import read_labels
from vidpref.stages.pretrain import train
from vidpref.stages.sample import read_clips
from vidpref.typing import PyTree

# Fields of `config.align` that are not hyper-parameters of the objective.
_SETTINGS = ("method", "reduction", "train", "validation", "pairs", "max_pairs_per_prompt")


def hyper_parameters(config: ConfigDict) -> dict[str, float]:
    """Returns the objective's hyper-parameters in `config.align`, checked.

    Raises:
        ValueError: an unknown method, or a value out of its range.
    """
    if config.method not in OBJECTIVES:
        raise ValueError(f"config.align.method={config.method!r}: known are {sorted(OBJECTIVES)}")
    hyper = {k: v for k, v in config.items() if k not in _SETTINGS}
    check_hyper(config.method, hyper)
    return hyper


def align(
    folder: Path,
    *,
    generator: Generator,
    params: PyTree,
    clips_folder: Path,
    labels_folder: Path,
    texts: TextCache,
    config: ConfigDict,
    error_in: str,
    seed: int,
    mesh: Mesh,
    validate: Callable[[PyTree], dict[str, float]],
) -> None:
    """Trains the policy and writes `folder/params`.

    Args:
        folder: the stage's folder.
        generator: the base generator.
        params: where the policy starts, and the frozen reference.
        clips_folder: of the sample stage.
        labels_folder: of the label stage.
        texts: embedding of every prompt.
        config: the `align` section.
        error_in: space of the denoising error.
        seed: of batches and noise.
        mesh: devices.
        validate: sampled acceptance of a policy, for the choice of the checkpoint.
    """
    hyper = hyper_parameters(config)
    labels = read_labels(labels_folder)
    clips = read_clips(clips_folder)
    rows, rewards = _rows(labels, config, seed, folder)
    train(
        folder,
        generator=generator,
        rows=ClipRows(clips, rows, rewards, texts),
        objective=config.method,
        hyper=hyper,
        config=config,
        error_in=error_in,
        seed=seed,
        mesh=mesh,
        params=params,
        validate=validate if config.train.best_metric else None,
    )


def _rows(
    labels: pd.DataFrame, config: ConfigDict, seed: int, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of clips [n, k] and their rewards [n, k]; says how many scenes gave no pair."""
    if OBJECTIVES[config.method].k == 1:
        return np.arange(len(labels))[:, None], labels["score"].to_numpy(np.float32)[:, None]
    table = labels.rename(columns={"scene_id": "prompt_id", "score": "reward"})
    if config.pairs == "best_worst":
        chosen, report = pairs.best_worst(table)
    elif config.pairs == "accepted_rejected":
        chosen, report = pairs.accepted_rejected(table, config.max_pairs_per_prompt, seed)
    else:
        raise ValueError(
            f"config.align.pairs={config.pairs!r}: known are accepted_rejected and best_worst"
        )
    write_atomic(folder / "pairs.json", json.dumps(dataclasses.asdict(report), indent=2))
    logging.info("pairs: %d from %s", len(chosen), report)
    if chosen.empty:
        raise ValueError(
            f"no prompt gave a preference pair ({report}). The judge found no difference: sample "
            "more clips a prompt (config.label.per_prompt) or use another judge (config.reward)."
        )
    index = pd.Series(np.arange(len(labels)), index=labels["clip_id"])
    rows = np.stack([index[chosen["winner"]], index[chosen["loser"]]], axis=1)
    rewards = chosen[["reward_winner", "reward_loser"]].to_numpy(np.float32)
    return rows, rewards
