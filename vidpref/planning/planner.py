"""The plan of a run on a topology, and the topologies that a run fits on."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from vidpref.config.by_name import ConfigError
from vidpref.generation.adopt import load_config
from vidpref.planning.calls import calls
from vidpref.planning.chips import CARDS, CHIPS, GIB, Chip
from vidpref.planning.compiling import Request, compile_programs
from vidpref.planning.program_plan import ProgramPlan
from vidpref.planning.run_plan import RunPlan
from vidpref.planning.topologies import NoTopology, parse_topology, usual
from vidpref.stages.judge_programs import is_judge

Say = Callable[[str], None]


def plan_run(
    request: Request, *, prompts: int | None = None, price: float | None = None, say: Say
) -> RunPlan:
    """Returns the plan of a run on the request's topology.

    Args:
        request: what is compiled.
        prompts: see `calls`.
        price: of a chip and hour.
        say: is told what is compiled.

    Raises:
        NoTopology: there is none of this name.
        ConfigError: a config that cannot be, there.
    """
    topology = parse_topology(request.topology)
    config = load_config(request.config, request.overrides)
    programs = list(compile_programs(request, say))
    meshes = [program.mesh for program in programs if program.mesh]
    shards = meshes[0]["data"] * meshes[0]["fsdp"] if meshes else 1
    hosts = max((topology.devices // p.devices for p in programs if p.mesh), default=1)
    found = calls(config, prompts, shards, hosts)
    if is_judge(config):
        found.pop("score", None)  # how many clips are held out is in the data
    return RunPlan(
        config=request.config,
        overrides=request.overrides,
        topology=topology,
        programs=programs,
        calls={program.name: found[program.name] for program in programs if program.name in found},
        price=price,
    )


def plan_each(
    request: Request, names: Sequence[str], *, prompts: int | None, price: float | None, say: Say
) -> list[RunPlan]:
    """Returns the plans on several topologies; arguments as `plan_run`."""
    return [
        plan_run(dataclasses.replace(request, topology=name), prompts=prompts, price=price, say=say)
        for name in names
    ]


def fitting(request: Request, *, say: Say) -> Iterator[str]:
    """Yields, a line a chip or card, the fewest of them on which every program fits.

    Args:
        request: its topology does not count.
        say: is told what is compiled.
    """
    for chip in (*CHIPS.values(), *CARDS.values()):
        yield _smallest(request, chip, say)


def _smallest(request: Request, chip: Chip, say: Say) -> str:
    why = "no usual slice has room for it"
    for topology in usual(chip):
        here = dataclasses.replace(request, topology=topology.name)
        programs: list[ProgramPlan] = []
        try:
            for program in compile_programs(here, say):  # the training step is the first
                programs.append(program)
                if not program.fits:
                    break
        except NoTopology as error:  # its compiler is not installed
            return f"{chip.name}: not known ({str(error).splitlines()[0]})"
        except ConfigError as error:  # a mesh or batch that this slice does not divide
            why = str(error).splitlines()[0]
            continue
        last = programs[-1]
        if last.fits:
            most = max(programs, key=lambda program: program.memory.peak)
            return (
                f"{chip.name}: fits on {topology.name}; {most.name} holds the most, "
                f"{most.memory.peak / GIB:.2f} of {most.memory.limit / GIB:.2f} GiB"
            )
        why = last.refused or f"{last.name} does not fit"
    return f"{chip.name}: no ({why})"
