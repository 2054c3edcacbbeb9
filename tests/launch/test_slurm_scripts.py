"""launch/pods/slurm.sh against an srun that runs its tasks here."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.launch.fake_programs import SRUN, Fakes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fakes(tmp_path):
    return Fakes(tmp_path / "fakes", srun=SRUN, scontrol="")


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(ROOT / "launch" / "pods", tmp_path / "checkout" / "launch" / "pods")
    return tmp_path / "checkout"


def start(fakes, checkout, *command, tasks=4, **env):
    job = {"SLURM_JOB_ID": "70001", "SLURM_SUBMIT_DIR": str(checkout), "SLURM_NTASKS": str(tasks)}
    env = fakes.environment(**job, **env)
    script = shutil.copy(checkout / "launch" / "pods" / "slurm.sh", fakes.homes / "slurm_script")
    return subprocess.Popen(
        ["bash", script, *command],
        env=env,
        cwd=fakes.homes,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def requeued(fakes):
    return [call for call in fakes.calls("scontrol") if call[0] == "requeue"]


def test_every_task_is_a_process_with_a_gpu(fakes, checkout):
    script = 'echo "$SLURM_PROCID of $SLURM_NTASKS, $PYTHONFAULTHANDLER in $PWD: $*"'
    code, out, _ = finish(start(fakes, checkout, "bash", "-c", script, "_", "a b", "it's"))
    assert code == 0
    assert sorted(out.splitlines()) == [
        f"{task} of 4, 1 in {checkout}: a b it's" for task in range(4)
    ]
    (call,) = fakes.calls("srun")
    assert {"--kill-on-bad-exit=0", "--wait=60", "--gpu-bind=none", "--label"} <= set(call)
    assert not requeued(fakes)


@pytest.mark.parametrize(
    ("code", "again"), [(1, False), (2, False), (41, False), (127, False), (42, True), (134, True)]
)
def test_what_one_task_ends_with_decides(code, again, fakes, checkout):
    # the others hang until Slurm kills them, with a higher code
    script = f'[ "$SLURM_PROCID" != 2 ] || exit {code}; exec sleep 50'
    status, _, _ = finish(start(fakes, checkout, "bash", "-c", script))
    assert requeued(fakes) == ([["requeue", "70001"]] if again else [])
    assert status == (137 if again else code)
    assert not list(checkout.glob(".slurm-*"))


def test_a_preempted_job_saves_and_is_queued_again(fakes, checkout):
    script = "trap 'sleep 0.2; echo saved; exit 143' TERM; echo up; while :; do sleep 0.05; done"
    process = start(fakes, checkout, "bash", "-c", script, tasks=2)
    assert process.stdout.readline() == "up\n"
    assert process.stdout.readline() == "up\n"
    (srun,) = subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(process.pid)]).split()
    os.kill(int(srun), signal.SIGTERM)  # Slurm signals the tasks of the step
    status, out, err = finish(process)
    assert (status, out.count("saved")) == (143, 2)
    assert requeued(fakes) == [["requeue", "70001"]]
    assert "job 70001 is queued again" in err


def test_a_task_waits_for_a_program_that_saves_through_several_signals(checkout, fakes):
    script = "trap 'sleep 0.3; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    env = fakes.environment(VIDPREF_FINAL=str(checkout / "final"))
    task = subprocess.Popen(
        ["bash", "launch/pods/task.sh", "bash", "-c", script],
        cwd=checkout,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert task.stdout.readline() == "up\n"
    for _ in range(2):
        os.killpg(task.pid, signal.SIGTERM)
        time.sleep(0.05)
    task.communicate(timeout=30)
    assert task.returncode == 5
    assert (checkout / "final").read_text() == "5\n"


def test_a_job_is_not_queued_for_ever(fakes, checkout):
    env = {"SLURM_RESTART_COUNT": "3", "VIDPREF_MAX_RESTARTS": "3"}
    status, _, _ = finish(start(fakes, checkout, "bash", "-c", "exit 137", tasks=1, **env))
    assert (status, requeued(fakes)) == (137, [])


def test_no_command_is_said(fakes, checkout):
    status, _, err = finish(start(fakes, checkout))
    assert (status, "no command" in err) == (2, True)
    assert not fakes.calls("srun")


def test_its_directives_are_slurms():
    lines = (ROOT / "launch" / "pods" / "slurm.sh").read_text().splitlines()
    directives = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in lines
        if line.startswith("#SBATCH")
    )
    assert directives["gpus-per-node"] == directives["ntasks-per-node"]  # one process a GPU
    assert directives["signal"] == "TERM@120"
    assert {"requeue", "open-mode", "time", "nodes"} <= set(directives)
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    assert all(not line.startswith("#SBATCH") for line in lines[first:])  # sbatch reads no further
