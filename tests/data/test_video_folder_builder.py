"""The builder of a plain folder of videos."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from vidpref.datasets.bad_clips import TooManyBadClips
from vidpref.datasets.video_writing import encode_clip

BUILDER = Path(__file__).parents[2] / "data" / "video_folder" / "video_folder_dataset_builder.py"


def load():
    spec = importlib.util.spec_from_file_location("video_folder_dataset_builder", BUILDER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "mine"
    (root / "videos" / "sub").mkdir(parents=True)
    rows = ["file,caption,split,category"]
    for i, suffix in enumerate(["mp4", "webm", "mp4", "mkv", "avi", "mp4"]):
        name = f"sub/{i}.{suffix}" if i % 2 else f"{i}.{suffix}"
        clip = np.full((8, 30 + i, 40, 3), 20 + 30 * i, np.uint8)
        encode_clip(root / "videos" / name, clip, 6 + i)
        split = ["train", "train", "train", "train", "validation", "test"][i]
        rows.append(f'{name},"grey, number {i}",{split},{"AB"[i % 2]}')
    (root / "captions.csv").write_text("\n".join(rows) + "\n")
    return root


def build(root, data_dir, **options):
    module = load()
    fields = {"path": str(root), "frames": 4, "height": 16, "width": 16}
    builder = module.VideoFolder(
        config=module.VideoFolderConfig(**(fields | options)),
        data_dir=data_dir,
        file_format="array_record",
    )
    builder.download_and_prepare()
    return builder


def test_a_folder_of_mixed_files(root, tmp_path):
    splits = build(root, tmp_path / "tfds").as_data_source()
    assert {k: len(v) for k, v in splits.items()} == {
        "pretrain": 4,
        "prompts_train": 4,
        "prompts_validation": 1,
        "prompts_test": 1,
    }
    for i, record in enumerate(splits["pretrain"]):
        assert record["prompt"].decode() == f"grey, number {i}"
        assert record["category"].decode() == "AB"[i % 2]
        assert record["video"].shape == (4, 16, 16, 3)
        assert np.abs(record["video"].astype(int) - (20 + 30 * i)).max() <= 4
    assert splits["prompts_test"][0]["id"].decode() == "sub/5.mp4"


def test_prompts_are_drawn_once_and_for_all(root, tmp_path):
    splits = build(root, tmp_path / "one", prompts_per_split=2).as_data_source()
    assert len(splits["prompts_train"]) == 2
    assert len(splits["pretrain"]) == 4
    again = build(root, tmp_path / "two", prompts_per_split=2).as_data_source()
    names = [[r["id"] for r in s["prompts_train"]] for s in (splits, again)]
    assert names[0] == names[1]


def test_bad_and_unnamed_files(root, tmp_path):
    (root / "videos" / "2.mp4").write_bytes(b"")
    (root / "videos" / "stray.MP4").write_bytes(b"x")
    (root / "videos" / "notes.txt").write_text("not meant as a video")
    with pytest.raises(TooManyBadClips, match=r"1 of 4 clips are bad(.|\n)*2\.mp4: empty"):
        build(root, tmp_path / "tfds")
    builder = build(root, tmp_path / "tfds", max_bad_fraction=0.3)
    assert len(builder.as_data_source(split="pretrain")) == 3
    rows = builder.bad_clips.read_text().splitlines()[1:]
    assert [Path(row.split(",")[0]).name for row in rows] == ["stray.MP4", "2.mp4"]


def test_no_video_to_train_on(root, tmp_path):
    (root / "captions.csv").write_text("file,caption,split\n0.mp4,a,test\n")
    with pytest.raises(ValueError, match="no video to pre-train on"):
        build(root, tmp_path / "tfds")
