"""The same recipe on one process and on several, killed or not: the same clips, labels, numbers."""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
from recipes import assert_same_run, attempt, run_all, said

KILLED = (-signal.SIGKILL, -signal.SIGTERM, 143, 1)  # 1: Gloo's word for a lost peer


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The work directory of a run on two processes that nobody disturbed, and its seconds."""
    out = tmp_path_factory.mktemp("straight")
    (ended,) = run_all(out / "plan.json", [attempt(2, out / "two")])
    assert ended["codes"] == [0, 0], said(out / "plan.json", 0)
    return out / "two", max(ended["seconds"])


def kills(workdir: Path, count: int, seconds: float, hosts: int = 2) -> list[dict]:
    """Attempts that are killed at random, one host or all of them."""
    return [
        attempt(
            hosts,
            workdir,
            kill={
                "after": random.uniform(0.1, 0.9) * seconds,
                "ranks": random.choice([[i] for i in range(hosts)] + [list(range(hosts))]),
                "signal": int(random.choice([signal.SIGKILL, signal.SIGTERM])),
            },
        )
        for _ in range(count)
    ]


def run_killed(straight, out: Path, count: int) -> None:
    two, seconds = straight
    killed = out / "killed"
    killed.mkdir()
    shutil.copytree(two / "compiled", killed / "compiled")
    # what is compiled takes no time again, nor what earlier attempts have done
    attempts = kills(killed, count, 0.5 * seconds)
    *ended, last = run_all(out / "plan.json", [*attempts, attempt(2, killed)])
    for number, found in enumerate(ended):
        text = f"{attempts[number]['kill']}\n{said(out / 'plan.json', number)}"
        if found["sent"]:
            assert set(found["codes"]) <= {*KILLED, 0}, text
            assert max(found["seconds"]) - found["sent"] < 45.0, text
    assert last["codes"] == [0, 0], said(out / "plan.json", count)
    assert_same_run(two, killed, exactly=True)


def test_killed_three_times(straight, tmp_path):
    run_killed(straight, tmp_path, 3)


@pytest.mark.slow
def test_killed_twenty_times(straight, tmp_path):
    run_killed(straight, tmp_path, 20)


def test_one_process_gives_the_same(straight, tmp_path):
    (ended,) = run_all(tmp_path / "plan.json", [attempt(1, tmp_path / "one")])
    assert ended["codes"] == [0], said(tmp_path / "plan.json", 0)
    assert_same_run(straight[0], tmp_path / "one", exactly=False)
    done = [json.loads(p.read_text()) for p in (tmp_path / "one").glob("sample-*/done.json")]
    for files in (found["files"] for found in done):
        assert sum(entry.get("rows", 0) for entry in files.values()) > 0


@pytest.mark.slow
def test_four_processes_and_two_rounds_give_the_same(tmp_path):
    plan, rounds = tmp_path / "plan.json", "rounds=2"
    attempts = [attempt(n, tmp_path / str(n), rounds) for n in (1, 4)]
    ended = run_all(plan, attempts)
    assert [set(found["codes"]) for found in ended] == [{0}, {0}], said(plan, 1)
    assert_same_run(tmp_path / "1", tmp_path / "4", exactly=False)


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(4, 2, 1), (4, 8), (1, 4)])
def test_another_number_of_processes_goes_on(counts, straight, tmp_path):
    plan, workdir = tmp_path / "plan.json", tmp_path / "run"
    attempts = [kills(workdir, 1, straight[1], hosts)[0] for hosts in counts[:-1]]
    ended = run_all(plan, [*attempts, attempt(counts[-1], workdir)])
    assert set(ended[-1]["codes"]) == {0}, said(plan, len(counts) - 1)
    assert_same_run(straight[0], workdir, exactly=False)


@pytest.mark.slow
def test_a_comparison_gives_the_same(tmp_path):
    plan = tmp_path / "plan.json"
    argv = ["--configs=sft_aif,rwr_aif+align.gamma=1.0", "--seeds=1", "--rounds=1"]
    attempts = [attempt(n, tmp_path / str(n), program="compare", argv=argv) for n in (1, 2)]
    ended = run_all(plan, attempts)
    assert [set(found["codes"]) for found in ended] == [{0}, {0}], said(plan, 1)
    assert_same_run(tmp_path / "1", tmp_path / "2", exactly=False)
