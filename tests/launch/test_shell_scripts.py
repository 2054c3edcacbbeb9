"""Every shell script of the repository passes shellcheck, and the Dockerfile hadolint."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SCRIPTS = sorted([*ROOT.glob("launch/**/*.sh"), *ROOT.glob("tests/**/*.sh")])


def check(program, *argv, text=None):
    return subprocess.run(
        [BIN / program, *argv], cwd=ROOT, input=text, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(path):
    options = ("--external-sources", "--source-path=SCRIPTDIR", f"--source-path={ROOT}")
    done = check("shellcheck", *options, str(path.relative_to(ROOT)))
    assert done.returncode == 0, done.stdout


def test_all_scripts_are_checked():
    names = {path.name for path in SCRIPTS}
    assert {"pod.sh", "slurm.sh", "startup.sh", "quickstart.sh", "run.sh"} <= names


def test_shellcheck_finds_something_where_there_is_something():
    done = check("shellcheck", "-", text="#!/usr/bin/env bash\nrm -r $1\n")
    assert (done.returncode, "SC2086" in done.stdout) == (1, True)


def test_hadolint_finds_nothing():
    done = check("hadolint", "launch/pods/Dockerfile")
    assert done.returncode == 0, done.stdout
    assert not done.stdout


def test_hadolint_finds_something_where_there_is_something():
    done = check("hadolint", "-", text="FROM python:latest\n")
    assert (done.returncode, "DL3007" in done.stdout) == (1, True)


def test_the_image_runs_as_nobody_special_with_pinned_packages_and_signals():
    text = (ROOT / "launch" / "pods" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("#", " ")) and line]
    assert lines[0].startswith("FROM python:3.11-slim")
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users == ["1000"]
    assert "--constraint constraints.txt" in text
    assert 'ENTRYPOINT ["tini", "--", "python"]' in lines


def test_what_scripts_call_in_the_checkout_is_there():
    for path in SCRIPTS:
        for word in path.read_text().replace('"', " ").split():
            named = word.split("/launch/")[-1] if "/launch/" in word else word
            if named.startswith(("launch/", "pods/")) and named.endswith((".sh", ".py", ".txt")):
                place = ROOT / named if named.startswith("launch/") else ROOT / "launch" / named
                assert place.is_file(), f"{path.name} names {word}"
