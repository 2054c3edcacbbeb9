"""Processes divide the clips that are measured, and all of them know what came out."""

import json

import numpy as np

from tests.two_processes import run_two
from vidpref.datasets.video_writing import encode_clip
from vidpref.evaluation.vbench_dimensions import temporal_flickering


def test_two_processes_measure_a_folder(tmp_path):
    (tmp_path / "clips").mkdir()
    for number in range(5):
        clip = np.zeros((4, 32, 32, 3), np.uint8)
        clip[1::2] = 30 * number
        encode_clip(tmp_path / "clips" / f"{number}.mp4", clip, 8)
    (tmp_path / "clips" / "9.mp4").write_bytes(b"")
    run_two("tests/multiprocess/measure_worker.py", tmp_path, devices=1)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert (first["asked"], second["asked"]) == (3, 2)
    assert first["values"] == second["values"]
    assert list(first["values"]) == ["0", "1", "2", "3", "4"]
    assert first["failed"]["temporal_flickering"]["5"].startswith("empty")
    for number, value in first["values"].items():
        clip = np.zeros((4, 1, 1, 3), np.uint8)
        clip[1::2] = 30 * int(number)
        assert abs(value - temporal_flickering(clip)) < 0.02  # a video file is nearly exact
