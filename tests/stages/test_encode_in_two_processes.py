"""Two processes encode half of every batch each, and find each other's work when they go on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.stages.encode_in_two_processes import encode
from tests.two_processes import run_two
from vidpref.datasets.records import RecordFile
from vidpref.datasets.video_writing import encode_clip

WORKER = "tests/stages/encode_in_two_processes.py"


def latents(folder: Path) -> dict[str, np.ndarray]:
    """By clip, read through the index as the rest of the house does."""
    records = RecordFile(sorted(folder.glob("latents-*.array_record")))
    index = pd.read_parquet(folder / "clips.parquet").set_index("id")["record"]
    found = {name: records[int(number)] for name, number in index.items()}
    assert all(record["clip_id"] == name for name, record in found.items())
    return {name: record["latent"] for name, record in found.items()}


@pytest.fixture
def clips(tmp_path) -> Path:
    rows = []
    for number in range(7):
        path = tmp_path / f"{number}.mp4"
        image = np.random.default_rng(number).integers(0, 256, (2, 4, 3), dtype=np.uint8)
        encode_clip(path, np.stack([image.repeat(8, 0).repeat(8, 1)] * 8), fps=8)
        rows.append({"id": path.name, "path": path, "prompt": f"prompt {number}"})
    (tmp_path / "5.mp4").write_bytes(b"no video")
    pd.DataFrame(rows).to_csv(tmp_path / "clips.csv", index=False)
    return tmp_path / "clips.csv"


def test_two_processes_encode_what_one_does(clips, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    encode(pd.read_csv(clips), one)
    run_two(WORKER, clips, two)
    expected, found = latents(one), latents(two)
    assert expected.keys() == found.keys() == {f"{i}.mp4" for i in (0, 1, 2, 3, 4, 6)}
    for name, latent in expected.items():
        np.testing.assert_array_equal(found[name], latent, strict=True)
    assert "5.mp4" in (two / "bad_clips.csv").read_text()

    first, second = sorted(two.glob("latents-*.array_record"))
    kept = first.stat().st_mtime_ns
    second.unlink()
    encode(pd.read_csv(clips), two)  # one process that goes on where two began does what is missing
    assert latents(two).keys() == expected.keys()
    assert first.stat().st_mtime_ns == kept
