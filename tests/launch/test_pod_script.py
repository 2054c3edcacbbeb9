"""launch/pod.sh against a gcloud that runs its commands here, once a worker."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.launch.fake_programs import GCLOUD, Fakes

ROOT = Path(__file__).parents[2]
SLICE = ("--tpu=pod", "--zone=us-z1")


@pytest.fixture
def fakes(tmp_path):
    return Fakes(tmp_path / "fakes", gcloud=GCLOUD)


@pytest.fixture
def checkout(tmp_path):
    """A checkout without what is large."""
    folder = tmp_path / "check out"
    shutil.copytree(ROOT / "launch", folder / "launch")
    shutil.copy(ROOT / "setup.py", folder)
    (folder / "runs").mkdir()
    (folder / "runs" / "large").touch()
    return folder


def pod(fakes, checkout, *argv, workers=3, **env):
    env = fakes.environment(FAKE_WORKERS=str(workers), **env)
    command = [checkout / "launch" / "pod.sh", *argv]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def installed(fakes, checkout, worker):
    """A worker that an earlier call installed: its environment is there and up to date."""
    home = fakes.homes / str(worker) / "vidpref"
    shutil.copytree(checkout / "launch", home / "launch")
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / ".venv" / "bin" / "activate").write_text("export ACTIVE=1\n")
    python = home / ".venv" / "bin" / "python"
    python.write_text('#!/usr/bin/env bash\nexec python3 "$@"\n')
    python.chmod(0o755)
    stamp = subprocess.run(
        ["sha256sum", "setup.py"], cwd=checkout, capture_output=True, text=True, check=True
    )
    (home / ".venv" / "installed-tpu-.sha256").write_text(stamp.stdout)
    return home


SHOW = """
import os, sys
names = ("ACTIVE", "JAX_PLATFORMS", "PYTHONFAULTHANDLER")
print(sys.argv[1:], *(os.environ[name] for name in names), os.path.basename(os.getcwd()))
"""


def test_all_workers_run_the_command_with_their_numbers(fakes, checkout):
    for worker in range(3):
        installed(fakes, checkout, worker)
    odd = ["a b", "it's", '"$HOME"; exit 9', "*", "", "\n", "é"]
    done = pod(fakes, checkout, *SLICE, "--nocopy", "--", "python3", "-c", SHOW, *odd)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"[{worker}] {odd!r} 1 tpu,cpu 1 vidpref" for worker in range(3)
    ]
    (call,) = fakes.calls("gcloud")
    assert call[:5] == ["compute", "tpus", "tpu-vm", "ssh", "pod"]
    assert call[5:7] == ["--worker=all", "--zone=us-z1"]


def test_the_checkout_is_copied_and_installed_first(fakes, checkout):
    for worker in range(2):
        home = installed(fakes, checkout, worker)
        (home / "left_over.py").touch()
        (home / "runs").mkdir()
    (checkout / "new.py").write_text("print('new')\n")
    argv = (*SLICE, "--project=p", "--", "python3", "new.py")
    done = pod(fakes, checkout, *argv, workers=2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(done.stdout.splitlines()) == ["[0] new", "[1] new"]
    scp, install, run = fakes.calls("gcloud")
    assert scp[3] == "scp"
    assert scp[5:] == ["pod:vidpref.tar.gz", "--worker=all", "--zone=us-z1", "--project=p"]
    assert not Path(scp[4]).exists()  # the archive here is cleared away
    assert all("--project=p" in call for call in (install, run))
    home = fakes.homes / "1" / "vidpref"
    assert not (home / "left_over.py").exists()
    assert (home / "runs").is_dir()  # the worker's own
    assert not (home / "runs" / "large").exists()


def test_of_a_git_checkout_what_git_knows_or_would_add_is_copied(fakes, checkout):
    if shutil.which("git") is None:
        pytest.skip("no git")
    git = ["git", "-C", checkout, "-c", "user.name=a", "-c", "user.email=a@b"]
    (checkout / ".gitignore").write_text("/runs/\nsecret\n")
    (checkout / "gone.py").touch()
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    (checkout / "gone.py").unlink()
    for name in ("secret", "new file.py"):
        (checkout / name).touch()
    installed(fakes, checkout, 0)
    done = pod(fakes, checkout, *SLICE, "--", "ls", "-A", workers=1)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.removeprefix("[0] ") for line in done.stdout.splitlines()}
    assert listed == {".gitignore", ".venv", "launch", "new file.py", "setup.py"}


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 0, 0), 0),
        ((143, 143, 143), 143),
        ((134, 1, 137), 1),  # the others died of it
        ((0, 0, 137), 137),
    ],
)
def test_the_exit_code_is_the_cause(codes, expected, fakes, checkout):
    for worker in range(3):
        installed(fakes, checkout, worker)
    script = f"codes=({' '.join(map(str, codes))}); exit ${{codes[$FAKE_WORKER]}}"
    done = pod(fakes, checkout, *SLICE, "--nocopy", "--", "bash", "-c", script)
    assert done.returncode == expected
    said = [line for line in done.stdout.splitlines() if "exit code" in line]
    failed = [f"[{worker}] exit code {code}" for worker, code in enumerate(codes) if code]
    assert sorted(said) == failed


def test_a_lost_connection_is_an_error(fakes, checkout):
    installed(fakes, checkout, 0)
    argv = (*SLICE, "--nocopy", "--", "true")
    assert pod(fakes, checkout, *argv, workers=1, FAKE_GCLOUD_STATUS="255").returncode == 255


def test_a_failed_installation_runs_nothing(fakes, checkout):
    installed(fakes, checkout, 0)
    (checkout / "launch" / "pods" / "install.sh").write_text("echo no space; exit 3\n")
    done = pod(fakes, checkout, *SLICE, "--", "touch", "ran", workers=1)
    assert done.returncode == 3
    assert "[0] no space" in done.stdout
    assert len(fakes.calls("gcloud")) == 2
    assert not (fakes.homes / "0" / "vidpref" / "ran").exists()


def test_a_dry_run_prints_the_commands_and_calls_nothing(fakes, checkout):
    done = pod(fakes, checkout, *SLICE, "--dry_run", "--", "python", "x.py", "--a=b c")
    assert done.returncode == 0, done.stderr
    assert fakes.calls("gcloud") == []
    scp, install, run = map(shlex.split, done.stdout.splitlines())
    assert [words[:4] for words in (scp, install, run)] == [
        ["gcloud", "compute", "tpus", "tpu-vm"]
    ] * 3
    assert "install.sh" in install[-1]
    assert "worker.sh python x.py --a=b\\ c" in run[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--zone=z", "--", "true"), "--tpu=NAME is missing"),
        (("--tpu=t", "--", "true"), "--zone=ZONE is missing"),
        (SLICE, "no command"),
        ((*SLICE, "python", "x.py"), "not understood: python; the command comes behind --"),
    ],
)
def test_mistakes_are_answered_in_words(argv, message, fakes, checkout):
    done = pod(fakes, checkout, *argv)
    assert (done.returncode, message in done.stderr) == (2, True)
    assert fakes.calls("gcloud") == []


def test_help_shows_how(fakes, checkout):
    done = pod(fakes, checkout, "--help")
    assert done.returncode == 0
    assert "launch/pod.sh --tpu=NAME --zone=ZONE -- python" in done.stdout
    assert "set -euo" not in done.stdout
