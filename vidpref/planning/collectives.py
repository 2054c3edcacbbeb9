"""What a compiled program sends between devices: kinds, bytes, and along which axes of the mesh."""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from vidpref.planning.hlo import Instruction, Program

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "ragged-all-to-all",
    "collective-broadcast",
)
_CHAIN = re.compile(r'chain_id="(\d+)"')
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\]([^{]*)\{([^}]*)\}")
_PART = re.compile(r"'(\w+)'(?::\((\d+)\)(\d+))?")
_PAIRS = re.compile(r"source_target_pairs=\{\{([\d,{}]*)\}\}")
_BETWEEN_SLICES = re.compile(r'_xla_megascale_transfer_type="(\w+)"')

SLICES = "slices"


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of a program of one kind, along the same axes.

    Attributes:
        kind: one of `KINDS`.
        axes: axes of the mesh, such as "fsdp" or "data+fsdp"; `SLICES` of what goes over the
            data-centre network between slices.
        group: devices that take part together; slices, of those.
        calls: how often one runs.
        bytes: of the whole arrays, a device and a call of the program: what a gathering gives, what
            is summed, what is exchanged. Between slices, what a device hands over.
    """

    kind: str
    axes: str
    group: int
    calls: int | float
    bytes: int | float


def collectives(program: Program, mesh: Mapping[str, int], slices: int = 1) -> list[Collective]:
    """Returns what a program sends, the most bytes first.

    Of several slices the compiler makes two steps: a collective in each slice, whose groups count
    the devices of one, and an exchange between hosts.

    Args:
        program: compiled for the devices of a mesh.
        mesh: size of each of its axes, in their order; slices lie along the first.
        slices: number of slices.
    """
    first, *rest = mesh
    inside = {first: mesh[first] // slices, **{axis: mesh[axis] for axis in rest}}
    calls: dict[tuple, float] = defaultdict(float)
    sizes: dict[tuple, float] = defaultdict(float)
    for computation, times in program.runs:
        for instruction in _once(program, computation):
            kind = _kind(instruction)
            if instruction.opcode == "send":
                key, size = (kind, SLICES, slices), instruction.arrays[0].bytes
            else:
                devices = _group(instruction, math.prod(inside.values()))
                if len(devices) < 2:
                    continue
                key = kind, _axes(devices, inside), len(devices)
                size = _bytes(instruction, kind, len(devices))
            calls[key] += times
            sizes[key] += times * size
    found = [Collective(*key, calls[key], sizes[key]) for key in calls]
    return sorted(found, key=lambda one: -one.bytes)


def seconds(collective: Collective, link: float, dcn: float = 0.0) -> float:
    """Returns the time that collectives take on a ring along one axis of the torus.

    The formulas are those of the scaling book, "Sharded Matrices and How to Multiply Them".

    Args:
        collective: what is sent.
        link: bytes a second of a link, one way; a device of a ring has two.
        dcn: bytes a second of a device's part of the network between slices.
    """
    n, size, both = collective.group, collective.bytes, 2 * link
    if collective.axes == SLICES:
        # a sum goes round as parts twice; anything else is handed to each other slice at most
        sent = 2 * (n - 1) / n if collective.kind == "all-reduce" else n - 1
        return size * sent / dcn
    ring = size * (n - 1) / n / both
    return {
        "all-gather": ring,
        "reduce-scatter": ring,
        "all-reduce": 2 * ring,
        "all-to-all": size * n / 4 / both,
        "ragged-all-to-all": size * n / 4 / both,
        "collective-permute": size / link,
        "collective-broadcast": ring,
    }[collective.kind]


def _kind(instruction: Instruction) -> str:
    """One of `KINDS`; "" of what sends nothing between devices."""
    if instruction.opcode == "send":
        between = _BETWEEN_SLICES.search(instruction.rest)
        return between[1].lower().replace("_", "-") if between else ""
    kind = instruction.opcode.removesuffix("-start")
    return kind if kind in KINDS else ""


def _once(program: Program, computation: str) -> Iterator[Instruction]:
    """The collectives of a computation. The TPU's compiler spreads one over several fusions, to be
    done beside what else they do; all of these name one chain.
    """
    seen: set[str] = set()
    for instruction, _ in program.instructions(computation, fused=True):
        if not _kind(instruction):
            continue
        chain = _CHAIN.search(instruction.rest)
        if chain is None or chain[1] not in seen:
            yield instruction
        if chain:
            seen.add(chain[1])


def _bytes(instruction: Instruction, kind: str, group: int) -> float:
    arrays = instruction.arrays
    if instruction.opcode.endswith("-start") and len(arrays) > 1 and kind != "all-reduce":
        # (operands, results, and of a permute two counters)
        real = [array for array in arrays if array.shape]
        arrays = tuple(real[len(real) // 2 :])
    size = sum((array.bytes for array in arrays), 0.0)
    return size * group if kind == "reduce-scatter" else size


def _group(instruction: Instruction, devices: int) -> list[int]:
    """The devices of the first group, by their place in the mesh."""
    text = instruction.rest
    if listed := _LISTED.search(text):
        return [int(n) for n in listed[1].split(",") if n]
    if by_axes := _MESH.search(text):
        return _along(*by_axes.groups())
    if iota := _IOTA.search(text):
        groups, sizes = (tuple(map(int, part.split(","))) for part in iota.group(1, 2))
        grid = np.arange(np.prod(sizes)).reshape(sizes)
        if iota[3]:
            grid = grid.transpose(tuple(map(int, iota[3].split(","))))
        return grid.reshape(groups)[0].tolist()
    if pairs := _PAIRS.search(text):
        return _ring([tuple(map(int, pair.split(","))) for pair in pairs[1].split("},{")])
    if "replica_groups={}" not in text and "replica_groups" in text:
        raise ValueError(f"not understood: {text[text.index('replica_groups') :][:80]}")
    return list(range(devices))  # no groups: all together


def _along(axes: str, order: str, names: str) -> list[int]:
    """The first group of axes that XLA names itself; 'a':(2)4 is a part of one, after 2."""
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", axes)}
    ids = np.arange(int(np.prod(list(sizes.values()))))
    if iota := re.search(r"\[[\d,]+\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", order):
        ids = ids.reshape(tuple(map(int, iota[1].split(","))))
        ids = ids.transpose(tuple(map(int, iota[2].split(",")))) if iota[2] else ids
    grid = ids.reshape(tuple(sizes.values()))
    for axis, (name, size) in enumerate(sizes.items()):
        parts = [part for part in _PART.findall(names) if part[0] == name]
        if not parts:
            grid = grid.take([0], axis=axis)
        for _, before, wide in parts:
            if wide:
                step = size // (int(before) * int(wide))
                grid = grid.take(np.arange(int(wide)) * step, axis=axis)
    return grid.reshape(-1).tolist()


def _ring(pairs: list[tuple[int, ...]]) -> list[int]:
    """The devices that what the first one sends goes on to."""
    follows = dict(pairs)
    ring, at = [], pairs[0][0]
    while at not in ring:
        ring.append(at)
        at = follows.get(at, at)
    return ring


def _axes(devices: list[int], mesh: Mapping[str, int]) -> str:
    places = np.array(np.unravel_index(devices, tuple(mesh.values())))
    varied = [axis for axis, place in zip(mesh, places, strict=True) if len(set(place)) > 1]
    return "+".join(varied)
