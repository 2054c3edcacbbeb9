"""The mini world as a TFDS data set: clips to pre-train on, and prompts with their first frames.

    builder = Miniworld(config="base", data_dir=..., file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source(split="pretrain")  # no TensorFlow

Measured on a CPU core: "base" 12 s, "cascade" 18 s.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vidpref.datasets.clip_builder import pixels_feature
from vidpref.datasets.miniworld import Scene, WorldPrompt, prompts, render_batch, scene
from vidpref.datasets.miniworld.actions import FRAMES, SIZE
from vidpref.datasets.miniworld.defects import pretraining_examples
from vidpref.datasets.prompts import SPLITS

_BATCH = 64


@dataclasses.dataclass(kw_only=True)
class MiniworldConfig(tfds.core.BuilderConfig):
    """How much of the world to write.

    Attributes:
        pretrain_clips: of the train and validation prompts, a quarter of them defective.
        scenes_per_prompt: first frames a prompt is given in the `prompts_*` splits.
        high_resolution: also write `video_high`, the same clips at twice the size.
        camera: also have prompts in which the camera pans.
    """

    pretrain_clips: int = 12_000
    scenes_per_prompt: int = 4
    high_resolution: bool = False
    camera: bool = False

    @classmethod
    def from_section(cls, section: Mapping[str, Any], *, cascade: bool, **_: Any) -> str:
        """Returns the name of the config that a run's `data` section asks for.

        Raises:
            ValueError: `camera` together with a cascade, or another size than the world's.
        """
        sizes = {"frames": FRAMES, "height": SIZE, "width": SIZE}
        if cascade:
            sizes |= {"high_height": 2 * SIZE, "high_width": 2 * SIZE}
        for name, size in sizes.items():
            if section.get(name, size) != size:
                raise ValueError(
                    f"config.data.{name}={section[name]}: clips of the mini world have {size}"
                )
        if section.get("camera"):
            if cascade:
                raise ValueError(
                    "config.data.camera=True and config.superres.enabled=True: the moving camera "
                    "is written at 16x16 only; set one of them to False"
                )
            return "camera"
        return "cascade" if cascade else "base"


# The stages look builders up by file, so a second import must not clash with the first.
class Miniworld(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Coloured shapes doing one of sixteen things."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        MiniworldConfig(name="base", description="16x16 pixels"),
        MiniworldConfig(name="cascade", description="16x16 and 32x32 pixels", high_resolution=True),
        MiniworldConfig(name="camera", description="16x16 pixels, panning too", camera=True),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "id": tfds.features.Text(),
            "prompt": tfds.features.Text(),
            "category": tfds.features.Text(),
            "split": tfds.features.Text(),
            "action": tfds.features.Text(),
            "defect": tfds.features.Text(),  # "" for a clip that does what the prompt says
            "scene_seed": tfds.features.Scalar(np.int64),
            "first_frame": pixels_feature(SIZE, SIZE, 3),
            "video": pixels_feature(FRAMES, SIZE, SIZE, 3),
        }
        if self.builder_config.high_resolution:
            features["video_high"] = pixels_feature(FRAMES, 2 * SIZE, 2 * SIZE, 3)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Clips of the mini world of vidpref, rendered by its own code.",
            features=tfds.features.FeaturesDict(features),
            # The pre-training clips come in random order already.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config
        pretrain = (
            (example.prompt, example.seed, example.defect, example.scene())
            for example in pretraining_examples(config.pretrain_clips, camera=config.camera)
        )
        return {
            "pretrain": self._generate_examples(pretrain),
            **{
                f"prompts_{split}": self._generate_examples(
                    (prompt, seed, "", scene(prompt, seed))
                    for prompt in prompts(split, camera=config.camera)
                    for seed in range(config.scenes_per_prompt)
                )
                for split in SPLITS
            },
        }

    def _generate_examples(
        self, clips: Iterable[tuple[WorldPrompt, int, str, Scene]]
    ) -> Iterator[tuple[int, dict]]:
        key = itertools.count()
        for batch in _batched(clips, _BATCH):
            scenes = [scene for *_, scene in batch]
            videos = render_batch(scenes)
            high = render_batch(scenes, scale=2) if self.builder_config.high_resolution else None
            for i, (prompt, seed, defect, _) in enumerate(batch):
                record = {
                    "id": "-".join(filter(None, (prompt.id, str(seed), defect))),
                    "prompt": prompt.text,
                    "category": prompt.category,
                    "split": prompt.split,
                    "action": prompt.action,
                    "defect": defect,
                    "scene_seed": seed,
                    "first_frame": videos[i, 0],
                    "video": videos[i],
                }
                if high is not None:
                    record["video_high"] = high[i]
                yield next(key), record


def _batched(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch
