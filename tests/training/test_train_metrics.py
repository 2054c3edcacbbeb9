import io
import json

import pytest

from vidpref.training import metrics
from vidpref.training.metrics import MetricsWriter, Progress, read_metrics


def write(folder, steps, resume_step=0):
    with MetricsWriter(folder, resume_step=resume_step) as writer:
        for step in steps:
            writer.write(step, {"loss": 1.0 / step, "run": resume_step})


def test_lines_are_on_disk_at_once(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"loss": 0.5})
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}]


def test_a_resumed_run_has_every_step_once(tmp_path):
    write(tmp_path, range(1, 8))
    with (tmp_path / metrics.METRICS_FILE).open("a") as file:
        file.write('{"step": 8, "lo')  # a kill in the middle of a line
    write(tmp_path, range(6, 10), resume_step=5)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 10))
    assert [line["run"] for line in lines] == [0] * 5 + [5] * 4


def test_tensorboard_gets_the_same(tmp_path):
    write(tmp_path, [1, 2])
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in file.read_bytes()


def test_other_processes_write_nothing(tmp_path):
    with MetricsWriter(tmp_path, enabled=False) as writer:
        writer.write(1, {"loss": 0.5})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    return now


def test_progress_lines(clock):
    stream = io.StringIO()
    with Progress("pretrain", total=2500, stream=stream) as progress:
        clock[0] += 60  # compilation: not part of the rate
        for _ in range(1200):
            progress.update(1, "loss 0.5")
            clock[0] += 0.08
    lines = stream.getvalue().splitlines()
    assert lines[0] == "pretrain 1/2500 0% loss 0.5"
    assert lines[1].startswith("pretrain 126/2500 5% 12.5 it/s about 3m10s left")
    assert len(lines) == 11
    assert lines[-1] == "pretrain 1200/2500 done in 2m36s"


def test_progress_counts_what_an_earlier_run_did(clock):
    stream = io.StringIO()
    with Progress("align", total=100, done=90, stream=stream) as progress:
        for _ in range(2):
            progress.update()
            clock[0] += 20
        progress.update()
    assert stream.getvalue().splitlines()[-2:] == [
        "align 93/100 93% 20.0 s/it about 2m20s left",
        "align 93/100 done in 40s",
    ]


def test_progress_on_a_terminal_is_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Progress("label", total=4, stream=stream) as progress:
        progress.update(4)
        progress.say("a message")
    assert "4/4" in stream.getvalue()
    assert "a message\n" in stream.getvalue()


def test_json_is_strict(tmp_path):
    with MetricsWriter(tmp_path) as writer, pytest.raises(ValueError, match="JSON"):
        writer.write(1, {"loss": float("nan")})
    assert json.loads((tmp_path / metrics.METRICS_FILE).read_text() or "[]") == []
