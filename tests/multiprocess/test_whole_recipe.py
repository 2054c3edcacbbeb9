"""The same recipe on one process and on several, killed or not: the same clips, labels, numbers."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.numpy
from recipes import HOSTS, apart, assert_same_run, attempt, finished_stages, run_all, said

from tests.end_to_end.tiny import TINY_WAN, few_preferences
from tests.tiny_pipelines import tiny_wan
from vidpref.stages.label import read_labels
from vidpref.storage.bucket import Bucket
from vidpref.storage.transfers import bring

# what job managers start again, not 1; 134: jax's, where it is the first to notice
KILLED = {-signal.SIGKILL, -signal.SIGTERM, 143, 134}
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def kills(workdir: Path, count: int, share: float, hosts: int = 2) -> list[dict]:
    """Attempts in which one host or all are killed or stopped, at a random moment.

    Args:
        workdir: of all of them.
        count: how many.
        share: of the time that the plan's first attempt took, in which that happens.
        hosts: number of processes.
    """
    return [
        attempt(
            hosts,
            workdir,
            kill={
                "share": random.uniform(0.1, 0.9) * share,
                "ranks": random.choice([[i] for i in range(hosts)] + [list(range(hosts))]),
                "signal": int(random.choice(SIGNALS)),
            },
        )
        for _ in range(count)
    ]


def check_killed(plan: Path, attempts: list[dict], ended: list[dict], start: int) -> None:
    """All processes of attempts end soon after a signal, in a way that is started again."""
    numbered = zip(range(start, len(attempts)), attempts[start:], ended[start:], strict=True)
    for number, asked, found in numbered:
        if not asked["kill"]:
            continue
        text = f"{asked['kill']} {found}\n{said(plan, number)}"
        assert {*found["codes"]} <= {*KILLED, 0}, text
        if found["sent"]:  # a training that is asked to stop ends a step, and saves
            longest = 60.0 if asked["kill"]["signal"] == signal.SIGKILL else 180.0
            assert max(found["seconds"]) - found["sent"] < longest, text


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with runs on two processes ("two"), on one ("one"), and on two that were killed."""
    out = tmp_path_factory.mktemp("runs")
    plan, killed = out / "plan.json", out / "killed"
    attempts = [
        attempt(2, out / "two"),
        attempt(1, out / "one"),
        *kills(killed, 3, 0.4),  # what is compiled, and what is done, takes no time again
        attempt(2, killed),
    ]
    ended = run_all(plan, attempts)
    assert ended[0]["codes"] == [0, 0], said(plan, 0)
    assert ended[1]["codes"] == [0], said(plan, 1)
    check_killed(plan, attempts, ended, 2)
    assert ended[-1]["codes"] == [0, 0], said(plan, len(ended) - 1)
    return out


def test_two_processes_give_what_one_gives(runs):
    assert_same_run(runs / "one", runs / "two", exactly=False)
    for name in finished_stages(runs / "two"):
        done = json.loads((runs / "two" / name / "done.json").read_text())
        rows = [entry["rows"] for entry in done["files"].values() if "rows" in entry]
        assert bool(rows) == name.startswith(("sample-", "label-")), name
        assert done["time"]["total"] >= done["time"]["waiting"] >= 0.0
        if name.startswith("label-"):  # or the labels would say nothing
            labels = read_labels(runs / "two" / name)
            assert 0.0 < labels["accept"].mean() < 1.0
            assert labels["visual_quality"].nunique() == len(labels)


def test_killed_three_times_gives_the_same_bits(runs):
    assert_same_run(runs / "two", runs / "killed", exactly=True)


def again(runs: Path, out: Path, *attempts: dict) -> tuple[Path, list[dict]]:
    """Runs attempts with what `runs` has compiled; returns the plan and how they ended.

    Shares are those of the time that the first attempt of `runs` took.
    """
    first = max(json.loads((runs / "plan.ended.json").read_text())[0]["seconds"])
    for kill in (asked["kill"] for asked in attempts if asked["kill"]):
        kill["after"] = first * kill["share"]
    (out / "compiled").symlink_to(runs / "compiled")
    return out / "plan.json", run_all(out / "plan.json", attempts)


@pytest.mark.slow
def test_killed_twenty_times(runs, tmp_path):
    attempts = [*kills(tmp_path / "killed", 20, 0.4), attempt(2, tmp_path / "killed")]
    plan, ended = again(runs, tmp_path, *attempts)
    check_killed(plan, attempts, ended, 0)
    assert ended[-1]["codes"] == [0, 0], said(plan, len(ended) - 1)
    assert_same_run(runs / "two", tmp_path / "killed", exactly=True)


@pytest.mark.slow
def test_hosts_in_a_bucket_killed_one_by_one_give_the_same_bits(runs, address, tmp_path):
    def of_hosts(disks: str, kill: dict | None = None) -> dict:
        return attempt(2, address, kill=kill, cache=tmp_path / disks)

    kill = {"share": 0.3, "signal": int(signal.SIGKILL)}
    attempts = [
        of_hosts("first", kill | {"ranks": [1]}),
        of_hosts("second", kill | {"ranks": [0]}),
        of_hosts("second"),
    ]
    plan, ended = again(runs, tmp_path, *attempts)
    check_killed(plan, attempts, ended, 0)
    assert ended[-1]["codes"] == [0, 0], said(plan, len(ended) - 1)
    bucket, found = Bucket(address), tmp_path / "found"
    bring(bucket, bucket.listing(), found)
    assert_same_run(runs / "two", found, exactly=True)


