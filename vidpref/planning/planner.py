"""The plan of a run on a topology, and the topologies that a run fits on."""

import dataclasses
from collections.abc import Callable, Sequence

from vidpref.config.by_name import ConfigError
from vidpref.generation.adopt import load_config
from vidpref.planning.chips import CHIPS, GIB
from vidpref.planning.compiling import Request, compile_programs
from vidpref.planning.run_plan import RunPlan
from vidpref.planning.topologies import parse_topology, usual
from vidpref.planning.work import calls

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
    programs = compile_programs(request, say)
    found = calls(config, prompts)
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


def fitting(request: Request, *, say: Say) -> str:
    """Returns, a line a chip, the smallest usual slice on which every program fits.

    Args:
        request: its topology does not count.
        say: is told what is compiled.
    """
    return "\n".join(_smallest(request, name, say) for name in CHIPS)


def _smallest(request: Request, chip: str, say: Say) -> str:
    why = "no usual slice has room for it"
    for topology in usual(CHIPS[chip]):
        here = dataclasses.replace(request, topology=topology.name)
        try:
            # the training step needs the most, as a rule: others are asked when it fits
            first = compile_programs(dataclasses.replace(here, programs=("align",)), say)
            if not all(program.fits for program in first):
                refused = [program.refused for program in first if program.refused]
                why = refused[0] if refused else why
                continue
            programs = compile_programs(here, say)
        except ConfigError as error:  # a mesh or batch that this slice does not divide
            why = str(error).splitlines()[0]
            continue
        if all(program.fits for program in programs):
            most = max(programs, key=lambda program: program.memory.peak)
            return (
                f"{chip}: fits on {topology.name}; {most.name} holds the most, "
                f"{most.memory.peak / GIB:.2f} of {most.memory.limit / GIB:.2f} GiB"
            )
        why = f"{next(p.name for p in programs if not p.fits)} does not fit"
    return f"{chip}: no ({why})"
