"""The diffs of docs/extend.md: they apply to this tree, and what they bring works in it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = re.split(r"(?m)^## (.+)\n", (ROOT / "docs" / "extend.md").read_text())
SECTIONS = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))
# Section -> what its command must print.
SHOWN = {
    "An objective": ["align.method = 'slic'", "align.delta = 1.0"],
    "A generator network": ["model.name = 'divided_dit'", "model.divided_dit.width = 96"],
    "A reward": ["reward.name = 'smoothness'"],
    "A layout of preferences": ["data.layout = 'ranking'"],
}
# The suite's own makes pipelines of diffusers, for which these tests have no use.
CONFTEST = """from jaxtyping import install_import_hook

install_import_hook("vidpref", "beartype.beartype")
"""
SCHEMA_RULES = "module or registries or hyper_parameters or read_somewhere or code_reads or follow"


def blocks(section, language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", SECTIONS[section])


def copy_tree(to):
    for folder in ("configs", "data", "launch", "tests", "vidpref"):
        shutil.copytree(ROOT / folder, to / folder)
    shutil.copy(ROOT / "pyproject.toml", to)
    (to / "tests" / "conftest.py").write_text(CONFTEST)
    return to


def apply(section, tree):
    """Applies the diffs of a section, and returns the files of tests that they add."""
    diff = "".join(blocks(section, "diff"))
    subprocess.run(["git", "apply", "-"], cwd=tree, input=diff, text=True, check=True)
    return re.findall(r"(?m)^--- /dev/null\n\+\+\+ b/(tests/.*/test_.*\.py)$", diff)


def run(tree, *argv):
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, *argv], cwd=tree, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{shlex.join(argv)}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def run_tests(tree, *argv):
    return run(tree, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *argv)


def test_every_section_is_known():
    assert set(SECTIONS) == set(SHOWN)


@pytest.mark.parametrize("section", SHOWN)
def test_a_change_works(section, tmp_path):
    tree = copy_tree(tmp_path)
    tests = apply(section, tree)
    assert tests, "a change comes with a test of its own"
    run_tests(tree, *tests)
    lines = [line for block in blocks(section, "bash") for line in block.splitlines()]
    python, *argv = shlex.split(next(line for line in lines if line.endswith(" --show")))
    assert python == "python"
    shown = re.sub(r" +#.*", "", run(tree, *argv)).splitlines()
    assert set(SHOWN[section]) <= {line.strip() for line in shown}


def test_all_changes_together_keep_the_rules(tmp_path):
    tree = copy_tree(tmp_path)
    for section in SECTIONS:
        apply(section, tree)
    lint = "-m", "ruff", "check", "--no-cache"
    run(tree, *lint, "vidpref", "configs", "tests/objectives", "tests/rewards")
    run_tests(tree, "tests/config/test_schema.py", "tests/test_imports.py", "-k", SCHEMA_RULES)
