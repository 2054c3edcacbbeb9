"""The journal of answers: whole after any kill, one writer, other files refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from annotation_examples import ANSWER, DIMENSIONS, entry, task

from vidpref.annotation.answers import Answers, Standing
from vidpref.annotation.journal import JOURNAL, TORN, Journal, JournalInUse, opened, read_journal

ROOT = Path(__file__).parents[2]


def written(folder, *entries):
    journal = Journal(folder / JOURNAL, task())
    for one in entries:
        journal.append(one)
    journal.close()
    return folder / JOURNAL


def test_what_was_written_is_read(tmp_path):
    lines = [entry("ann", 0, "left", note="é “x”\n\t\u2028"), {"annotator": "ann", "undo": "k"}]
    read = read_journal(written(tmp_path, *lines))
    assert (read.kind, read.dimensions, read.torn) == ("compare", DIMENSIONS, b"")
    assert list(read.entries) == lines


def test_a_file_cut_at_any_byte_goes_on(tmp_path):
    lines = [entry("ann", 0, "left"), entry("bob", 1, "tie", note="für"), entry("ann", 2, "right")]
    path = written(tmp_path, *lines)
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(ends[2], len(data) + 1):
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends) - 1
        line_without_its_break = cut + 1 in ends
        journal = Journal(path, task())
        assert list(journal.entries) == lines[: whole + line_without_its_break], cut
        journal.append(lines[0])
        journal.close()
        assert list(read_journal(path).entries)[-1] == lines[0]
        last = max(end for end in ends if end <= cut)
        assert journal.torn == (b"" if line_without_its_break else data[last:cut])
        aside = tmp_path / TORN
        assert (aside.read_bytes() if journal.torn else b"\n") == journal.torn + b"\n"
        aside.unlink(missing_ok=True)


def test_a_line_of_zeros_at_the_end_as_after_a_power_cut_is_put_aside(tmp_path):
    path = written(tmp_path, entry("ann", 0, "left"))
    with path.open("ab") as file:
        file.write(b"\0" * 100 + b"\n")
    journal = Journal(path, task())
    journal.close()
    assert len(journal.entries) == 1
    assert len(journal.torn) == 101
    assert read_journal(path).torn == b""


def test_real_kills_lose_nothing_that_was_said_to_be_saved(tmp_path):
    program = Path(__file__).with_name("killed_writers.py")
    command = [sys.executable, str(program), str(tmp_path / JOURNAL), "40"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    kills, answers, _ = map(int, done.stdout.split())
    assert kills == 40
    assert answers >= 40  # each writer had begun


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", r"line 2: not JSON"),
        (b"\xff", r"line 2: not UTF-8"),
        (b"", r"line 2: not JSON"),
        (b'{"annotator": "ann"}', r"line 2: neither an answer nor an undo"),
        (b"[1]", r"line 2: neither an answer nor an undo"),
    ],
)
def test_damage_elsewhere_is_refused_by_line(tmp_path, line, message):
    path = written(tmp_path, entry("ann", 0, "left"))
    head, *rest = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([head, line, *rest]))
    with pytest.raises(ValueError, match=message):
        read_journal(path)


def test_an_answer_that_somebody_edited_is_refused_by_line(tmp_path):
    path = written(tmp_path, entry("ann", 0, "left"), entry("ann", 1, "tie"))
    path.write_text(path.read_text().replace('"left"', '"lift"', 1))
    with pytest.raises(ValueError, match=r"line 2: visual_quality='lift': known are left, tie"):
        read_journal(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no journal of annotations: it has no first line"),
        ('{"prompt": "a"}\n', "line 1: no journal of annotations begins like this"),
        ('{"annotations": 2, "kind": "grade", "dimensions": ["a"]}\n', "of version 2, and this"),
        ("a,b\n1,2\n", "line 1: not JSON"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / JOURNAL
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Journal(path, task())
    assert path.read_text() == text


def test_a_journal_of_another_task_is_refused(tmp_path):
    path = written(tmp_path, entry("ann", 0, "left"))
    with pytest.raises(ValueError, match=r"holds comparisons in .*, and this asks for grades in"):
        Journal(path, task(kind="grade"))
    head = json.loads(path.read_text().split("\n")[0])
    assert head["dimensions"] == list(DIMENSIONS)
    others = task(2)
    others = type(others)("compare", others.items[1:], DIMENSIONS)
    with pytest.raises(ValueError, match=r"1 answers, and none is about what is asked .*old/0.mp4"):
        Answers(others, Journal(path, others))


def test_a_second_server_is_refused(tmp_path):
    with opened(tmp_path, task()):
        with pytest.raises(
            JournalInUse, match=rf"in use by another server \(process {os.getpid()}"
        ):
            opened(tmp_path, task()).__enter__()
        assert read_journal(tmp_path / JOURNAL).entries == ()  # an export may look
    with opened(tmp_path, task()):
        pass


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    journal = Journal(tmp_path / JOURNAL, task())
    journal.append(entry("ann", 0, "left"))
    before = (tmp_path / JOURNAL).read_bytes()
    real = os.pwrite

    def half(file, data, place):
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return real(file, data[: len(data) // 2], place)

    monkeypatch.setattr(os, "pwrite", half)
    answers = Answers(task(), journal)
    key = answers.state("bob")["next"][0].key
    with pytest.raises(OSError, match="No space left"):
        answers.answer("bob", key, ANSWER)
    assert (tmp_path / JOURNAL).read_bytes() == before
    assert answers.state("bob")["done"] == 0
    monkeypatch.undo()
    answers.answer("bob", key, ANSWER)
    assert len(Standing(read_journal(tmp_path / JOURNAL).entries).answers()) == 2
