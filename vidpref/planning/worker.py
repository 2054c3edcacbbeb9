"""The process that compiles: `python -m vidpref.planning.worker REQUEST`, a line of JSON a program.

A compiler may end its process, and each wants an environment of its own before jax is imported;
`compiling.py` starts this one and reads what it prints.
"""

import dataclasses
import hashlib
import json
import math
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from vidpref.generation.adopt import load_config
from vidpref.planning.chips import Card
from vidpref.planning.collectives import collectives
from vidpref.planning.compiling import MARK
from vidpref.planning.flops import count_flops
from vidpref.planning.hlo import parse
from vidpref.planning.hlo_flops import hlo_flops
from vidpref.planning.program_plan import Memory, ProgramPlan, from_dict
from vidpref.planning.topologies import NoTopology, Topology, parse_topology
from vidpref.planning.traffic import memory_traffic
from vidpref.stages.programs import Program, programs
from vidpref.training.sharding import make_mesh
from vidpref.training.state import TrainState
from vidpref.typing import PyTree

_SIZE = r"([\d.]+)([KMGT]?)i?B?"
_TOO_MUCH = (
    re.compile(rf"\({_SIZE}\) exceeds available HBM"),
    re.compile(rf"Used {_SIZE} of [\d.]+[KMGT]?i?B? hbm"),  # there are other memories, such as vmem
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_STATE = {
    "params": "trained",
    "opt_state": "optimizer",
    "ema": "average",
    "reference": "reference",
}


def main(request: str) -> None:
    """Prints what is known of each program that is asked for.

    Args:
        request: JSON with the fields of `Request`.
    """
    asked = json.loads(request)
    done = json.loads(Path(asked["known"]).read_text()) if asked["known"] else {}
    topology = parse_topology(asked["topology"])
    try:
        config = load_config(asked["config"], asked["overrides"])
        mesh = make_mesh(config.mesh.to_dict(), topology.describe())
        known = programs(config, mesh)
    except NoTopology as error:
        _say({"no_topology": str(error)})
        return
    except ValueError as error:
        _say({"refused": str(error)})
        return
    _say({"programs": list(known)})
    for name in asked["programs"] or known:
        if name in known:
            _say({"started": name})
            found = plan(name, known[name], topology, asked["effort"], done)
            _say({"program": found.to_dict()})


def plan(
    name: str,
    make: Callable[[], Program],
    topology: Topology,
    effort: float,
    done: Mapping[str, dict[str, Any]] = MappingProxyType({}),
) -> ProgramPlan:
    """Traces and compiles a program.

    Args:
        name: its name.
        make: returns it.
        topology: what it is compiled for.
        effort: of the TPU's compiler, -1 to 1; a run has 0.
        done: plans of others as JSON by their digests; the same program is not compiled again.
    """
    started, cpu = time.monotonic(), time.process_time()
    try:
        program = make()
        traced = program.trace()
        lowered = traced.lower()
    except ValueError as error:  # settings that do not go together
        return ProgramPlan(name=name, refused=str(error))
    given = f"{topology.name} {effort} {lowered.as_text()}"
    digest = hashlib.sha256(given.encode()).hexdigest()
    if digest in done:
        return dataclasses.replace(from_dict(done[digest]), name=name)
    mesh = jax.tree.leaves(program.arguments)[0].sharding.mesh
    parts = parts_of(program.arguments)
    found = ProgramPlan(
        name=name,
        parameters=_parameters(program.arguments),
        mesh=dict(mesh.shape),
        flops=count_flops(traced),
        trace_seconds=time.monotonic() - started,
        digest=digest,
    )
    limit, options = topology.chip.limit, None
    if effort and not isinstance(topology.chip, Card):
        options = {"exec_time_optimization_effort": effort}
    started = time.monotonic()
    try:
        compiled = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        needed = needed_bytes(str(error))
        if needed is None:
            return dataclasses.replace(found, refused=str(error).strip().splitlines()[0])
        memory = Memory(peak=needed, limit=limit, parts=parts)
        return _with_costs(dataclasses.replace(found, memory=memory), started, cpu)
    found = dataclasses.replace(found, memory=_memory(compiled, limit, parts))
    try:
        text = parse(compiled.as_text())
    except jax.errors.JaxRuntimeError as error:  # jaxlib reads what a compiler of its own wrote
        unread = str(error).strip().splitlines()[0]
        return _with_costs(dataclasses.replace(found, unread=unread), started, cpu)
    found = dataclasses.replace(
        found,
        # a card's matrix products are custom calls of its libraries
        hlo_flops=None if isinstance(topology.chip, Card) else hlo_flops(text),
        traffic=memory_traffic(text),
        collectives=tuple(collectives(text, found.mesh, topology.slices)),
    )
    return _with_costs(found, started, cpu)


def _with_costs(found: ProgramPlan, started: float, cpu: float) -> ProgramPlan:
    return dataclasses.replace(
        found,
        compile_seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - cpu,
        host_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0,
    )


def _memory(compiled: jax.stages.Compiled, limit: float, parts: dict[str, float]) -> Memory:
    found = compiled.memory_analysis()
    peak, on_host = float(found.peak_memory_in_bytes), float(found.host_temp_size_in_bytes)
    if on_host:  # then XLA's figure for the peak takes the larger of both memories
        peak = float(found.argument_size_in_bytes + found.temp_size_in_bytes)
    return Memory(peak=peak, limit=limit, parts=parts, on_host=on_host)


def needed_bytes(message: str) -> float | None:
    """Bytes that a program needs, of the compiler's refusal; None where that is another."""
    for pattern in _TOO_MUCH:
        if "RESOURCE_EXHAUSTED" in message and (match := pattern.search(message)):
            return float(match[1]) * _UNITS[match[2]]
    return None


def parts_of(arguments: Mapping[str, PyTree]) -> dict[str, float]:
    """Returns {what: bytes} that a program's arguments take on one device.

    Args:
        arguments: trees of `jax.ShapeDtypeStruct`s with shardings, by name.
    """
    found: Counter[str] = Counter()
    for name, tree in arguments.items():
        parts = {name: tree}
        if isinstance(tree, TrainState):
            parts = {_STATE[part]: getattr(tree, part) for part in _STATE}
        elif name == "frozen":
            parts = {part: tree[part] for part in tree}
        for part, leaves in parts.items():
            found[part] += sum(map(_bytes_on_a_device, jax.tree.leaves(leaves)))
    return {part: float(size) for part, size in found.items() if size}


def _bytes_on_a_device(leaf: jax.ShapeDtypeStruct) -> int:
    sharding = getattr(leaf, "sharding", None)
    shape = sharding.shard_shape(leaf.shape) if sharding else leaf.shape
    return math.prod(shape) * leaf.dtype.itemsize


def _parameters(arguments: Mapping[str, PyTree]) -> int:
    """Parameters of the network: those that are trained, and those beside adapters."""
    if "state" not in arguments:
        return _count(arguments["params"])
    return _count(arguments["state"].params) + _count(arguments["frozen"].get("base", {}))


def _count(tree: PyTree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _say(line: dict[str, Any]) -> None:
    print(MARK + json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
