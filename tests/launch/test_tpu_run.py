"""The launch programs as a user types them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(*argv):
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *argv], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
    )


def test_list_names_every_config_with_paper_and_scales():
    done = _run("launch/tpu_run.py", "--list")
    assert done.returncode == 0
    for name in ("sft_aif", "rwr_aif", "dpo_aif"):
        assert f"{name}:{{mini|paper}}" in done.stdout
    assert "Improving Dynamic Object Interactions" in done.stdout


def test_help_shows_commands_and_flags():
    done = _run("launch/tpu_run.py", "--help")
    assert "--config=dpo_aif:mini --workdir=runs/dpo" in done.stdout
    for flag in ("--config", "--workdir", "--[no]list", "--[no]show"):
        assert flag in done.stdout


def test_show_prints_the_config_with_its_overrides():
    done = _run("launch/tpu_run.py", "--config=dpo_aif:mini", "--config.align.beta=7", "--show")
    assert done.returncode == 0
    assert "align.beta = 7.0 " in done.stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config=dpo_aiff:mini", "--workdir=x"], "did you mean dpo_aif"),
        (["--config=dpo_aif:mini", "--config.aling.beta=3"], "did you mean align.beta"),
        (["--config=dpo_aif:mini"], "--workdir=FOLDER is missing"),
        (["--workdir=x"], "--config=NAME[:SCALE] is missing"),
        (["--config=dpo_aif:mini", "--wrokdir=x"], "workdir"),
        (["--config=dpo_aif:mini", "stray"], "not understood: stray"),
    ],
)
def test_mistakes_are_answered_in_words(argv, message):
    done = _run("launch/tpu_run.py", *argv)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_compare_wants_configs():
    done = _run("launch/compare.py", "--workdir=x")
    assert done.returncode != 0
    assert "--configs=NAME,NAME,... is missing" in done.stdout + done.stderr
