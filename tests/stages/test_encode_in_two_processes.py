"""Two processes encode half of every batch each, and find each other's work when they go on."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.stages.encode_in_two_processes import encode
from vidpref.datasets.records import RecordFile
from vidpref.datasets.video_writing import encode_clip

ROOT = Path(__file__).parents[2]


def together(clips: Path, out: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = "--xla_force_host_platform_device_count=2"
    worker = [sys.executable, str(ROOT / "tests/stages/encode_in_two_processes.py")]
    processes = [
        subprocess.Popen(
            [*worker, str(rank), str(port), str(clips), str(out)],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs


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
    encode(clips, one)
    together(clips, two)
    expected, found = latents(one), latents(two)
    assert expected.keys() == found.keys() == {f"{i}.mp4" for i in (0, 1, 2, 3, 4, 6)}
    for name, latent in expected.items():
        np.testing.assert_array_equal(found[name], latent, strict=True)
    assert "5.mp4" in (two / "bad_clips.csv").read_text()

    # a chunk that only one of them finished is done again by both
    (two / "latents-00000-p001-of-002.array_record").unlink()
    together(clips, two)
    assert latents(two).keys() == expected.keys()

    encode(clips, two)  # one process that goes on where two began takes nothing twice
    assert latents(two).keys() == expected.keys()
    assert len(list(two.glob("latents-*.array_record"))) == 1
