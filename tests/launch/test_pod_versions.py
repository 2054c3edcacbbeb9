"""The versions that images and TPU VMs get are those that setup.py asks for."""

import re
import runpy
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def pinned():
    text = (ROOT / "launch" / "pods" / "constraints.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), lines
    return {canonical(m[1]): Version(m[2]) for m in matches}


@pytest.fixture(scope="module")
def wanted():
    with pytest.MonkeyPatch.context() as patch:
        found = {}
        patch.setattr(setuptools, "setup", found.update)
        runpy.run_path(str(ROOT / "setup.py"))
    texts = [*found["install_requires"], *found["extras_require"]["tpu"]]
    return list(map(Requirement, texts))


def test_every_package_of_setup_is_pinned_within_its_range(pinned, wanted):
    assert len(wanted) > 20
    for need in wanted:
        version = pinned.get(canonical(need.name))
        assert version is not None, f"constraints.txt lacks {need.name}"
        assert version in need.specifier, f"constraints.txt: {need.name}=={version}, {need}"


def test_jax_has_its_compiler_and_its_tpu(pinned):
    assert pinned["jax"] == pinned["jaxlib"]
    assert "libtpu" in pinned
