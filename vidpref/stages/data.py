"""The data stage: a TFDS builder of the checkout's `data/`, built once, read without TensorFlow."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import Records
from vidpref.stages.configs import PROJECT_ROOT, import_from_checkout


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

    def real_clips(self, count: int) -> tuple[list[int], list[Scene]]:
        """Returns `count` clean clips: their indices in `clips`, and the scene of each.

        Clean are clips of train prompts without a deliberate defect; of data sets that know neither
        defects nor splits, all. Taken evenly over the data set.

        Args:
            count: 0 for all. The clips are read once for each count.

        Raises:
            ValueError: fewer clean clips than asked for.
        """
        if count not in self._real_clips:
            self._real_clips[count] = self._find_real_clips(count)
        return self._real_clips[count]

    @functools.cached_property
    def _real_clips(self) -> dict[int, tuple[list[int], list[Scene]]]:
        return {}

    def _find_real_clips(self, count: int) -> tuple[list[int], list[Scene]]:
        order = range(len(self.clips)) if not count else _spread(len(self.clips))
        indices, scenes = [], []
        for index in order:
            record = self.clips[index]
            if _text(record.get("defect", "")) or _text(record.get("split", "train")) != "train":
                continue
            indices.append(index)
            scenes.append(
                Scene(
                    id=f"real-{index}",
                    text=_text(record["prompt"]),
                    category=_text(record.get("category", "")),
                    split="train",
                    first_frame=record.get("first_frame", record["video"][0]),
                )
            )
            if len(indices) == count:
                return indices, scenes
        if count or not indices:
            wanted = count or "all"
            raise ValueError(
                f"{wanted} real clips wanted, the data has {len(indices)} without a defect"
            )
        return indices, scenes


def _spread(n: int) -> list[int]:
    return np.random.default_rng(0).permutation(n).tolist()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # TFDS gives bytes


def build_data(config: ConfigDict, folder: Path) -> None:
    """Builds the data set `config.data.name` in `folder`; a finished build is left as it is.

    Raises:
        ValueError: unknown data set, or what its builder refuses.
    """
    tfds.disable_progress_bar()
    _builder(config, folder).download_and_prepare(file_format="array_record")


def open_data(config: ConfigDict, folder: Path) -> Data:
    """Opens a data set that `build_data` built."""
    builder = _builder(config, folder)
    clips = builder.as_data_source(split="pretrain")
    scenes = [
        Scene(
            id=record["id"].decode(),
            text=record["prompt"].decode(),
            category=record["category"].decode(),
            split=record["split"].decode(),
            first_frame=record["first_frame"],
        )
        for split in builder.info.splits
        if split != "pretrain"
        for record in builder.as_data_source(split=split)
        if record.get("scene_seed", 0) < config.data.get("scenes_per_prompt", 1)
    ]
    # Builders whose clips have other prompts than their scenes list them: reading every clip for
    # its prompt would take an hour at the size of Something-Something-V2.
    texts = [scene.text for scene in scenes] + list(
        (builder.info.metadata or {}).get("prompts", [])
    )
    return Data(clips, tuple(scenes), tuple(dict.fromkeys(texts)))


def _builder(config: ConfigDict, folder: Path):
    name = config.data.name
    known = sorted(path.parent.name for path in (PROJECT_ROOT / "data").glob("*/*_builder.py"))
    if name not in known:
        raise ValueError(f"config.data.name={name!r}: known are {', '.join(known)}")
    module = import_from_checkout(PROJECT_ROOT / "data" / name / f"{name}_dataset_builder.py")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    options = getattr(module, f"{class_name}Config").from_section(
        config.data.to_dict(),
        cascade=config.superres.enabled,
        prompt_sets=PROJECT_ROOT / "data" / "prompts",
    )
    builder = getattr(module, class_name)
    return builder(config=options, data_dir=folder, file_format="array_record")
