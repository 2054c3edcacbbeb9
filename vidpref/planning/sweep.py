"""How a run scales over topologies, as a table and a picture."""

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

    Args:
        plans: of one config on several topologies.
        path: a file whose ending matplotlib knows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    times, memories = figure.subplots(1, 2)
    names = list(dict.fromkeys(program.name for plan in plans for program in plan.programs))
    for name in names:
        points = [
            (plan.topology.chips, program, plan)
            for plan in sorted(plans, key=lambda plan: plan.topology.chips)
            for program in plan.programs
            if program.name == name and plan.time(program)
        ]
        if not points:
            continue
        chips = [count for count, _, _ in points]
        lows = [plan.time(program).least for _, program, plan in points]
        highs = [plan.time(program).most for _, program, plan in points]
        line = times.plot(chips, lows, "o-", label=name)[0]
        times.fill_between(chips, lows, highs, color=line.get_color(), alpha=0.15)
        peaks = [program.memory.peak / GIB for _, program, _ in points]
        memories.plot(chips, peaks, "o-", color=line.get_color(), label=name)
    for axes, label in ((times, "seconds a call, roofline"), (memories, "peak GiB a device")):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("chips")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    times.set_yscale("log")
    times.legend(fontsize="small")
    titles = dict.fromkeys(f"{plan.topology.chip.name}" for plan in plans)
    figure.suptitle(f"{plans[0].config}, {', '.join(titles)}: planned, not run")
    figure.savefig(path)
