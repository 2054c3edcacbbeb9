"""The rules of the house that a reader of the source can check: who imports whom, and names."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The floors of the house, the lowest first. A room imports from rooms of lower floors, and from
# those of its own floor that `SAME_FLOOR` names; files outside the rooms lie on the lowest floor.
FLOORS = (
    (
        *("typing", "files", "digests", "seeds", "pixels", "downloads"),
        *("coordination", "storage"),
        *("text_files", "json_text", "csv_text", "config"),
    ),
    ("models", "diffusion", "objectives"),
    ("datasets", "language"),
    (
        *("training", "losses", "rewards", "interop", "evaluation", "generation", "annotation"),
        "video_metrics",
    ),
    ("stages",),
    ("runs",),
    ("planning",),
)
SAME_FLOOR = {
    "losses": {"training"},
    "rewards": {"training", "interop"},
    "generation": {"training", "losses", "interop"},
    "annotation": {"evaluation"},
    "video_metrics": {"training", "interop", "rewards", "evaluation"},
}
PROGRAMS = {
    "data": {"datasets"},
    "configs": {"config", "models"},
    "launch": {room for floor in FLOORS for room in floor},
    "benchmarks": {room for floor in FLOORS for room in floor},
}
SHAPELESS_NAMES = {"utils", "common", "helpers", "misc"}
ONLY_IN_TESTS = {"torch", "diffusers", "peft"}
# Parts of the file that PyTorch users get: they import torch, the standard library and each other.
EXPORTED = ROOT / "vidpref" / "interop" / "exported"


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


def may_import(room: str) -> set[str]:
    """The rooms that a room may import besides itself."""
    level = next(i for i, floor in enumerate(FLOORS) if room in floor)
    return {below for floor in FLOORS[:level] for below in floor} | SAME_FLOOR.get(room, set())


ROOMS = [room for floor in FLOORS for room in floor if (ROOT / "vidpref" / room).is_dir()]


def files() -> list[tuple[Path, str, set[str]]]:
    rooms = [(ROOT / "vidpref" / room, room, may_import(room)) for room in ROOMS]
    programs = [(ROOT / folder, folder, allowed) for folder, allowed in PROGRAMS.items()]
    return [
        (path, room, allowed)
        for folder, room, allowed in rooms + programs
        for path in sorted(folder.rglob("*.py"))
        if path.parent != EXPORTED
    ]


@pytest.mark.parametrize(
    ("path", "room", "allowed"), [pytest.param(*f, id=str(f[0].relative_to(ROOT))) for f in files()]
)
def test_imports_follow_the_plan(path, room, allowed):
    package = ".".join(path.relative_to(ROOT).parent.parts)
    found = breaches(path.read_text(), package, room, allowed)
    assert not found, f"{path.relative_to(ROOT)} ({room}) may not import {', '.join(found)}"


@pytest.mark.parametrize("path", sorted(EXPORTED.glob("*.py")), ids=lambda path: path.stem)
def test_exported_parts_need_torch_alone(path):
    source = path.read_text()
    found = {name.split(".")[0] for name in imported(source, "exported")}
    # Pillow is imported where a picture is read or written, and not before
    assert found <= {"torch", "exported", "PIL", *sys.stdlib_module_names}
    assert "\nfrom PIL" not in source
    assert "\nimport PIL" not in source


def test_every_room_has_a_rule():
    rooms = {path.parent.name for path in (ROOT / "vidpref").glob("*/__init__.py")}
    assert rooms == set(ROOMS), "give every room its floor in FLOORS"
    loose = {path.stem for path in (ROOT / "vidpref").glob("*.py")} - {"__init__"}
    assert loose <= set(FLOORS[0]), "a file outside the rooms belongs to the lowest floor"


def test_rooms_of_one_floor_make_no_circle():
    order = []
    while left := set(SAME_FLOOR) - set(order):
        free = [room for room in left if not SAME_FLOOR[room] & left]
        assert free, f"these import each other: {left}"
        order += free


def test_files_are_named_for_what_they_hold():
    folders = ["vidpref", "tests", *PROGRAMS]
    paths = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in ("", ".py")]
    nameless = [str(p.relative_to(ROOT)) for p in paths if p.stem in SHAPELESS_NAMES]
    assert not nameless, f"name these for what they hold: {nameless}"


@pytest.mark.parametrize(
    ("source", "room", "found"),
    [
        ("import vidpref.models.dit", "diffusion", ["vidpref.models.dit"]),
        ("from vidpref.rewards import chat", "training", ["vidpref.rewards.chat"]),
        ("from vidpref import runs", "training", ["vidpref.runs"]),
        ("from ..models.dit import DiT", "objectives", ["vidpref.models.dit.DiT"]),
        ("from .ddpm import DDPM\nfrom . import process", "diffusion", []),
        ("def f():\n    import torch.nn", "models", ["torch.nn"]),
        ("from launch import tpu_run", "stages", ["launch.tpu_run"]),
        ("from vidpref.typing import Array\nimport jax, vidpref", "models", []),
        ("import vidpref.stages.align", "evaluation", ["vidpref.stages.align"]),
    ],
)
def test_the_check_itself_finds_breaches(source, room, found):
    assert breaches(source, f"vidpref.{room}", room, may_import(room)) == found
