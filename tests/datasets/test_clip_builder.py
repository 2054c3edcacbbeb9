"""What builders of videos say about clips that they cannot use, or must repeat frames of."""

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from absl import logging

from tests.datasets.remuxing import encoded, numbered, remuxed
from vidpref.datasets.clip_builder import ClipJob, VideoBuilder, VideoConfig
from vidpref.datasets.repeated_frames import RepeatedFrames
from vidpref.datasets.video import decode_clip


class Folder(VideoBuilder, skip_registration=True):
    """Every file of a folder, to train on and to evaluate with."""

    BUILDER_CONFIGS = ()

    @classmethod
    def _get_pkg_dir_path(cls):
        raise FileNotFoundError  # no checksums

    def jobs(self, bad):

        paths = sorted(Path(self.builder_config.path).iterdir())
        jobs = [ClipJob(path.name, path, f"clip {path.stem}", "all", "train") for path in paths]
        return {"pretrain": jobs, "prompts_train": jobs, "prompts_test": []}


def build(folder, data_dir, **options):
    fields = {"path": str(folder), "frames": 4, "height": 16, "width": 16}
    builder = Folder(
        config=VideoConfig(**fields | options), data_dir=data_dir, file_format="array_record"
    )
    builder.download_and_prepare()
    return builder


@pytest.fixture
def warnings(monkeypatch):
    """What is said of frame rates; TFDS warns of other things."""
    said = []

    def warning(text, *args):
        if text.startswith("data.fps"):
            said.append(text % args)

    monkeypatch.setattr(logging, "warning", warning)
    return said


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for rate in (6, 12, 24):
        (folder / f"{rate}.mp4").write_bytes(encoded(numbered(2 * rate), rate))
    return folder


def test_clips_of_every_kind_are_used_or_listed(folder, tmp_path, warnings):
    data = (folder / "24.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(remuxed(data, "mp4", begin=1.5))
    (folder / "unknown.mp4").write_bytes(data.replace(b"avc1", b"xyz1"))
    (folder / "half.mp4").write_bytes(data[: len(data) // 2])
    builder = build(folder, tmp_path / "tfds", max_bad_fraction=0.5)
    records = builder.as_data_source()["pretrain"]
    clips = {record["id"].decode(): record["video"] for record in records}
    assert [*clips] == ["12.mp4", "24.mp4", "6.mp4", "cut.mp4"]
    levels = clips["cut.mp4"].mean((1, 2, 3))
    assert (np.diff(levels) > 5).all()  # four frames that differ
    with open(builder.bad_clips, newline="") as file:
        reasons = {row["path"].rpartition("/")[2]: row["reason"] for row in csv.DictReader(file)}
    assert reasons == {"unknown.mp4": "unknown_codec", "half.mp4": "truncated"}


def test_rates_above_the_videos_own_are_warned_of_once(folder, tmp_path, warnings):
    build(folder, tmp_path / "tfds", fps=16.0, frames=8)
    assert len(warnings) == 1
    assert warnings[0].startswith("data.fps=16 is above the frame rate of 2 of 3 videos, such as ")
    assert "6.mp4 with 6: their frames are repeated" in warnings[0]


@pytest.mark.parametrize("options", [{"fps": 6.0}, {}])
def test_no_warning_where_none_is_due(folder, tmp_path, warnings, options):
    build(folder, tmp_path / "tfds", **options)
    assert warnings == []


def test_a_rate_that_is_nearly_the_same_is_none_above(tmp_path, warnings):
    (tmp_path / "film.mp4").write_bytes(encoded(numbered(24), Fraction(24000, 1001)))
    repeated = RepeatedFrames(24)
    for _ in range(2):  # a path counts once
        decode_clip(tmp_path / "film.mp4", frames=4, height=16, width=16, fps=24, repeated=repeated)
    repeated.warn()
    assert warnings == []
    repeated.note("slow.mp4", 8)
    repeated.warn()
    assert "1 of 2 videos, such as slow.mp4 with 8" in warnings[0]
