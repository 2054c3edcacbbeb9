"""A plan in words and columns."""

from collections.abc import Sequence

from vidpref.planning.chips import GIB
from vidpref.planning.program_plan import ProgramPlan
from vidpref.planning.roofline import ASSUMPTIONS
from vidpref.planning.run_plan import RunPlan

_OPTIMIZER = "(no module)"  # what lies in no network


def plan_text(plan: RunPlan) -> str:
    """Returns the whole plan, with its tables and assumptions."""
    topology = plan.topology
    mesh = next((program.mesh for program in plan.programs if program.mesh), {})
    sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.items() if size > 1)
    head = (
        f"{' '.join([plan.config, *plan.overrides])} on {topology.name}: {topology.chips} chips, "
        f"{topology.devices} devices{f' ({sizes})' if sizes else ''}"
    )
    parts = [
        head,
        _memory_table(plan),
        _time_table(plan),
        _total(plan),
        *(_details(plan, program) for program in plan.programs),
        *(_why(program) for program in plan.programs if not program.fits),
        ASSUMPTIONS,
        _about_numbers(plan),
    ]
    return "\n\n".join(part for part in parts if part)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows as columns; the first is to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _memory_table(plan: RunPlan) -> str:
    heads = ("parameters", "peak", "limit", "arguments", "temporary", "of the arguments")
    rows = [["memory, GiB a device", *heads]]
    for program in plan.programs:
        memory = program.memory
        if memory is None:
            continue
        parts = ", ".join(f"{name} {_gib(size)}" for name, size in memory.parts.items())
        parts += f", on the host {_gib(memory.on_host)}" if memory.on_host else ""
        peak = _gib(memory.peak) + ("" if memory.fits else " !")
        temporary = _gib(max(memory.peak - memory.arguments, 0.0))
        rows.append(
            [
                program.name,
                f"{program.parameters / 1e9:.3f}B",
                peak,
                _gib(memory.limit),
                _gib(memory.arguments),
                temporary,
                parts,
            ]
        )
    return columns(rows)


def _time_table(plan: RunPlan) -> str:
    heads = ("compute", "memory", "network", "bound by", "MFU", "calls", "hours", "money")
    rows = [["seconds a call", *heads, "compiled in", "host GiB"]]
    for program in plan.programs:
        time = plan.time(program)
        if time is None:
            continue
        hours = plan.hours(program)
        rows.append(
            [
                program.name,
                *(f"{seconds:.3g}" for seconds in (time.compute, time.memory, time.network)),
                time.bound,
                f"{plan.mfu(program):.0%}",
                str(plan.calls.get(program.name, "by the data")),
                _range(hours),
                _range(plan.money(hours)),
                f"{program.trace_seconds + program.compile_seconds:.0f} s",
                _gib(program.host_bytes),
            ]
        )
    return columns(rows) if len(rows) > 1 else ""


def _total(plan: RunPlan) -> str:
    hours = plan.total_hours
    if not hours[1]:
        return ""
    left_out = [p.name for p in plan.programs if p.name not in plan.calls]
    text = f"All together: {_range(hours)} hours"
    if plan.price is not None:
        text += f", {_range(plan.money(hours))} at {plan.price:g} a chip-hour (--price)"
    if left_out:
        text += (
            f"; without {', '.join(left_out)}, of which only the data say how often (of clips: "
            "--prompts=N)"
        )
    return f"{text}. A judge behind an API and reading data are not in it."


def _details(plan: RunPlan, program: ProgramPlan) -> str:
    flops = program.flops
    if flops is None:
        return ""
    text = f"{program.name}: {flops.total:.3g} FLOP"
    if flops.rematerialized:
        needed = flops.total - flops.rematerialized
        text += f", {flops.total / needed:.2f} of what the method needs"
    if program.hlo_flops:
        ratio = program.hlo_flops * program.devices / flops.total
        text += f"; compiled, {ratio:.2f} of that without hand-written kernels"
    shares = [
        f"{name.replace(_OPTIMIZER, 'optimizer')} {part / flops.total:.0%}"
        for name, part in flops.by_module()
    ]
    lines = [text, f"  FLOP by module: {', '.join(shares)}"]
    if program.unread:
        lines.append(
            "  It compiles, and jaxlib cannot read what the compiler made, so that neither its "
            f"collectives nor its time are known: {program.unread}"
        )
    for one in program.collectives:
        lines.append(
            f"  {one.kind} over {one.axes} ({one.group}): {one.calls:.0f} of "
            f"{one.bytes / GIB:.3f} GiB together"
        )
    return "\n".join(lines)


def _about_numbers(plan: RunPlan) -> str:
    chip = plan.topology.chip
    text = f"Compiled with {plan.topology.compiler}. Numbers of {chip.name}: {chip.source}"
    return f"{text}; assumed: {', '.join(chip.assumed)}." if chip.assumed else f"{text}."


def _why(program: ProgramPlan) -> str:
    if program.memory is None:
        return f"{program.name} cannot be: {program.refused}"
    memory = program.memory
    return (
        f"{program.name} does not fit: it needs {_gib(memory.peak)} GiB of a device, which has "
        f"{_gib(memory.limit)}; {_gib(memory.arguments)} of it are its arguments."
    )


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"


def _range(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g}"
