"""Bytes that a compiled program reads from a device's memory and writes to it."""

import functools

from vidpref.planning.hlo import Instruction, Program

# What moves nothing by itself; an asynchronous pair is counted where it ends.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("while", "call", "conditional", "partition-id", "replica-id", "domain", "opt-barrier"),
    *("iota", "add-dependency"),
}
_SLICES = {"dynamic-slice", "slice", "gather"}


def memory_traffic(program: Program) -> float:
    """Returns the bytes of one call on one device.

    An instruction, or a fusion of many, reads what it is given and writes what it gives, as far as
    that lies in the device's memory. Of what is only sliced the slices count, and of what is only
    updated the update: a scan over layers reads a layer's parameters at each turn.
    """
    inside = functools.cache(functools.partial(_fused, program))
    total = 0.0
    for instruction, computation, times in program.executed():
        kind = instruction.opcode
        if kind in _FREE or kind.endswith("-start") or '"AllocateBuffer"' in instruction.rest:
            continue
        known = program.computations[computation]
        operands = [known[name] for name in instruction.operands if name in known]
        if kind.endswith("-done"):
            total += times * (_size(instruction) + _fetched(instruction, operands, known))
        elif kind == "fusion":
            reads, writes = inside(instruction.called("calls")[0])
            total += times * sum(
                _size(one) if part is None else part
                for one, part in zip(operands, reads, strict=False)
            )
            total += times * (_size(instruction) if writes is None else writes)
        elif kind in _SLICES:
            total += times * 2 * _size(instruction)
        elif kind == "dynamic-update-slice":
            total += times * 2 * _size(operands[1])
        else:
            total += times * (_size(instruction) + sum(map(_size, operands)))
    return total


def _fetched(
    done: Instruction, operands: list[Instruction], known: dict[str, Instruction]
) -> float:
    """Bytes that were read for what an asynchronous operation gave."""
    sources = [known[name] for start in operands for name in start.operands if name in known]
    from_hbm = any(array.in_hbm for source in sources for array in source.arrays)
    return sum((array.bytes for array in done.arrays), 0.0) if from_hbm else 0.0


def _size(instruction: Instruction) -> float:
    return sum((array.bytes for array in instruction.arrays if array.in_hbm), 0.0)


def _fused(program: Program, name: str) -> tuple[list[float | None], float | None]:
    """(bytes read of each operand, bytes written) of a fusion; None: the whole array."""
    instructions = program.computations[name]
    used: dict[str, list[Instruction]] = {}
    for instruction in instructions.values():
        for operand in instruction.operands:
            used.setdefault(operand, []).append(instruction)

    def users(one: str) -> list[Instruction]:
        found = []
        for user in used.get(one, []):
            found += users(user.name) if user.opcode == "bitcast" else [user]
        return found

    def read(parameter: Instruction) -> float | None:
        parts = 0.0
        for user in users(parameter.name):
            cut = user.opcode in _SLICES and _is_target(user, parameter.name)
            if cut:
                parts += sum(array.bytes for array in user.arrays)
            elif not (user.opcode == "dynamic-update-slice" and _is_target(user, parameter.name)):
                return None
        return parts if parameter.arrays and parameter.arrays[0].in_hbm else 0.0

    def _is_target(user: Instruction, source: str) -> bool:
        first = user.operands[0]
        while instructions[first].opcode == "bitcast":
            first = instructions[first].operands[0]
        return first == source

    parameters = [one for one in instructions.values() if one.opcode == "parameter"]
    parameters.sort(key=lambda one: int(one.rest.split(")")[0]))
    last = list(instructions.values())[-1]
    while last.opcode == "bitcast":
        last = instructions[last.operands[0]]
    written = None
    if last.opcode == "dynamic-update-slice":
        written = sum(array.bytes for array in instructions[last.operands[1]].arrays)
    return [read(one) for one in parameters], written
