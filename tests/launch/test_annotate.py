"""The program that lets people compare clips, as a user types it, over kills and mistakes."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.browsers import chromium, until
from tests.launch.programs import Launcher
from tests.probing import probe
from tests.runs.stored_runs import PROMPTS, write_clips
from vidpref.annotation.journal import JOURNAL, TORN, read_journal
from vidpref.datasets.preferences import read_preferences
from vidpref.datasets.preferences.selection import preferred_pairs
from vidpref.datasets.video_writing import encode_clip

ROOT = Path(__file__).resolve().parents[2]
DIMENSIONS = ("visual_quality", "motion_quality", "text_alignment")


@contextlib.contextmanager
def annotate(*argv, port=0):
    """Runs the program until the block ends, by SIGKILL; yields (address, lines it began with)."""
    command = [sys.executable, "launch/annotate.py", f"--port={port}", *map(str, argv)]
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=env, **pipes) as process:
        lines = []
        while not lines or not lines[-1].startswith("page: "):
            lines.append(process.stdout.readline())
            assert lines[-1], "".join(lines)
        try:
            yield re.search(r"http\S+", lines[-1])[0], "".join(lines), process
        finally:
            process.send_signal(signal.SIGKILL)


def ask(address, path, body=None):
    host = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    data = None if body is None else json.dumps(body)
    headers = {"Content-Type": "application/json"}
    connection.request("GET" if body is None else "POST", path, data, headers)
    reply = connection.getresponse()
    found = json.loads(reply.read())
    assert reply.status == 200, found
    connection.close()
    return found


def answer(address, name, said, most=100):
    """Answers as a person who tells the clips apart; returns how many answers were given."""
    given = 0
    while given < most and (shown := ask(address, f"/api/state?annotator={name}")["next"]):
        answers = dict.fromkeys(DIMENSIONS, said(shown[0]))
        ask(address, "/api/answer", {"annotator": name, "key": shown[0]["key"], "answer": answers})
        given += 1
    return given


def launch(program, monkeypatch, capsys, *argv):
    return Launcher(monkeypatch, capsys)(program, *map(str, argv))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    for policy in ("pretrained", "dpo"):
        write_clips(folder, policy)
    return folder


@pytest.fixture(scope="module")
def answered(workdir):
    """A run's clips, answered by two annotators over a kill that cut a line off."""
    out = workdir / "annotations"
    with annotate(f"--workdir={workdir}", "--checks=0.5") as (address, begun, _):
        assert "3 pairs in visual_quality, motion_quality, text_alignment; 0 answers" in begun
        assert answer(address, "ann", lambda shown: "left", most=2) == 2
    with (out / JOURNAL).open("ab") as file:
        file.write(b'{"at": "2026-01-01T00:00:00+00:00", "annotator": "a')
    with annotate(f"--workdir={workdir}", "--checks=0.5") as (address, begun, process):
        assert "2 answers so far" in begun
        assert "51 bytes of a line that a kill cut off" in begun
        answer(address, "ann", lambda shown: "left")
        answer(address, "bob", lambda shown: "right")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 130
    assert rest == "stopped; the same command goes on\n"
    return out


def test_nothing_that_was_answered_is_lost(answered):
    entries = read_journal(answered / JOURNAL).entries
    assert [(e["annotator"], e["check"]) for e in entries] == [
        *(("ann", ""), ("ann", ""), ("ann", "twin"), ("ann", "")),
        *(("bob", ""), ("bob", ""), ("bob", "twin"), ("bob", "")),
    ]
    assert (answered / TORN).read_bytes().startswith(b'{"at"')


def test_clips_of_a_run_become_videos_that_browsers_play(answered, workdir):
    videos = sorted((answered / "videos").rglob("*.webm"))
    assert len(videos) == 2 * len(PROMPTS)
    info = probe(videos[0])
    assert (info.frames, info.height, info.width, info.fps) == (5, 16, 16, 8.0)
    assert {video.parent.name for video in videos} == {
        "sample-evaluation-pretrained-111111111111",
        "sample-evaluation-dpo-222222222222",
    }


def test_the_records_are_read_and_said_in_words(answered, monkeypatch, capsys):
    found = read_preferences(answered / "annotations.jsonl")  # written as the program ended
    assert len(found.comparisons) == 2 * 3 * len(DIMENSIONS)
    ended = launch("annotate", monkeypatch, capsys, f"--out={answered}", "--export")
    assert ended.status == 0, ended.text
    assert "6 answers of 2 annotators, 0 of 18 verdicts invalid; 6 records" in ended.text
    assert re.search(r"ann +3 +0 +0 .* 100 % +0 of 1", ended.text), ended.text
    assert "Krippendorff's, nominal" in ended.text
    assert (answered / "agreement.md").read_text().count("## ") == 3
    argv = (f"--workdir={answered.parent}", "--export", "--aggregate=majority")
    assert "3 records, a line a pair" in launch("annotate", monkeypatch, capsys, *argv).text
    pairs, _ = preferred_pairs(
        read_preferences(answered / "annotations.jsonl"), {"visual_quality": 1.0}
    )
    assert len(pairs) <= 3


def test_judges_are_measured_on_the_records(answered, monkeypatch, capsys, tmp_path):
    launch("annotate", monkeypatch, capsys, f"--out={answered}", "--export")
    clips = read_preferences(answered / "annotations.jsonl").clips
    scores = pd.DataFrame({"clip": clips["id"], "visual_quality": np.arange(len(clips))})
    scores.to_csv(tmp_path / "scores.csv", index=False)
    argv = (f"--pairs={answered / 'annotations.jsonl'}", f"--scores={tmp_path / 'scores.csv'}")
    ended = launch("evaluate_judge", monkeypatch, capsys, *argv, f"--out={tmp_path / 'o'}")
    assert ended.status == 0, ended.text
    assert "visual quality" in ended.text
    assert "6 votes" in ended.text or re.search(r"visual quality +6 ", ended.text), ended.text


