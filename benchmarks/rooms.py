"""How the rooms of the house hang together: files, lines, floors and arrows, by their imports.

    python benchmarks/rooms.py              # of this checkout
    python benchmarks/rooms.py --root=DIR   # of another one, to compare

A file's floor is one above the highest file that it imports; a room's floors are those of its files
among themselves, its arrows the imports between them.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import app, flags

_ROOT = flags.DEFINE_string("root", ".", "Folder of the checkout.")


def main(argv: Sequence[str]) -> None:
    del argv
    root = Path(_ROOT.value) / "vidpref"
    files = {_module(path, root): path for path in sorted(root.rglob("*.py"))}
    arrows = {module: set(_imports(path, files)) - {module} for module, path in files.items()}
    rooms = sorted({_room(module, root) for module in files})
    print(f"{'room':<22} files  lines  floors  arrows inside")
    for room in rooms:
        inside = [module for module in files if _room(module, root) == room]
        own = {module: arrows[module] & {*inside} for module in inside}
        lines = sum(len(files[module].read_text().splitlines()) for module in inside)
        count = sum(map(len, own.values()))
        print(f"{room:<22} {len(inside):>5} {lines:>6} {_floors(own):>7} {count:>14}")
    between = {(_room(a, root), _room(b, root)) for a, targets in arrows.items() for b in targets}
    pairs = {(a, b) for a, b in between if a != b}
    total = sum(len(path.read_text().splitlines()) for path in files.values())
    print(
        f"{len(files)} files, {total} lines, {len(rooms)} rooms, {len(pairs)} arrows between rooms"
    )
    longest = max(files, key=lambda module: len(files[module].read_text().splitlines()))
    print(f"longest file: {longest}, {len(files[longest].read_text().splitlines())} lines")
    circles = [(a, b) for a, b in pairs if (b, a) in pairs]
    print(f"rooms that import each other: {circles or 'none'}")


def _module(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root.parent).with_suffix("").parts)


def _room(module: str, root: Path) -> str:
    parts = module.split(".")
    room = parts[1] if len(parts) > 1 else ""
    return room if (root / room).is_dir() and room != "__init__" else "(ground)"


def _imports(path: Path, files: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield from (found for found in (name, node.module) if found in files)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)


def _floors(arrows: dict[str, set[str]]) -> int:
    def floor(module: str) -> int:
        return 1 + max(map(floor, arrows[module]), default=0)

    return max(map(floor, arrows), default=0)


if __name__ == "__main__":
    app.run(main)
