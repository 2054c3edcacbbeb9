"""Slices of TPUs as Kubernetes knows them: which there are, and how many hosts each has.

The kinds and shapes are those of "Plan TPUs in GKE" (Google Cloud's documentation) and of xpk's
table of systems; every host of a slice has four chips, and that of a single chip one.
"""

import dataclasses
import math
import re

_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SMALL_CUBES = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))


@dataclasses.dataclass(frozen=True)
class Slice:
    """A slice.

    Attributes:
        machine: type of the hosts.
        accelerator: value of the node label cloud.google.com/gke-tpu-accelerator.
        shape: chips along each axis, such as 4x8; value of cloud.google.com/gke-tpu-topology.
        hosts: number of its hosts.
        chips: chips of each host.
    """

    machine: str
    accelerator: str
    shape: str
    hosts: int
    chips: int


@dataclasses.dataclass(frozen=True)
class _Kind:
    machine: str
    accelerator: str
    shapes: tuple[str, ...] = ()  # none: cubes
    alone: tuple[str, str] = ("", "")  # machine, accelerator of slices of one host, if they differ
    ordered: bool = True  # whether the axes of a cube must not shrink


_KINDS = {
    "v3": _Kind(
        "ct3p-hightpu-4t",
        "tpu-v3-slice",
        ("2x2", *_FLAT[2:], "16x32", "32x32"),
        alone=("ct3-hightpu-4t", "tpu-v3-device"),
    ),
    "v4": _Kind("ct4p-hightpu-4t", "tpu-v4-podslice", ordered=False),
    "v5e": _Kind("ct5lp-hightpu-4t", "tpu-v5-lite-podslice", ("1x1", *_FLAT)),
    "v5p": _Kind("ct5p-hightpu-4t", "tpu-v5p-slice"),
    "v6e": _Kind("ct6e-standard-4t", "tpu-v6e-slice", ("1x1", *_FLAT)),
    "tpu7x": _Kind("tpu7x-standard-4t", "tpu7x"),
}


def parse_slice(topology: str) -> Slice:
    """Returns the slice that a name such as v5e:4x8 or v5e-4x8 means.

    Raises:
        ValueError: no such slice; the message begins with the name.
    """
    match = re.fullmatch(r"(\w+)[:-](\d+(?:x\d+)*)", topology)
    if match is None:
        raise ValueError(f"{topology}: write KIND:SHAPE in chips, such as v5e:4x8 or v5p:4x4x4.")
    name, shape = match.groups()
    if name not in _KINDS:
        raise ValueError(f"{topology}: GKE has {', '.join(_KINDS)}.")
    kind, sizes = _KINDS[name], tuple(map(int, shape.split("x")))
    if kind.shapes and shape not in kind.shapes:
        raise ValueError(f"{topology}: {name} has {', '.join(kind.shapes)}.")
    if not kind.shapes and not _is_cube(sizes, kind.ordered):
        raise ValueError(
            f"{topology}: {name} has 2x2x1, 2x2x2, 2x2x4, 2x4x4, and three multiples of 4"
            f"{', none less than the one before' if kind.ordered else ''}, such as 4x4x8."
        )
    count = math.prod(sizes)
    chips = min(4, count)
    hosts = count // chips
    machine, accelerator = kind.machine, kind.accelerator
    if hosts == 1 and kind.alone[0]:
        machine, accelerator = kind.alone
    return Slice(machine.replace("-4t", f"-{chips}t"), accelerator, shape, hosts, chips)


def _is_cube(sizes: tuple[int, ...], ordered: bool) -> bool:
    if sizes in _SMALL_CUBES:
        return True
    whole = len(sizes) == 3 and all(size > 0 and size % 4 == 0 for size in sizes)
    return whole and not (ordered and list(sizes) != sorted(sizes))