def test_a_run_begins_on_the_records(answered, wan_folder, tmp_path):
    command = [
        *(sys.executable, "launch/tpu_run.py", "--config=flow_dpo:wan2_1_1_3b", "--dry_run"),
        f"--workdir={tmp_path / 'w'}",
        f"--config.model.init={wan_folder}",
        f"--config.data.pairs={answered / 'annotations.jsonl'}",
        *("--config.data.frames=5", "--config.data.height=32", "--config.data.width=32"),
        *("--config.data.buckets=()", "--config.align.lora.rank=4"),
    ]
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"align\S* .*runs", done.stdout), done.stdout


def write_videos(root, source, *names, frames=12, codec=None, suffix="mp4"):
    folder = root / source
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        clip = np.full((frames, 48, 64, 3), 80 + 20 * len(source), np.uint8)
        encode_clip(folder / f"{name}.{suffix}", clip, 8, codec)


def test_two_servers_of_one_journal_or_port_are_refused(tmp_path, monkeypatch, capsys):
    for source in ("before", "after"):
        write_videos(tmp_path, source, "0", "1")
    write_videos(tmp_path, "after", "2")
    (tmp_path / "after" / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "before" / "broken.mp4").write_bytes(b"no video")
    write_videos(tmp_path, "before", "odd", codec="mpeg4", suffix="avi")
    write_videos(tmp_path, "after", "odd")
    videos = f"--videos={tmp_path / 'before'},{tmp_path / 'after'}"
    with annotate(videos, "--prompt=p") as (address, begun, _):
        assert "no clip to compare it with" in begun
        assert f"{tmp_path / 'after' / '2.mp4'}" in begun
        assert "not_a_video" in begun
        assert "1 of 6 clips may not play in a browser (1 mpeg4 in .avi)" in begun
        assert "3 pairs in" in begun
        port = address.rstrip("/").rsplit(":", 1)[1]
        argv = (videos, "--prompt=p")
        ended = launch("annotate", monkeypatch, capsys, *argv, "--port=0")
        assert ended.status == 1
        assert "annotations.journal is in use by another server (process" in ended.text
        others = (*argv, f"--out={tmp_path / 'other'}", f"--port={port}")
        ended = launch("annotate", monkeypatch, capsys, *others)
        assert ended.status == 1
        assert f"--port={port} is in use" in ended.text
        answer(address, "ann", lambda shown: "tie", most=1)
    ended = launch("annotate", monkeypatch, capsys, *argv, "--dimensions=overall")
    assert ended.status == 1
    assert "holds comparisons in visual_quality, motion_quality, text_alignment, and" in ended.text
    ended = launch("annotate", monkeypatch, capsys, *argv, "--grade")
    assert "this asks for grades" in ended.text
    assert ended.status == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--policies=dpo,rwr"], "--policies: rwr has no such clips; those chosen are of"),
        (["--policies=dpo"], "none of the 3 clips can be paired: all are of one source"),
        (["--set=train"], "--set=train: no such clips; there are evaluation"),
        (["--split=validation"], "--split=validation: the evaluation clips are of the prompts"),
    ],
)
def test_a_run_without_what_is_asked_is_refused(workdir, argv, message, monkeypatch, capsys):
    ended = launch("annotate", monkeypatch, capsys, f"--workdir={workdir}", *argv)
    assert ended.status == 1
    assert message in ended.text
    assert "Traceback" not in ended.text


def test_a_folder_without_a_video_that_can_be_shown_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.mp4").write_bytes(b"no video")
    argv = (f"--videos={tmp_path / 'v'}", "--prompt=p", "--grade")
    ended = launch("annotate", monkeypatch, capsys, *argv)
    assert ended.status == 1
    assert "no clip can be shown" in ended.text
    assert "a.mp4: not_a_video" in ended.text


def test_an_answer_given_while_the_server_is_dead_is_kept_and_sent(tmp_path, monkeypatch, capsys):
    write_videos(tmp_path, "clips", "0", "1", "2")
    argv = (f"--videos={tmp_path / 'clips'}", "--prompt=p", "--grade", "--dimensions=overall")
    with chromium() as browser:
        page = browser.new_page()
        with annotate(*argv) as (address, _, _):
            page.goto(f"{address}?annotator=ann")
            until(page, "!document.getElementById('ask').hidden")
            page.keyboard.press("5")
            page.keyboard.press("Enter")
            until(page, "document.getElementById('count').textContent.startsWith('1 of')")
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        until(page, "!document.getElementById('trouble').hidden")
        assert "The server does not answer. What you said is kept" in page.inner_text("#trouble")
        port = address.rstrip("/").rsplit(":", 1)[1]
        with annotate(*argv, port=port) as (_, begun, _):
            assert "1 answers so far" in begun
            until(page, "document.getElementById('count').textContent.startsWith('2 of')")
            assert page.is_hidden("#trouble")
    entries = read_journal(tmp_path / "clips" / JOURNAL).entries
    assert [e["answer"] for e in entries] == [{"overall": "5"}, {"overall": "2"}]
    launch("annotate", monkeypatch, capsys, f"--out={tmp_path / 'clips'}", "--export")
    scores = read_preferences(tmp_path / "clips" / "annotations.jsonl").scores
    assert list(scores["score"]) == [2.0, -1.0]