@pytest.mark.slow
def test_a_host_that_stands_still_ends_the_others(runs, tmp_path):
    kill = {"share": 0.2, "signal": int(signal.SIGSTOP)}
    attempts = [attempt(2, tmp_path / "run", kill=kill | {"ranks": [i]}) for i in (1, 0)]
    plan, ended = again(runs, tmp_path, *attempts, attempt(2, tmp_path / "run"))
    for number, still, other in ((0, 1, 0), (1, 0, 1)):
        assert ended[number]["codes"][other] in KILLED, said(plan, number, other)
        assert f"host {still} (" in said(plan, number, other)
        assert ended[number]["seconds"][other] - ended[number]["sent"] < 60.0
    assert ended[-1]["codes"] == [0, 0], said(plan, len(ended) - 1)
    assert_same_run(runs / "two", tmp_path / "run", exactly=True)


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of its own, of so many bytes."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_all_and_loses_nothing(runs, tmp_path):
    size = sum(path.stat().st_size for path in (runs / "two").rglob("*") if path.is_file())
    plans = tmp_path / "0", tmp_path / "1", tmp_path / "2"
    with disk(tmp_path / "disk", size // 3):
        for plan, more in zip(plans, (size // 3, 2 * size // 3, 8 * size), strict=True):
            plan.mkdir()
            grow(tmp_path / "disk", more)
            path, (ended,) = again(runs, plan, attempt(2, tmp_path / "disk"))
            text = [said(path, 0, rank) for rank in range(2)]
            if plan is plans[-1]:
                assert ended["codes"] == [0, 0], text
                break
            assert ended["codes"] == [1, 1], text
            assert abs(ended["seconds"][0] - ended["seconds"][1]) < 10.0
            assert all("space" in said for said in text), text
            assert any("no space is left on its disk" in said for said in text), text
        assert_same_run(runs / "two", tmp_path / "disk", exactly=True)


@pytest.mark.slow
def test_a_second_round_on_four_processes_gives_the_same(runs, tmp_path):
    # from the same bits: a second training makes 20 times as much of what rounding did in a first
    for n in (1, 4):
        shutil.copytree(runs / "one", tmp_path / str(n))
    attempts = [attempt(n, tmp_path / str(n), "--config.rounds=2") for n in (1, 4)]
    plan, ended = again(runs, tmp_path, *attempts)
    assert [{*found["codes"]} for found in ended] == [{0}, {0}], said(plan, 1)
    assert any(name.startswith("align-rwr-round2-") for name in finished_stages(tmp_path / "4"))
    assert_same_run(tmp_path / "1", tmp_path / "4", exactly=False)


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(4, 2, 1), (4, 8), (1, 4)])
def test_another_number_of_processes_goes_on(counts, runs, tmp_path):
    workdir = tmp_path / "run"
    attempts = [kills(workdir, 1, 0.7, hosts)[0] for hosts in counts[:-1]]
    plan, ended = again(runs, tmp_path, *attempts, attempt(counts[-1], workdir))
    assert {*ended[-1]["codes"]} == {0}, said(plan, len(counts) - 1)
    assert_same_run(runs / "one", workdir, exactly=False)


@pytest.mark.slow
def test_a_comparison_gives_the_same(runs, tmp_path):
    for n in (1, 2):  # from the same bits, as a second round above
        shutil.copytree(runs / "one", tmp_path / str(n))
    names = "--configs=sft_aif,rwr_aif+align.gamma=1.0"
    given = [flag for flag in attempt(1, tmp_path)["argv"] if flag.startswith("--config.")]
    fields = [flag for flag in given if "align.gamma" not in flag]  # of rwr alone
    argv = [names, "--seeds=1", "--rounds=1", "--config.search=()", *fields]
    attempts = [attempt(n, tmp_path / str(n), program="compare", argv=argv) for n in (1, 2)]
    plan, ended = again(runs, tmp_path, *attempts)
    assert [{*found["codes"]} for found in ended] == [{0}, {0}], said(plan, 1)
    assert_same_run(tmp_path / "1", tmp_path / "2", exactly=False)


@pytest.mark.slow
def test_a_file_of_preferences_and_what_is_exported_are_the_same(runs, tmp_path):
    tiny_wan(tmp_path / "wan")
    few_preferences(tmp_path)
    given = {"model.init": tmp_path / "wan", "data.pairs": tmp_path / "pairs.csv"}
    fields = [f"{name}={value}" for name, value in given.items()]
    fields += [*TINY_WAN, *HOSTS, "align.train.checkpoint_every=2", "data.encode_batch=4"]
    argv = ["--config=flow_dpo:wan2_1_1_3b", *(f"--config.{field}" for field in fields)]
    attempts = [attempt(n, tmp_path / str(n), argv=argv) for n in (1, 2, 4)]
    for n in (1, 2):
        for form in ("peft", "diffusers"):
            out = (f"--format={form}", f"--out={tmp_path / f'{form}-{n}'}")
            attempts.append(attempt(n, tmp_path / str(n), program="export_torch", argv=out))
    plan, ended = again(runs, tmp_path, *attempts)
    for number, found in enumerate(ended):
        assert {*found["codes"]} == {0}, said(plan, number)
    for n in (2, 4):
        assert_same_run(tmp_path / "1", tmp_path / str(n), exactly=False)
    for form in ("peft", "diffusers"):
        one, two = (tmp_path / f"{form}-{n}" for n in (1, 2))
        files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
        for file in (file for file in files if file.suffix == ".safetensors"):
            tensors = [safetensors.numpy.load_file(folder / file) for folder in (one, two)]
            assert tensors[0].keys() == tensors[1].keys()
            assert apart(*tensors) <= 5e-3, file
