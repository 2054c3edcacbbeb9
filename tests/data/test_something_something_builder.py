"""The builder of Something-Something-V2 on a small copy in the publisher's layout."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from vidpref.datasets.bad_clips import TooManyBadClips
from vidpref.datasets.video import decode_clip
from vidpref.datasets.video_writing import encode_clip

BUILDER = (
    Path(__file__).parents[2]
    / "data"
    / "something_something_v2"
    / "something_something_v2_dataset_builder.py"
)
SIZE = {"frames": 6, "height": 12, "width": 20}


def load():
    spec = importlib.util.spec_from_file_location("ssv2_dataset_builder", BUILDER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def label(number, text, template="Moving [something] up"):
    return {"id": str(number), "label": text, "template": template, "placeholders": ["x"]}


PROMPTS = [
    ("OR", "train", 1, "taking pen , slowly"),
    ("OR", "train", 2, "tearing paper"),
    ("DM", "test", 1, "tearing paper"),
    ("DM", "test", 2, "moving cup up"),
]


@pytest.fixture
def root(tmp_path):
    """Twelve train and four validation videos; ids 1-12 and 101-104."""
    root = tmp_path / "ssv2"
    videos = root / "20bn-something-something-v2"
    videos.mkdir(parents=True)
    (root / "labels").mkdir()
    rng = np.random.default_rng(0)
    for number in [*range(1, 13), *range(101, 105)]:
        clip = np.full((10, 24, 42, 3), 2 * number, np.uint8)
        clip[..., 0] = np.linspace(0, 250, 10)[:, None, None]
        clip[:, :4] = rng.integers(0, 256, (4, 42, 3))
        encode_clip(videos / f"{number}.webm", clip, 12)
    train = [label(i, f"moving thing {i} up") for i in range(1, 13)]
    validation = [
        label(101, "Tearing paper"),
        label(102, "moving cup up"),
        label(103, "tearing paper"),
        label(104, "taking pen, slowly"),
    ]
    (root / "labels" / "train.json").write_text(json.dumps(train))
    (root / "labels" / "validation.json").write_text(json.dumps(validation))
    rows = [f'{c},{s},{n},"{text}"' for c, s, n, text in PROMPTS]
    (root / "prompts.csv").write_text("\n".join(["category,split,number,prompt", *rows]))
    return root


def build(root, data_dir, **options):
    module = load()
    fields = {"path": str(root), "prompts": str(root / "prompts.csv"), "validation_fraction": 0.0}
    config = module.SomethingSomethingV2Config(**(fields | SIZE | options))
    builder = module.SomethingSomethingV2(
        config=config, data_dir=data_dir, file_format="array_record"
    )
    builder.download_and_prepare()
    return builder


def test_records_are_the_decoded_videos(root, tmp_path):
    builder = build(root, tmp_path / "tfds", workers=3)
    splits = builder.as_data_source()
    assert {k: len(v) for k, v in splits.items()} == {
        "pretrain": 12,
        "prompts_train": 2,
        "prompts_test": 2,
    }
    for number, record in enumerate(splits["pretrain"], start=1):
        assert record["id"].decode() == str(number)
        assert record["prompt"].decode() == f"moving thing {number} up"
        assert record["category"].decode() == "Moving something up"
        assert record["split"].decode() == "train"
        expected = decode_clip(root / "20bn-something-something-v2" / f"{number}.webm", **SIZE)
        np.testing.assert_array_equal(record["video"], expected)
        np.testing.assert_array_equal(record["first_frame"], expected[0])
        assert abs(record["video"][0, -1, :, 1].mean() - 2 * number) < 4  # the right file
    assert not builder.bad_clips.exists()


def test_prompts_get_first_frames_of_validation_videos_with_their_label(root, tmp_path):
    splits = build(root, tmp_path / "tfds").as_data_source()
    records = [*splits["prompts_train"], *splits["prompts_test"]]
    got = {
        record["id"].decode(): (record["prompt"].decode(), record["category"].decode())
        for record in records
    }
    assert got == {f"{c}-{s}-{n:02d}": (text, c) for c, s, n, text in PROMPTS}
    videos = [round(r["first_frame"][-1, :, 1].mean() / 2) for r in records]
    # two prompts of one text get the two videos of that label
    np.testing.assert_allclose(videos, [104, 101, 103, 102], atol=1)


def test_the_cascade_gets_both_sizes(root, tmp_path):
    builder = build(root, tmp_path / "tfds", high_height=24, high_width=40)
    record = builder.as_data_source(split="pretrain")[4]
    assert record["video_high"].shape == (6, 24, 40, 3)
    blocks = record["video_high"].reshape(6, 12, 2, 20, 2, 3).mean((2, 4))
    assert np.abs(blocks - record["video"]).max() <= 2.0


def test_broken_clips_are_counted_and_named(root, tmp_path):
    videos = root / "20bn-something-something-v2"
    (videos / "2.webm").unlink()
    (videos / "3.webm").write_bytes(b"")
    (videos / "5.webm").write_text("<html>not found</html>" * 30)
    data = (videos / "7.webm").read_bytes()
    (videos / "7.webm").write_bytes(data[: len(data) // 2])
    encode_clip(videos / "9.webm", np.zeros((3, 24, 42, 3), np.uint8), 12)
    (videos / "999.webm").write_bytes(data)  # no labels file has it
    builder = build(root, tmp_path / "tfds", max_bad_fraction=0.5)
    ids = [record["id"].decode() for record in builder.as_data_source(split="pretrain")]
    assert ids == ["1", "4", "6", "8", "10", "11", "12"]
    lines = builder.bad_clips.read_text().splitlines()[1:]
    reasons = {Path(line.split(",")[0]).stem: line.split(",")[1] for line in lines}
    assert reasons == {
        "2": "missing",
        "3": "empty",
        "5": "not_a_video",
        "7": "truncated",
        "9": "too_short",
        "999": "unknown_id",
    }


def test_too_many_broken_clips_stop_the_build_and_touch_nothing(root, tmp_path):
    videos = root / "20bn-something-something-v2"
    for number in (3, 8):
        (videos / f"{number}.webm").write_bytes(b"broken")
    before = {p: p.stat().st_mtime_ns for p in sorted(root.rglob("*"))}
    with pytest.raises(TooManyBadClips, match=r"2 of 12 clips are bad.*allows 1;") as caught:
        build(root, tmp_path / "tfds", max_bad_fraction=0.1)
    assert "3.webm: not_a_video" in str(caught.value)
    assert "8.webm: not_a_video" in str(caught.value)
    table = next((tmp_path / "tfds").rglob("bad_clips.csv"))
    assert "8.webm,not_a_video" in table.read_text()
    assert before == {p: p.stat().st_mtime_ns for p in sorted(root.rglob("*"))}
    # the same build goes through with a higher limit
    assert (
        len(build(root, tmp_path / "tfds", max_bad_fraction=0.2).as_data_source("pretrain")) == 10
    )


def test_a_prompt_without_video_stops_the_build_by_name(root, tmp_path):
    with open(root / "prompts.csv", "a") as file:
        file.write('\nFD,test,1,"throwing a piano"')
    with pytest.raises(TooManyBadClips, match=r"FD-test-01: unmatched_prompt.*throwing a piano"):
        build(root, tmp_path / "tfds", max_bad_fraction=0.1)
    builder = build(root, tmp_path / "tfds", max_bad_fraction=0.2)
    assert len(builder.as_data_source(split="prompts_test")) == 2
    assert "FD-test-01,unmatched_prompt" in builder.bad_clips.read_text()


def test_options_are_part_of_the_identity(root, tmp_path):
    small = build(root, tmp_path / "tfds")
    large = build(root, tmp_path / "tfds", height=16)
    assert large.as_data_source(split="pretrain")[0]["video"].shape == (6, 16, 20, 3)
    assert small.as_data_source(split="pretrain")[0]["video"].shape == (6, 12, 20, 3)
    assert small.data_dir != large.data_dir
    config = load().SomethingSomethingV2Config
    names = {
        config(path=str(root), **(SIZE | change)).name
        for change in ({}, {"fps": 6.0}, {"prompts": "x.csv"}, {"short": "hold"}, {"frames": 7})
    }
    assert len(names) == 5
    same = config(path=str(root), workers=7, max_bad_fraction=0.3, **SIZE)
    assert same.name == config(path=str(root), **SIZE).name


def test_options_come_from_a_config_section(root, tmp_path):
    config_class = load().SomethingSomethingV2Config
    section = {"name": "something_something_v2", "path": str(root), "frames": 3, "unrelated": 1}
    section |= {"prompts": "prompts.csv", "high_height": 24, "high_width": 40}
    config = config_class.from_section(section, cascade=False, prompt_sets=root)
    assert (config.frames, config.path, config.high_height) == (3, str(root), 0)
    assert config.prompts == str(root / "prompts.csv")
    assert config.name.startswith("3x24x40-")
    assert config_class.from_section(section, cascade=True, prompt_sets=root).high_width == 40
    with pytest.raises(ValueError, match=r"config.data.path is empty"):
        config_class(path="")
    with pytest.raises(ValueError, match="set both, or neither"):
        config_class(path=str(root), high_height=8)


def test_prompts_are_known_without_reading_clips(root, tmp_path):
    build(root, tmp_path / "tfds")
    again = build(root, tmp_path / "tfds")  # as another process would open it
    expected = {f"moving thing {i} up" for i in range(1, 13)} | {text for *_, text in PROMPTS}
    assert set(again.info.metadata["prompts"]) == expected
    assert len(again.info.metadata["prompts"]) == len(expected)
