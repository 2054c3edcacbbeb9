"""One of two processes that draw and label the same clips together.

`python label_in_two_processes.py RANK PORT OUT`; what was asked and raised goes to OUT.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from tests.stages.sampled_clips import write_sampled
from tests.two_processes import joined
from vidpref.config.fields import build
from vidpref.config.schema import Reward
from vidpref.datasets.scenes import Scene
from vidpref.rewards.registry import REWARDS, RewardSpec
from vidpref.rewards.reward import Judgement
from vidpref.stages import label
from vidpref.stages.online.judging import GroupJudge
from vidpref.training.processes import share_of
from vidpref.training.sharding import batch_sharding, make_mesh

CLIPS = 11
REWARD = build(Reward(name="pixels"))


class Pixels:
    """Scores a clip by its pixels, which are its number; some numbers are trouble."""

    dimensions = ("accept",)

    def __init__(self, *, lost: tuple[int, ...] = (), raises: bool = False):
        self.lost, self.raises, self.asked = lost, raises, []

    def __str__(self) -> str:
        return "the pixels"

    def score(self, clips, prompts):
        if self.raises:
            raise ValueError("out of order")
        numbers = clips[:, 0, 0, 0, 0].tolist()
        self.asked += numbers
        scores = np.array([np.nan if n in self.lost else n / 16 for n in numbers], np.float32)
        failures = {i: f"{n} is lost" for i, n in enumerate(numbers) if n in self.lost}
        return Judgement({"accept": scores}, [f"number {n}" for n in numbers], failures)


def numbered(count: int) -> np.ndarray:
    return np.zeros((count, 2, 4, 4, 3), np.uint8) + np.arange(count, dtype=np.uint8).reshape(
        -1, 1, 1, 1, 1
    )


def label_with(folder: Path, **trouble: object) -> list[int]:
    """Returns the numbers that this process's judge was asked about."""
    judge = Pixels(**trouble)
    REWARDS["pixels"] = RewardSpec(lambda *_: judge)
    label._CHUNK = 4
    label.label_clips(folder, folder, REWARD, name="label")
    return judge.asked


def mean_of(numbers: list[int], **trouble: object) -> float:
    """The mean score over all processes of this one's numbers, in two draws."""
    REWARDS["pixels"] = RewardSpec(lambda *_: Pixels(**trouble))
    rows = [(Scene(str(n), "a ball", "DM", "train", None), 0) for n in numbers]
    clips = {"video": numbered(16)[numbers]}
    drawn = [(rows, clips), ([], {"video": clips["video"][:0]})]
    return label.mean_score(drawn, REWARD)["accept"]


def groups_of_mine(**trouble: object) -> list[list[float]]:
    """Scores of groups of two clips, whose rows are divided over all processes; -1 of failures."""
    mesh = make_mesh({"data": -1})
    share = share_of(batch_sharding(mesh), 2 * jax.device_count())
    clips = numbered(2 * share.size).reshape(share.size, 2, 2, 4, 4, 3)
    drawn = {
        "clips": clips,
        "scene": np.arange(share.size, dtype=np.int32),
        "not_finite": np.zeros((share.size, 2), np.int32),
    }
    drawn = share.place({name: x[share.held] for name, x in drawn.items()})
    scenes = [Scene(str(n), "a ball", "DM", "train", None) for n in range(share.size)]
    found = GroupJudge(Pixels(**trouble), REWARD, scenes, mesh)(drawn, step=1)
    return np.nan_to_num(found["accept"], nan=-1.0).tolist()


def raised(call: Callable, *args: object, **options: object) -> str:
    try:
        call(*args, **options)
    except label.JudgeError as error:
        return str(error)
    return ""


def main(rank: int, out: Path) -> None:
    write_sampled(out, numbered(CLIPS), batch_size=4)
    multihost_utils.sync_global_devices("index")  # as after every stage of a run
    found = {
        "lost": raised(label_with, out, lost=(5,)),
        "error": raised(label_with, out, raises=rank == 1),
        "asked": label_with(out),
        "again": label_with(out),
        "mean lost": raised(mean_of, [1, 2] if rank == 0 else [3], lost=(3,)),
        "mean": mean_of([1, 2] if rank == 0 else [3]),
        "groups": groups_of_mine(lost=(3,)),
        "groups error": raised(groups_of_mine, raises=rank == 1),
        "no group": raised(groups_of_mine, lost=tuple(range(16))),
    }
    (out / f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    rank, port = int(sys.argv[1]), int(sys.argv[2])
    with joined(rank, port):
        main(rank, Path(sys.argv[3]))
