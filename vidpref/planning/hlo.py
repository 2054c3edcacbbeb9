"""A compiled program's text, read: its instructions, what they hold, and how often each runs."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_BYTES = {"pred": 1, "bf16": 2, "c64": 8, "c128": 16, "token": 0, "opaque": 0}
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_OPCODE = re.compile(r"^([a-z][\w\-]*)\(")
_CALLED = re.compile(
    r"(calls|to_apply|body|condition|branch_computations)=(?:\{([^}]*)\}|%?([\w.\-]+))"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)"?\}')
_CONSTANT = re.compile(r"constant\((\d+)\)")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of the text.

    Attributes:
        dtype: as XLA writes it, such as bf16.
        shape: sizes.
        in_hbm: whether it lies in the device's memory, and not in a core's own or the host's.
    """

    dtype: str
    shape: tuple[int, ...]
    in_hbm: bool = True

    @property
    def bytes(self) -> float:
        """Size without padding."""
        return math.prod(self.shape) * _width(self.dtype)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of the text.

    Attributes:
        name: unique in its computation.
        arrays: what it gives; several where it gives a tuple.
        opcode: such as fusion.
        operands: names of what it is given, of the same computation.
        rest: its attributes, as text.
    """

    name: str
    arrays: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    rest: str

    def called(self, *kinds: str) -> list[str]:
        """Returns the computations that it names as `calls`, `body` and so on."""
        found = [m[2] or m[3] for m in _CALLED.finditer(self.rest) if m[1] in kinds]
        return [name.strip().lstrip("%") for names in found for name in names.split(",")]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        computations: {name: {name of an instruction: instruction}}.
        entry: name of the first computation.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str

    @functools.cached_property
    def runs(self) -> list[tuple[str, float]]:
        """(computation, how often it runs) of those that run by themselves, and not in a fusion.

        A loop whose turns the compiler did not count has one; of branches each runs.
        """
        return list(self._from(self.entry, 1.0))

    def executed(self, *, fused: bool = False) -> Iterator[tuple[Instruction, str, float]]:
        """Yields (instruction, its computation, how often it runs) of one call of the program.

        Args:
            fused: also what lies inside of fusions.
        """
        for computation, times in self.runs:
            for instruction, owner in self.instructions(computation, fused=fused):
                yield instruction, owner, times

    def instructions(self, name: str, *, fused: bool = False) -> Iterator[tuple[Instruction, str]]:
        """Yields (instruction, its computation) of a computation; arguments as `executed`."""
        for instruction in self.computations[name].values():
            yield instruction, name
            if fused and instruction.opcode in ("fusion", "async-start"):
                for called in instruction.called("calls"):
                    yield from self.instructions(called, fused=True)

    def _from(self, name: str, times: float) -> Iterator[tuple[str, float]]:
        yield name, times
        for instruction in self.computations[name].values():
            if instruction.opcode == "while":
                turns = times * self._trips(instruction)
                for body in instruction.called("body"):
                    yield from self._from(body, turns)
            elif instruction.opcode == "call":
                for called in instruction.called("to_apply"):
                    yield from self._from(called, times)
            elif instruction.opcode == "conditional":
                for called in instruction.called("branch_computations"):
                    yield from self._from(called, times)

    def _trips(self, loop: Instruction) -> int:
        if known := _TRIPS.search(loop.rest):
            return int(known[1])
        for condition in loop.called("condition"):
            constants = [
                int(match[1])
                for instruction in self.computations[condition].values()
                if (match := _CONSTANT.search(f"{instruction.opcode}({instruction.rest}"))
            ]
            if len(constants) == 1:  # a counter that is compared with it
                return constants[0]
        return 1


def parse(text: str) -> Program:
    """Returns a program from `compiled.as_text()`.

    Raises:
        ValueError: no program.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, name = "", ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name = head[2]
            computations[name] = {}
            entry = name if head[1] else entry
        elif name and (found := _LINE.match(line)):
            instruction = _instruction(found[1], found[2])
            computations[name][instruction.name] = instruction
    if not entry:
        raise ValueError("this is no text of a compiled program: it has no ENTRY")
    return Program(computations, entry)


def _instruction(name: str, text: str) -> Instruction:
    result, rest = _split(text)
    opcode = _OPCODE.match(rest)
    arguments = _parenthesised(rest[opcode.end() - 1 :]) if opcode else ""
    after = rest[opcode.end() + len(arguments) + 1 :] if opcode else rest
    operands = tuple(re.findall(r"%([\w.\-]+)", arguments))
    kind = opcode[1] if opcode else ""
    # what a constant or parameter has in parentheses is no operand
    rest = f"{arguments}){after}" if kind in ("constant", "parameter") else after
    return Instruction(name, _arrays(result), kind, operands, rest)


def _split(text: str) -> tuple[str, str]:
    """(type, what follows) of the right side of a line."""
    if text.startswith("("):
        inside = _parenthesised(text)
        return inside, text[len(inside) + 2 :].lstrip()
    kind, _, rest = text.partition(" ")
    return kind, rest


def _parenthesised(text: str) -> str:
    """What lies between the first parenthesis, where the text begins, and its partner."""
    depth = 0
    for found in re.finditer(r"[()]", text):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return text[1 : found.start()]
    return text[1:]


def _arrays(text: str) -> tuple[Array, ...]:
    return tuple(
        Array(
            match[1],
            tuple(int(size.lstrip("<=")) for size in match[2].split(",") if size),
            "S(" not in (match[3] or ""),
        )
        for match in _ARRAY.finditer(text)
    )


def _width(dtype: str) -> float:
    if dtype in _BYTES:
        return float(_BYTES[dtype])
    bits = re.match(r"[a-z]+(\d+)", dtype)
    return int(bits[1]) / 8 if bits else 0.0
