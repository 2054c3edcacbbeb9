"""Compiles the programs of a run in processes of their own; see `worker.py`."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from vidpref.config.by_name import PROJECT_ROOT, ConfigError
from vidpref.planning.program_plan import ProgramPlan, from_dict
from vidpref.planning.topologies import NoTopology, parse_topology

MARK = "planned "  # begins the lines that are meant for us; compilers print others


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be compiled.

    Attributes:
        config: NAME[:SCALE].
        topology: see `parse_topology`.
        overrides: of the config, `field=value`.
        programs: their names; none: all that the run has.
        effort: of the TPU's compiler for speed, -1 to 1; a run has 0.
        known: file of {digest: `ProgramPlan` as JSON}: what is in it is not compiled; "" for none.
    """

    config: str
    topology: str
    overrides: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    effort: float = -1.0
    known: str = ""


def compile_programs(
    request: Request, say: Callable[[str], None] = lambda line: None
) -> Iterator[ProgramPlan]:
    """Yields what is known of each program, as soon as it is.

    Args:
        request: what is compiled.
        say: is told which program is compiled.

    Raises:
        NoTopology: the compiler knows no such topology, or is not installed.
        ConfigError: a config that cannot be, on this topology; a program that the run has not.
        ChildProcessError: the process ended before it began to compile.
    """
    left: list[str] | None = None
    while left is None or left:
        started, last = "", ""
        for line in _lines(dataclasses.replace(request, programs=tuple(left or request.programs))):
            if not line.startswith(MARK):
                last = line.strip() or last
                continue
            message = json.loads(line.removeprefix(MARK))
            _raise(message)
            if "programs" in message and left is None:
                left = _chosen(request, message["programs"])
            if "started" in message:
                started = message["started"]
                say(f"{request.topology}: compiling {started}")
            if "program" in message:
                program = from_dict(message["program"])
                left.remove(program.name)
                yield program
        if left is None:
            raise ChildProcessError(f"the compiler's process ended: {last}")
        if left:  # a fault of the compiler ended its process; the others are compiled by another
            dead = started if started in left else left[0]
            left.remove(dead)
            yield ProgramPlan(name=dead, refused=f"the compiler's process ended: {last}")


def _chosen(request: Request, there: list[str]) -> list[str]:
    if strange := [name for name in request.programs if name not in there]:
        raise ConfigError(
            f"--programs={strange[0]}: a run of {request.config} has {', '.join(there)}"
        )
    return list(request.programs) or there


def _lines(request: Request) -> Iterator[str]:
    topology = parse_topology(request.topology)
    topology.check_compiler()
    environment = {**os.environ, **topology.environment}
    command = [sys.executable, "-m", "vidpref.planning.worker"]
    with subprocess.Popen(
        [*command, json.dumps(dataclasses.asdict(request))],
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            yield from process.stdout
        finally:
            process.kill()


def _raise(message: dict[str, Any]) -> None:
    if "no_topology" in message:
        raise NoTopology(message["no_topology"])
    if "refused" in message:
        raise ConfigError(message["refused"])
