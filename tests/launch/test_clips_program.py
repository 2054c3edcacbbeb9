"""The program that shows stored clips, as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.probing import probe
from tests.runs.stored_runs import frames, write_clips

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    write_clips(folder, "pretrained")
    write_clips(folder, "dpo")
    return folder


def clips(*argv):
    command = [sys.executable, "launch/clips.py", *argv]
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def test_without_flags_it_lists_and_writes_nothing(workdir):
    done = clips(f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "evaluation  dpo         test           2      2         2" in done.stdout
    assert not list(workdir.rglob("*.html"))


def test_a_page_holds_what_matches(workdir):
    done = clips(f"--workdir={workdir}", "--prompt=red", "--split=test")
    page = workdir / "clips.html"
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"written: {page}",
        "2 of 2 clips: evaluation clips, held-out prompts, prompts with 'red'",
    ]
    html = page.read_text()
    assert html.count('<video src="data:video/webm') == 2
    assert "a red ball rolls" in html
    assert "path: it rests" in html
    assert "directional movement" in html
    assert "a blue cone falls" not in html


def test_a_folder_gets_a_video_of_every_clip(workdir, tmp_path):
    out = tmp_path / "new" / "videos"
    done = clips(f"--workdir={workdir}", "--policy=dpo", f"--out={out}/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3 of 3 clips: evaluation clips, DPO"
    for number in range(3):
        path = out / "dpo" / f"scene-{number}-0.mp4"
        info = probe(path)
        assert (info.frames, info.height, info.width, info.fps) == (5, 16, 16, 8.0)
        with av.open(path) as container:
            image = next(container.decode(video=0)).to_ndarray(format="rgb24")
        np.testing.assert_allclose(image, frames("dpo", number)[0], atol=3)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--workdir=FOLDER is missing"),
        (["--workdir=.", "--limit=0"], "--limit=0: give a number of clips"),
        (["--workdir=.", "--prompt="], "--prompt is empty"),
        (["--workdir=x", "--config.seed=1"], "a finished run has its config already"),
        (["--workdir=x"], "--workdir=x is no folder"),
    ],
)
def test_mistakes_are_answered_in_words(argv, message):
    done = clips(*argv)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--out={tmp}/one.mp4"], "6 clips match, and --out={tmp}/one.mp4 is one video"),
        (["--out={tmp}/file"], "--out={tmp}/file is a file: name a folder"),
        (["--out={tmp}/folder.png"], "--out={tmp}/folder.png is a folder"),
        (["--out={tmp}/file/page.html"], "cannot be written: {tmp}/file is no folder"),
    ],
)
def test_what_cannot_be_is_refused(workdir, tmp_path, argv, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    done = clips(f"--workdir={workdir}", *(a.format(tmp=tmp_path) for a in argv))
    assert done.returncode == 1
    assert message.format(tmp=tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_help_is_there_without_jax():
    source = "import sys; import launch.clips; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT).returncode == 0
