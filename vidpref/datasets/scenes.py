"""What clips are generated from: the scenes of a data set, and its clips."""

import dataclasses
import functools

import numpy as np

from vidpref.coordination.agreeing import decided
from vidpref.datasets.clip_rows import Records, text_of


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a clip is generated from: a prompt and the first frame.

    Attributes:
        id: unique in its data set.
        text: the prompt.
        category: e.g. "OR", one of AIF's five.
        split: "train", "validation" or "test".
        first_frame: uint8 [h, w, c]; None where generators make latents.
        record: number of the clip with the latent of its first frame, where there is one.
    """

    id: str
    text: str
    category: str
    split: str
    first_frame: np.ndarray | None
    record: int | None = None


@dataclasses.dataclass(frozen=True)
class Data:
    """A built data set: clips to pre-train on, and the scenes that generators are aligned on.

    Attributes:
        clips: pre-training clips, records with at least `prompt` and `video` (and `video_high`
            for a cascade).
        all_scenes: every scene of every split, in a fixed order.
        prompts: every distinct text of clips and scenes.
    """

    clips: Records
    all_scenes: tuple[Scene, ...]
    prompts: tuple[str, ...]

    def has(self, split: str) -> bool:
        """Whether there is a scene of a split."""
        return any(scene.split == split for scene in self.all_scenes)

    def scenes(self, split: str, count: int = 0) -> list[Scene]:
        """Returns the scenes of a split, or `count` of them taken evenly over the categories."""
        scenes = [s for s in self.all_scenes if s.split == split]
        if not scenes:
            raise ValueError(f"the data set has no {split} prompts")
        if not count or count >= len(scenes):
            return scenes
        shuffled = [scenes[i] for i in np.random.default_rng(0).permutation(len(scenes))]
        by_category: dict[str, list[Scene]] = {}
        for scene in shuffled:
            by_category.setdefault(scene.category, []).append(scene)
        turns = max(len(group) for group in by_category.values())
        order = [
            group[turn]
            for turn in range(turns)
            for _, group in sorted(by_category.items())
            if turn < len(group)
        ]
        chosen = {scene.id for scene in order[:count]}
        return [scene for scene in scenes if scene.id in chosen]

    def real_clips(self, count: int) -> list[int]:
        """Returns the indices of `count` clean clips in `clips`.

        Clean are clips of train prompts without a deliberate defect; of data sets that know neither
        defects nor splits, all. Taken evenly over the data set. Of many processes one looks, and
        tells the others; all must call this.

        Args:
            count: 0 for all. The clips are read once for each count.

        Raises:
            ValueError: fewer clean clips than asked for.
        """
        if count not in self._real_clips:
            self._real_clips[count] = decided("real clips", lambda: self._find_real_clips(count))
        return self._real_clips[count]

    def real_scenes(self, count: int) -> list[Scene]:
        """Returns the scene of each of `real_clips`, which are read for their first frames."""
        return [self._real_scene(index) for index in self.real_clips(count)]

    @functools.cached_property
    def _real_clips(self) -> dict[int, list[int]]:
        return {}

    def _find_real_clips(self, count: int) -> list[int]:
        order = range(len(self.clips)) if not count else _spread(len(self.clips))
        indices: list[int] = []
        for index in order:
            record = self.clips[index]
            split = text_of(record.get("split", "train"))
            if text_of(record.get("defect", "")) or split != "train":
                continue
            indices.append(index)
            if len(indices) == count:
                return indices
        if count or not indices:
            wanted = count or "all"
            raise ValueError(
                f"{wanted} real clips wanted, the data has {len(indices)} without a defect"
            )
        return indices

    def _real_scene(self, index: int) -> Scene:
        record = self.clips[index]
        return Scene(
            id=real_scene_id(index),
            text=text_of(record["prompt"]),
            category=text_of(record.get("category", "")),
            split="train",
            first_frame=record.get("first_frame", record["video"][0]),
        )


def real_scene_id(index: int) -> str:
    """Returns the id of the scene of a real clip."""
    return f"real-{index}"


def _spread(n: int) -> list[int]:
    return np.random.default_rng(0).permutation(n).tolist()
