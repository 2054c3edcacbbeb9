"""A plain folder of videos as a TFDS data set: `videos/` and `captions.csv`.

    builder = VideoFolder(config=VideoFolderConfig(path="my_clips"), data_dir=...,
                          file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source(split="pretrain")  # no TensorFlow

`pretrain` holds the videos of the split "train"; `prompts_{train,validation,test}` a part of each
split's videos, whose captions and first frames are what a generator is aligned and judged on.
"""

import dataclasses
from pathlib import Path

import numpy as np
from absl import logging

from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.clip_builder import ClipJob, VideoBuilder, VideoConfig
from vidpref.datasets.prompts import SPLITS
from vidpref.datasets.video_folder import load_captions, unknown_files


@dataclasses.dataclass(kw_only=True)
class VideoFolderConfig(VideoConfig):
    """Options of the builder.

    Attributes:
        held_out: without a split column, the part of the captions kept for test, and again for
            validation.
        prompts_per_split: at most so many prompts a split, drawn once and for all.
    """

    held_out: float = 0.1
    prompts_per_split: int = 256

    def known_prompts(self) -> list[str]:
        """Returns every caption.

        Raises:
            ValueError, FileNotFoundError: see `load_captions`; and no video to train on.
        """
        captions = load_captions(self.path, self.held_out)
        if not any(caption.split == "train" for caption in captions):
            raise ValueError(f"{self.path}: no video to pre-train on, all captions are held out")
        return [caption.text for caption in captions]


# The stages look builders up by file, so a second import must not clash with the first.
class VideoFolder(VideoBuilder, skip_registration=True):
    """One's own videos."""

    def jobs(self, bad: BadClips) -> dict[str, list[ClipJob]]:
        config = self.builder_config
        captions = load_captions(config.path, config.held_out)
        unknown = unknown_files(config.path, captions)
        for path in unknown:
            bad.note(path, "unknown_id", "captions.csv does not name it; not used")
        if unknown:
            logging.warning("%d videos have no caption: %s ...", len(unknown), unknown[0].name)
        jobs = [
            ClipJob(c.file, Path(config.path) / "videos" / c.file, c.text, c.category, c.split)
            for c in captions
        ]
        splits = {"pretrain": [job for job in jobs if job.split == "train"]}
        for split in SPLITS:
            mine = [job for job in jobs if job.split == split]
            drawn = np.random.default_rng(0).permutation(len(mine))[: config.prompts_per_split]
            splits[f"prompts_{split}"] = [mine[i] for i in sorted(drawn)]
        return splits
