"""Damaged videos of many containers give a clip of the right shape or a ClipError, in bounded time.

They are read in a process of their own, so that a crash or a hang of FFmpeg fails the test.
"""

import multiprocessing
import traceback
import zlib

import av
import numpy as np
import pytest

from tests.datasets.remuxing import ONE_KEYFRAME, OPEN_GOP, encoded, numbered, remuxed
from vidpref.datasets.video import ClipError, decode_clip, shown_ratio

SECONDS_A_FILE = 20  # a hang, also on a busy machine


def files():
    """Small files, by name."""
    clip = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    clip[:, 8:24, 8:24] = numbered(12, 16)
    whole = encoded(clip, 12, options=ONE_KEYFRAME)
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    made = {
        "mp4": whole,
        "cut.mp4": remuxed(whole, "mp4", begin=0.5),
        "fragments.mp4": remuxed(whole, "mp4", muxer=fragments),
        "open.mkv": remuxed(encoded(clip, 12, options=OPEN_GOP), "mkv"),
        "vp8.webm": encoded(clip, 12, "webm", codec="libvpx"),
        "ts": encoded(clip, 12, "ts"),
        "raw.avi": encoded(clip, 12, "avi", codec="rawvideo", pix_fmt="bgr24"),
    }
    return made | {
        suffix: encoded(clip, 12, suffix) for suffix in ("mov", "webm", "avi", "flv", "gif")
    }


def damaged(data, rng):
    """Changes a file: cut off, bytes replaced in its head, anywhere or in its tail, or left out."""
    data = np.frombuffer(data, np.uint8).copy()
    size = len(data)
    kind = rng.integers(6)
    if kind == 0:
        return data[: rng.integers(1, size)].tobytes()
    at = rng.integers(size)
    if kind == 1:
        data[at : at + rng.integers(1, 200)] = rng.choice([0, 255])
    elif kind == 2:
        data = np.delete(data, slice(at, at + rng.integers(1, 64)))
    else:
        first, last = [(0, 1500), (0, size), (size - 1200, size)][kind - 3]
        where = rng.integers(max(0, first), min(last, size), rng.integers(1, 6))
        data[where] = rng.integers(0, 256, len(where))
    return data.tobytes()


def read_all(paths, answers):
    """Reads files as the product does; says for each what came of it."""
    av.logging.set_level(None)
    shape = {"frames": 6, "height": 16, "width": 24}
    for path in paths:
        outcome = "a clip"
        try:
            spread = decode_clip(path, **shape)
            taken = decode_clip(path, fps=7, short="hold", **shape)
            assert spread.shape == taken.shape == (6, 16, 24, 3)
            assert shown_ratio(path) > 0
        except ClipError as error:
            outcome = error.reason
        except BaseException:
            outcome = traceback.format_exc()
        answers.send(outcome)


def fuzz(folder, each):
    """Reads `each` damaged versions of every file; returns how many came to what."""
    paths = []
    for name, data in files().items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        for i in range(each):
            paths.append(folder / f"{i}.{name}")
            paths[-1].write_bytes(damaged(data, rng))
    answers, child = multiprocessing.Pipe(duplex=False)
    reader = multiprocessing.get_context("spawn").Process(target=read_all, args=(paths, child))
    reader.start()
    child.close()
    counts = {}
    try:
        for i, path in enumerate(paths):
            # the first waits for imports too
            assert answers.poll(SECONDS_A_FILE + 60 * (i == 0)), f"{path} hangs"
            try:
                outcome = answers.recv()
            except EOFError:
                pytest.fail(f"{path} crashes the process")
            assert "Traceback" not in outcome, f"{path}:\n{outcome}"
            counts[outcome] = counts.get(outcome, 0) + 1
    finally:
        reader.kill()
        reader.join()
    return counts


def test_damaged_videos(tmp_path):
    counts = fuzz(tmp_path, each=8)
    assert counts["a clip"] > 10
    assert counts["truncated"] > 10
    assert counts["damaged"] > 5


@pytest.mark.slow
def test_many_damaged_videos(tmp_path):
    counts = fuzz(tmp_path, each=1000)
    assert {"a clip", "truncated", "damaged", "no_frames", "unknown_codec"} <= set(counts)
