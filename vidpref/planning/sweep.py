"""How a run scales over topologies, as a table and a picture."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from vidpref.planning.chips import GIB
from vidpref.planning.run_plan import RunPlan
from vidpref.planning.table import columns


def sweep_text(plans: Sequence[RunPlan]) -> str:
    """Returns a line a topology and program: chips, peak memory, seconds of a call from and to."""
    rows = [["topology", "chips", "program", "peak GiB", "limit", "seconds", "MFU"]]
    for plan in plans:
        for program in plan.programs:
            time, memory = plan.time(program), program.memory
            rows.append(
                [
                    plan.topology.name,
                    str(plan.topology.chips),
                    program.name,
                    f"{memory.peak / GIB:.2f}" if memory else "refused",
                    f"{memory.limit / GIB:.2f}" if memory else "",
                    f"{time.least:.3g} to {time.most:.3g}" if time else "",
                    f"{plan.mfu(program):.0%}" if time else "",
                ]
            )
    return columns(rows)


def draw(plans: Sequence[RunPlan], path: Path) -> None:
    """Writes a picture: seconds of a call, from and to, and peak memory against chips, a program.

    A program has one colour, a kind of chip one style of line; what the compiler calls available is
    a grey line of that style. What does not fit has a peak and no time.

    Args:
        plans: of one config on several topologies.
        path: a file whose ending matplotlib knows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    times, memories = figure.subplots(1, 2)
    programs = list(dict.fromkeys(program.name for plan in plans for program in plan.programs))
    kinds = list(dict.fromkeys(plan.topology.chip.name for plan in plans))
    styles = dict(zip(kinds, itertools.cycle(("-", "--", ":", "-.")), strict=False))
    for kind, (number, name) in itertools.product(kinds, enumerate(programs)):
        points = [
            (plan.topology.chips, program.memory.peak / GIB, plan.time(program))
            for plan in sorted(plans, key=lambda plan: plan.topology.chips)
            for program in plan.programs
            if plan.topology.chip.name == kind and program.name == name and program.memory
        ]
        look = {"color": f"C{number}", "linestyle": styles[kind], "marker": "o", "markersize": 4}
        label = name if len(kinds) == 1 else f"{name}, {kind}"
        memories.plot([p[0] for p in points], [p[1] for p in points], label=label, **look)
        timed = [(chips, time.least, time.most) for chips, _, time in points if time]
        if timed:
            chips, least, most = zip(*timed, strict=True)
            times.plot(chips, least, **look)
            times.fill_between(chips, least, most, color=look["color"], alpha=0.12)
    for plan in {plan.topology.chip.name: plan for plan in plans}.values():
        chip = plan.topology.chip
        look = {"color": "grey", "linestyle": styles[chip.name]}
        memories.axhline(chip.limit / GIB, label=f"available, {chip.name}", **look)
    counts = sorted({plan.topology.chips for plan in plans})
    for axes, label in ((times, "seconds a call, roofline"), (memories, "peak GiB a device")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, map(str, counts))
        axes.set_xlabel("chips")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    times.set_yscale("log")
    times.yaxis.set_major_formatter("{x:g}")
    times.yaxis.set_minor_formatter("{x:g}")
    times.set_xlim(memories.get_xlim())
    memories.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(f"{plans[0].config} on {', '.join(kinds)}: planned, not run", fontsize="medium")
    figure.savefig(path, dpi=120)
