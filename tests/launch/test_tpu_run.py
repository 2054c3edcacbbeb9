"""The launch programs as a user types them."""

import fnmatch
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidpref.runs import command_line

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


# Runs a launch program as if neither jax nor flax were installed.
_WITHOUT_JAX = """
import runpy, sys
sys.modules.update({"jax": None, "flax": None})
sys.path.insert(0, "launch")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("program", ["tpu_run", "compare", "sample", "export_torch"])
def test_help_needs_no_jax(program):
    done = _run("-c", _WITHOUT_JAX, f"launch/{program}.py", "--help")
    assert f"launch/{program}.py" in done.stdout


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--list"], "flow_dpo:{mini|paper|"),
        (["--config=dpo_aif:mini", "--show"], "align.beta = 5000.0 "),
        (["--config=dpo_aif:mini", "--describe"], "model.unet3d.features"),
        (["--config=flow_dpo:wan2_1_14b", "--describe=align.lora"], "align.lora.targets"),
        (["--config=dpo_aif:mini", "--describe=align.beta"], "Strength of the pull"),
    ],
)
def test_questions_about_configs_are_answered_without_jax(argv, shown):
    done = _run("-c", _WITHOUT_JAX, "launch/tpu_run.py", *argv)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_describe_says_default_range_effect_and_where_a_field_counts():
    done = _run("launch/tpu_run.py", "--config=dpo_aif:mini", "--describe=align")
    entry = done.stdout[done.stdout.index("align.beta = 5000.0") :].split("\nalign.")[0]
    assert "> 0; changes results; counts where align.method is flow_rwr or dpo" in " ".join(
        entry.split()
    )
    done = _run("launch/tpu_run.py", "--config=dpo_aif:mini", "--describe=align.lorra")
    assert done.returncode != 0
    assert "did you mean align.lora" in done.stderr


def test_a_run_can_be_asked_what_it_would_do(tmp_path):
    argv = ["--config=dpo_aif:mini", f"--workdir={tmp_path}", "--dry_run"]
    done = _run("launch/tpu_run.py", *argv)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    assert lines[0].endswith("runs  never done here")
    assert not list(tmp_path.glob("data-*"))
    done = _run("launch/tpu_run.py", f"--workdir={tmp_path}", "--prune")
    assert done.returncode == 1
    assert "no run is finished here" in done.stderr


@pytest.mark.parametrize(
    ("devices", "installed", "platforms"),
    [
        ([], [], ""),
        ([], ["libtpu"], "cpu"),
        (["/dev/accel0"], ["libtpu"], ""),
        (["/dev/vfio/0"], ["libtpu"], ""),
        (["/dev/nvidia0"], ["libtpu"], "cpu"),
        (["/dev/nvidia0"], ["libtpu", "jax_cuda13_plugin"], "cuda,cpu"),
    ],
)
def test_libtpu_looks_for_no_tpu_where_none_is(devices, installed, platforms, monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    there = lambda pattern: fnmatch.filter(devices, pattern)  # noqa: E731
    monkeypatch.setattr(command_line.glob, "glob", there)
    find = lambda name: name if name in installed else None  # noqa: E731
    monkeypatch.setattr(command_line.importlib.util, "find_spec", find)
    assert command_line._platforms_without_tpu() == platforms


@pytest.mark.parametrize(
    ("devices", "wanted", "only_cpus"),
    [
        ([], "", True),
        (["/dev/accel0"], "", False),
        (["/dev/nvidia0"], "", False),
        (["/dev/nvidia0"], "cpu", True),
        ([], "tpu", False),
    ],
)
def test_freed_memory_is_kept_where_only_cpus_compute(devices, wanted, only_cpus, monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", wanted)
    there = lambda pattern: fnmatch.filter(devices, pattern)  # noqa: E731
    monkeypatch.setattr(command_line.glob, "glob", there)
    assert command_line._only_cpus() == only_cpus


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
