"""The rules of the house that a reader of the source can check: who imports whom, and names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = {"models", "diffusion", "objectives"}
# Room: the rooms it may import besides itself; `vidpref.typing` is everybody's.
MAY_IMPORT = {
    "models": set(),
    "diffusion": set(),
    "objectives": set(),
    "datasets": set(),
    "interop": {"models", "diffusion"},
    "training": {"objectives", "diffusion"},
    "rewards": {"models", "datasets"},
    "evaluation": {"models", "datasets"},
    "stages": {"training", "rewards", "datasets", "evaluation", "interop"} | TOOLS,
}
PROGRAMS = {
    "data": {"datasets"},
    "configs": {"models"},
    "launch": {*MAY_IMPORT},
    "benchmarks": {*MAY_IMPORT},
}
SHAPELESS_NAMES = {"utils", "common", "helpers", "misc"}
ONLY_IN_TESTS = {"torch", "diffusers", "peft"}


def imported(source: str, package: str) -> Iterator[str]:
    """Yields the dotted name of every import, of names imported from packages too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def breaches(source: str, package: str, room: str, allowed: set[str]) -> list[str]:
    """Returns the imports that break the rules for a file of `room`."""
    found = []
    for name in imported(source, package):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if top == "vidpref" and target not in {*allowed, room, "typing", ""}:
            found.append(name)
        if package.startswith("vidpref") and top in {*ONLY_IN_TESTS, *PROGRAMS, "tests"}:
            found.append(name)
    return found


def files() -> list[tuple[Path, str, set[str]]]:
    rooms = [(ROOT / "vidpref" / room, room, allowed) for room, allowed in MAY_IMPORT.items()]
    programs = [(ROOT / folder, folder, allowed) for folder, allowed in PROGRAMS.items()]
    return [
        (path, room, allowed)
        for folder, room, allowed in rooms + programs
        for path in sorted(folder.rglob("*.py"))
    ]


@pytest.mark.parametrize(
    ("path", "room", "allowed"), [pytest.param(*f, id=str(f[0].relative_to(ROOT))) for f in files()]
)
def test_imports_follow_the_plan(path, room, allowed):
    package = ".".join(path.relative_to(ROOT).parent.parts)
    found = breaches(path.read_text(), package, room, allowed)
    assert not found, f"{path.relative_to(ROOT)} ({room}) may not import {', '.join(found)}"


def test_every_room_has_a_rule():
    rooms = {path.parent.name for path in (ROOT / "vidpref").glob("*/__init__.py")}
    assert rooms <= MAY_IMPORT.keys(), "add the new room to MAY_IMPORT"
    loose = {path.name for path in (ROOT / "vidpref").glob("*.py")}
    assert loose == {"__init__.py", "typing.py"}, "a file outside the rooms escapes the rules"


def test_files_are_named_for_what_they_hold():
    folders = ["vidpref", "tests", *PROGRAMS]
    paths = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in ("", ".py")]
    nameless = [str(p.relative_to(ROOT)) for p in paths if p.stem in SHAPELESS_NAMES]
    assert not nameless, f"name these for what they hold: {nameless}"


@pytest.mark.parametrize(
    ("source", "room", "found"),
    [
        ("import vidpref.models.dit", "diffusion", ["vidpref.models.dit"]),
        ("from vidpref.models import dit", "training", ["vidpref.models.dit"]),
        ("from vidpref import models", "training", ["vidpref.models"]),
        ("from ..models.dit import DiT", "objectives", ["vidpref.models.dit.DiT"]),
        ("from .ddpm import DDPM\nfrom . import process", "diffusion", []),
        ("def f():\n    import torch.nn", "models", ["torch.nn"]),
        ("from launch import tpu_run", "stages", ["launch.tpu_run"]),
        ("from vidpref.typing import Array\nimport jax, vidpref", "models", []),
        ("import vidpref.stages.align", "evaluation", ["vidpref.stages.align"]),
    ],
)
def test_the_check_itself_finds_breaches(source, room, found):
    assert breaches(source, f"vidpref.{room}", room, MAY_IMPORT[room]) == found
