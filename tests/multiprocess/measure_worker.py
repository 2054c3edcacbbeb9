"""One of two processes that measure clips: `python measure_worker.py RANK PORT FOLDER`."""

import json
import sys
from pathlib import Path

import numpy as np

from tests.two_processes import joined
from vidpref.datasets.program_clips import program_clips
from vidpref.runs.measure_videos import measure_clips
from vidpref.video_metrics.clip_values import TemporalFlickering


class Counted(TemporalFlickering):
    """Temporal flickering that counts what it measures."""

    asked = 0

    def __call__(self, clips):
        Counted.asked += len(clips)
        return super().__call__(clips)


def main(rank: int, port: int, folder: Path) -> None:
    with joined(rank, port):
        measure = Counted()
        clips = program_clips(folder / "clips").clips
        measured = measure_clips("two", clips, {measure.name: measure}, folder / "cache", 2)
        values = {number: float(value) for number, value in measured.values(measure.name)}
        said = {"asked": measure.asked, "values": values, "failed": measured.failures}
        (folder / f"{rank}.json").write_text(json.dumps(said))
        assert np.isfinite(list(values.values())).all()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
