"""What the TFDS builders of real videos share: options, features, parallel decoding, bad clips."""

import abc
import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.clip_errors import ClipError
from vidpref.datasets.repeated_frames import RepeatedFrames
from vidpref.datasets.video import decode_clip, fit_clip
from vidpref.storage.copies import address

# A hopeless data set stops early, but not before this many bad clips are named.
_NAMED_BEFORE_STOP = 100

# Options that change how a build runs, not what it writes; and where the videos lie: a build is
# found again after they have moved.
_WITHOUT_EFFECT = frozenset({"workers", "max_bad_fraction", "path"})


@dataclasses.dataclass(kw_only=True)
class VideoConfig(tfds.core.BuilderConfig):
    """How videos become clips. The name follows from the options, so no build is taken for another.

    Attributes:
        path: the data set's folder.
        frames: frames of every clip.
        height: height of `video`, in pixels.
        width: width of `video`, in pixels.
        high_height: height of `video_high`; 0 for none.
        high_width: width of `video_high`; 0 for none.
        fps: rate of the sampled frames; 0 spreads them evenly over the video.
        short: "error" counts too short videos as bad, "hold" repeats their last frame.
        max_bad_fraction: fraction of the clips, and of the prompts' clips, that may be bad.
        workers: decoding threads; 0 for one a core.
    """

    name: str = ""
    path: str = ""
    frames: int = 16
    height: int = 24
    width: int = 40
    high_height: int = 0
    high_width: int = 0
    fps: float = 0.0
    short: str = "error"
    max_bad_fraction: float = 0.01
    workers: int = 0

    def __post_init__(self):
        if not self.path:
            raise ValueError("config.data.path is empty: set it to the folder of your videos")
        if bool(self.high_height) != bool(self.high_width):
            raise ValueError(
                f"high_height={self.high_height} and high_width={self.high_width}: "
                "set both, or neither"
            )
        self.path = os.path.abspath(os.path.expanduser(self.path))
        size = f"{self.frames}x{self.height}x{self.width}"
        if self.high_height:
            size += f"-{self.high_height}x{self.high_width}"
        base = {field.name for field in dataclasses.fields(tfds.core.BuilderConfig)}
        options = {k: v for k, v in vars(self).items() if k not in base | _WITHOUT_EFFECT}
        if "prompts" in options:  # of a bucket, wherever the copy lies
            options["prompts"] = address(options["prompts"])
        text = json.dumps(options, sort_keys=True, default=str)
        self.name = f"{size}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @classmethod
    def from_section(
        cls, section: Mapping[str, Any], *, cascade: bool, prompt_sets: Path
    ) -> "VideoConfig":
        """Takes its options from a config's `data` section and leaves the others aside.

        Args:
            section: the `data` section.
            cascade: whether to write `video_high` too.
            prompt_sets: where a prompt set that is named without a folder lies.
        """
        known = {field.name for field in dataclasses.fields(cls)} - {"name"}
        options = {k: v for k, v in section.items() if k in known}
        if not cascade:
            options |= {"high_height": 0, "high_width": 0}
        if options.get("prompts") and not Path(options["prompts"]).is_file():
            options["prompts"] = str(prompt_sets / options["prompts"])
        return cls(**options)


@dataclasses.dataclass(frozen=True)
class ClipJob:
    """A clip to be written.

    Attributes:
        id: unique in its TFDS split.
        path: the video file.
        prompt: its caption.
        category: category of the prompt.
        split: "train", "validation" or "test".
    """

    id: str
    path: Path
    prompt: str
    category: str
    split: str


