"""Two real processes of jax: they decide together, and one that ends takes the other along.

All pairs are forks of one process, which imports everything once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOON = ("everything", "raises_at_barrier", "raises_in_collective", "kill_0")
LATER = (
    *("raises_in_decision", "kill_1", "frozen_0", "frozen_1", "late", "differs", "alone"),
    *("own_disk", "in_use", "preempted", "stopped_outside", "stopped_late", "hangs", "slow"),
    "data",
)
DEFECT = "TypeError: a defect"
IN_USE = "host 0 ({m}): WorkdirInUse: {f} is in use by another run"


class Ended:
    """How the two hosts of a case ended.

    Attributes:
        codes: exit code of each.
        seconds: from the start of both to the end of each.
        said: what each printed.
        folder: what they wrote.
    """

    def __init__(self, folder: Path):
        ended = json.loads((folder.parent / "ended.json").read_text())[folder.name]
        self.codes, self.seconds = ended["codes"], ended["seconds"]
        self.said = [(folder / f"said-{rank}.txt").read_text() for rank in range(2)]
        self.folder = folder

    def first_lines(self) -> list[str]:
        return [next(filter(None, said.splitlines()), "") for said in self.said]

    def found(self) -> list:
        return [json.loads((self.folder / f"found-{rank}.json").read_text()) for rank in range(2)]


def run_cases(out: Path, cases: tuple[str, ...]) -> dict[str, Ended]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    worker = ROOT / "tests" / "coordination" / "hosts_worker.py"
    command = [sys.executable, "-W", "ignore", str(worker), str(out), *cases]
    subprocess.run(command, env=environment, check=True, timeout=600)
    return {case: Ended(out / case) for case in cases}


@pytest.fixture(scope="module")
def soon(tmp_path_factory):
    return run_cases(tmp_path_factory.mktemp("soon"), SOON)


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    return run_cases(tmp_path_factory.mktemp("later"), LATER)


def machine() -> str:
    return os.uname().nodename


def test_one_decides_and_all_tell(soon):
    case = soon["everything"]
    assert case.codes == [0, 0], case.said
    first, second = case.found()
    for found in (first, second):
        assert found["decided"]["by"] == 0
        assert found["gathered"] == [[0, 0.1], [1, 1.1]]
        assert found["sum"] == 2.0  # devices of both
        assert found["ran"] == 1
        assert found["again"] is True
    assert second["said"] == []
    assert [line.split()[0] for line in first["said"]] == ["into", "done"]
    assert len(list(case.folder.glob("number-*/done.json"))) == 1


def assert_ended_alike(case: Ended, line: str, *, within: float = 30.0) -> None:
    """Both say the same first, and leave with status 1, the other not 10 s after the first."""
    assert case.codes == [1, 1], case.said
    assert len(set(case.first_lines())) == 1, case.said
    assert case.first_lines()[0].startswith(line.format(m=machine(), f=case.folder))
    assert abs(case.seconds[0] - case.seconds[1]) < 10.0
    assert max(case.seconds) < within + 30.0  # the start takes long on a busy machine


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("raises_at_barrier", "host 1 ({m}): ValueError: config.x=1: wrong"),
        ("raises_in_collective", f"host 0 ({{m}}): {DEFECT}"),
    ],
)
def test_an_error_of_one_ends_both(name, line, soon):
    assert_ended_alike(soon[name], line)


def test_a_defect_shows_where_on_its_own_host(soon):
    first, second = soon["raises_in_collective"].said
    assert "raises_while_the_other_computes" in first
    assert "Traceback" not in second


def test_host_0_is_killed(soon):
    case = soon["kill_0"]
    assert case.codes == [-9, 143]
    assert f"host 0 ({machine()}) is gone (localhost:" in case.said[1]
    assert case.seconds[1] - case.seconds[0] < 10.0


@pytest.mark.slow
def test_host_1_is_killed(later):
    case = later["kill_1"]
    assert case.codes == [143, -9]
    assert case.first_lines()[0].startswith(f"host 1 ({machine()}) is gone (silent for 5 s)")
    assert case.seconds[0] - case.seconds[1] < 20.0  # heartbeat_seconds=5


@pytest.mark.slow
@pytest.mark.parametrize(("frozen", "why"), [(0, "no answer for 5 s"), (1, "silent for 5 s")])
def test_a_host_that_hangs_as_a_whole_is_named(frozen, why, later):
    case, other = later[f"frozen_{frozen}"], 1 - frozen
    assert (case.codes[frozen], case.codes[other]) == (None, 143), case.said
    line = next(filter(None, case.said[other].splitlines()))
    assert line.startswith(f"host {frozen} ({machine()}) is gone ({why})")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("raises_in_decision", "host 0 ({m}): FileNotFoundError: clips.csv: no such file"),
        ("late", "waiting for host 1 of 2 at 'the sample stage': not there after 3 s."),
        ("differs", "host 1 ({m}) is not like the others: config.align.beta is 7.0 there and"),
        ("in_use", IN_USE),
    ],
)
def test_what_else_ends_both(name, line, later):
    assert_ended_alike(later[name], line)


@pytest.mark.slow
def test_a_folder_that_is_not_shared(later):
    case = later["own_disk"]
    assert case.codes == [1, 1]
    assert len(set(case.first_lines())) == 1
    assert "is not the same folder on host 1 of 2 as on host 0" in case.first_lines()[0]


@pytest.mark.slow
def test_a_host_that_never_comes(later):
    case = later["alone"]
    assert case.codes == [1, 0]
    assert case.first_lines()[0].startswith("waiting for host 1 of 2: not there after 2 s.")


@pytest.mark.slow
def test_a_host_that_is_asked_to_stop_stops_both_at_one_step(later):
    case = later["preempted"]
    assert case.codes == [143, 143], case.said
    steps = {(case.folder / f"step-{rank}.txt").read_text() for rank in range(2)}
    assert len(steps) == 1


@pytest.mark.slow
def test_a_stop_outside_of_a_training_ends_both_at_once(later):
    case = later["stopped_outside"]
    assert case.codes == [143, 143], case.said
    assert case.first_lines()[0] == case.first_lines()[1]
    assert "asked to stop; the same command goes on" in case.first_lines()[0]
    assert abs(case.seconds[0] - case.seconds[1]) < 10.0


@pytest.mark.slow
def test_a_stop_that_no_step_comes_to_ends_both_after_the_last_one(later):
    case = later["stopped_late"]
    assert case.codes == [143, 143], case.said
    assert not list(case.folder.glob("never-*"))


@pytest.mark.slow
def test_a_host_that_hangs_shows_where_and_ends_both(later):
    case = later["hangs"]
    assert case.codes == [143, 143], case.said
    assert "align: no step for 0.03 minutes, after 3 in this process" in "".join(case.said)
    assert any("in hangs" in said for said in case.said)  # of the stacks


@pytest.mark.slow
def test_the_slow_host_is_named(later):
    case = later["slow"]
    assert case.codes == [0, 0], case.said
    first, second = case.found()
    assert first == second
    assert [bool(times) for times, _, _ in first] == [False, True] * 3
    for times, save, _ in first[1::2]:
        assert times["slowest_host"] == 1.0
        assert 0.2 <= times["slowest_host_seconds"] <= times["step_seconds"] + 0.01
        assert save
    warnings = [warning for _, _, warning in first]
    assert warnings[1].startswith(f"align: host 1 ({machine()}) is slow: reading its rows takes it")
    assert warnings[3] == warnings[5] == ""  # once


@pytest.mark.slow
def test_one_builds_the_data_and_both_read_it(later):
    case = later["data"]
    assert case.codes == [0, 0], case.said
    first, second = case.found()
    assert first == second
    assert min(first) > 0