# The stages look builders up by file, so a second import must not clash with the first.
class VideoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds `pretrain` clips and `prompts_*` splits like the mini world's, from video files.

    Bad clips are left out, printed, and listed in `bad_clips` beside the build; too many of them
    raise `TooManyBadClips`. Nothing in the data set's folder is changed.
    """

    VERSION = tfds.core.Version("1.0.0")

    @abc.abstractmethod
    def jobs(self, bad: BadClips) -> dict[str, list[ClipJob]]:
        """Returns the clips of every TFDS split; notes in `bad` what has no clip at all."""

    @property
    def bad_clips(self) -> Path:
        """The table of bad clips, beside the version folders of this config."""
        return Path(self.data_dir).parent / "bad_clips.csv"

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        features = {
            "id": tfds.features.Text(),
            "prompt": tfds.features.Text(),
            "category": tfds.features.Text(),
            "split": tfds.features.Text(),
            "first_frame": pixels_feature(config.height, config.width, 3),
            "video": pixels_feature(config.frames, config.height, config.width, 3),
        }
        if config.high_height:
            features["video_high"] = pixels_feature(
                config.frames, config.high_height, config.high_width, 3
            )
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Clips decoded from {address(config.path)}.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # the loaders shuffle
            # "prompts": every distinct one, to be had without reading a clip
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        bad = BadClips()
        splits = self.jobs(bad)
        self.save(bad)
        if not splits["pretrain"]:
            raise ValueError(f"{self.builder_config.path}: no video to pre-train on")
        splits = {split: jobs for split, jobs in splits.items() if jobs}
        repeated = RepeatedFrames(self.builder_config.fps)
        *_, last = splits
        return {
            split: self._generate_examples(split, jobs, bad, repeated, warn=split == last)
            for split, jobs in splits.items()
        }

    def _generate_examples(
        self,
        split: str,
        jobs: list[ClipJob],
        bad: BadClips,
        repeated: RepeatedFrames,
        *,
        warn: bool,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        bad_here = BadClips()
        limit = max(config.max_bad_fraction * len(jobs), _NAMED_BEFORE_STOP)
        written: dict[str, None] = dict.fromkeys(self.info.metadata.get("prompts", ()))
        clips = _in_parallel(lambda job: _decode(job, config, repeated), jobs, config.workers)
        for key, (job, clip) in enumerate(clips):
            if isinstance(clip, ClipError):
                bad.add(clip)
                bad_here.add(clip)
                if len(bad_here) > limit:
                    break
                continue
            written[job.prompt] = None
            fields = dataclasses.asdict(job)
            del fields["path"]
            yield key, fields | clip
        self.info.metadata["prompts"] = list(written)
        self.save(bad)
        if warn:
            repeated.warn()
        if len(bad_here):
            logging.warning(
                "%s, split %s: %d of %d clips are bad and left out (%s):\n%s",
                self.name, split, len(bad_here), len(jobs), self.bad_clips, bad_here.table(),
            )  # fmt: skip
        bad_here.check(len(jobs), config.max_bad_fraction, self.bad_clips)

    def save(self, bad: BadClips) -> None:
        """Writes the table of bad clips, if there are any."""
        if len(bad) or self.bad_clips.exists():
            bad.write(self.bad_clips)


def _decode(
    job: ClipJob, config: VideoConfig, repeated: RepeatedFrames
) -> dict[str, np.ndarray] | ClipError:
    try:
        high = decode_clip(
            job.path,
            frames=config.frames,
            height=config.high_height or config.height,
            width=config.high_width or config.width,
            fps=config.fps or None,
            short=config.short,
            repeated=repeated,
        )
    except ClipError as error:
        return error
    if not config.high_height:
        return {"video": high, "first_frame": high[0]}
    video = fit_clip(high, config.height, config.width)
    return {"video": video, "first_frame": video[0], "video_high": high}


def _in_parallel(
    function: Callable[[ClipJob], Any], jobs: Iterable[ClipJob], workers: int
) -> Iterator[tuple[ClipJob, Any]]:
    """Maps in order, with a bounded number of results in memory; FFmpeg releases the GIL."""
    workers = workers or len(os.sched_getaffinity(0))
    with futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque = collections.deque()
        try:
            for job in jobs:
                waiting.append((job, pool.submit(function, job)))
                if len(waiting) > 2 * workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def pixels_feature(*shape: int) -> tfds.features.Tensor:
    """Returns the TFDS feature of uint8 pixels of this shape."""
    # As bytes: by default TFDS stores every pixel as a 64-bit integer of a proto.
    return tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes")
