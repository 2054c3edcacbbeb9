"""Plans the shipped configs on the hardware that their files name: the table of docs/pods.md.

    pip install -e ".[plan,cuda]"
    python benchmarks/plans.py                                  # what has no row yet; takes hours
    python benchmarks/plans.py --only=dpo_aif:paper --again     # after a change of its network
    python benchmarks/plans.py --minutes=0                      # nothing but the table

Each program is compiled as `launch/plan_pod.py` does (effort -1), and kept in docs/plans.json as
soon as it is, with the date and the compiler; a later call goes on. Mini scales are not among them:
they are for a CPU.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # compilers have processes of their own

import datetime
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from claimed.blocks import fill

from vidpref.config.by_name import (
    PROJECT_ROOT,
    config_module,
    config_names,
    import_from_checkout,
    judge_names,
)
from vidpref.files import write_text
from vidpref.generation.adopt import load_config
from vidpref.planning.chips import GIB
from vidpref.planning.compiling import Request, compile_programs
from vidpref.planning.program_plan import ProgramPlan, from_dict
from vidpref.planning.run_plan import RunPlan
from vidpref.planning.topologies import NoTopology, parse_topology
from vidpref.stages.programs import programs
from vidpref.training.sharding import make_mesh

_ONLY = flags.DEFINE_list("only", [], "Only these, NAME:SCALE; none: all.")
_AGAIN = flags.DEFINE_bool("again", False, "Also what has a row.")
_MINUTES = flags.DEFINE_float(
    "minutes", None, "Stops after the program that is compiled then; 0: the table only."
)

_KEPT = PROJECT_ROOT / "docs" / "plans.json"
_DOCUMENT = PROJECT_ROOT / "docs" / "pods.md"
_BLOCK = "plans of the configs"
# of this process alone: two may plan side by side
_KNOWN = Path(tempfile.gettempdir()) / f"vidpref-plans-{os.getpid()}.json"
_STEPS = ("align", "judge", "judge-reasoning")  # the training that a config is there for

# What the files of the configs say under "Hardware".
_SLICES = {
    "paper": "v3:8x8",
    "wan2_1_1_3b": "v5e:8x16",
    "wan2_1_14b": "v5p:4x4x4",
    "wan2_1_i2v_14b": "v5p:4x4x4",
    "cogvideox_2b": "v5e:8x16",
    "cogvideox_5b": "v5e:8x16",
    "cogvideox_5b_i2v": "v5p:2x2x2",
    "mcdpo:paper": "v5e:2x4",
    "realdpo:paper": "v5e:2x4",
    "own:paper": "v5e:2x4",
    "videoalign:paper": "v5e:4x8",
    "mcsc:paper": "v5p:2x2x2",
    "ipo:paper": "v5e:8x16",
    "videoreward:paper": "v5p:2x2x4",
    "critic:paper": "v5p:4x4x4",
    "vader:paper": "v5p:2x2x4",
    "mcdpo:wan2_1_1_3b": "v5e:2x4",
}

Kept = dict[str, dict[str, dict[str, Any]]]


def main(argv: Sequence[str]) -> None:
    del argv
    known = shipped()
    if strange := [spec for spec in _ONLY.value if spec not in known]:
        raise app.UsageError(f"--only={strange[0]}: there are {', '.join(known)}")
    until = time.monotonic() + 60 * (_MINUTES.value if _MINUTES.value is not None else 1e9)
    kept: Kept = json.loads(_KEPT.read_text()) if _KEPT.exists() else {}
    for steps in (True, False):  # the steps of all first, which differ most
        for spec in _ONLY.value or known:
            if time.monotonic() < until:
                _plan(spec, known[spec], kept, until, steps=steps)
    _write(kept)


def _plan(spec: str, topology: str, kept: Kept, until: float, *, steps: bool) -> None:
    """Compiles what has no row yet of a config, and keeps what comes before `until`.

    What is the same program as one that has a row is not compiled again.
    """
    rows = {} if _AGAIN.value else kept.get(spec, {})
    there = [name for name, row in rows.items() if row["on"] == topology]
    names = programs(load_config(spec), make_mesh({}, jax.devices()[:1]))
    missing = [name for name in names if name not in there and (name in _STEPS) == steps]
    if not missing:
        return
    known = [row["program"] for own in kept.values() for row in own.values()]
    write_text(_KNOWN, json.dumps({one["digest"]: one for one in known if one.get("digest")}))
    request = Request(spec, topology, programs=tuple(missing), known=str(_KNOWN))
    try:
        for plan in compile_programs(request):
            kept.setdefault(spec, {})[plan.name] = _row(plan, topology)
            _write(kept)
            print(f"{spec} {plan.name}: {_peak(plan)} GiB, {plan.cpu_seconds:.0f} s", flush=True)
            if time.monotonic() > until:
                return
    except NoTopology as error:  # its compiler is not installed
        print(error, flush=True)


def _write(kept: Kept) -> None:
    write_text(_KEPT, json.dumps(kept, indent=1) + "\n")
    write_text(_DOCUMENT, fill(_DOCUMENT.read_text(), {_BLOCK: table(kept)}))


def shipped() -> dict[str, str]:
    """Returns {NAME:SCALE: topology} of all configs but the mini ones, those for one GPU too.

    Raises:
        KeyError: a scale for which no hardware is known here.
    """
    one_gpu = import_from_checkout(PROJECT_ROOT / "configs" / "shared" / "one_gpu.py")
    found = {}
    for name in (*config_names(), *judge_names()):
        for scale in config_module(name).SCALES:
            if scale == "mini":
                continue
            spec = f"{name}:{scale}"
            found[spec] = _SLICES[spec] if spec in _SLICES else _SLICES[scale]
            for card in one_gpu.layouts(scale):
                found[f"{spec}@{card}"] = f"gpu{card.removesuffix('gb')}:1"
    return found


def table(kept: Kept) -> str:
    """Returns the table in Markdown, and what has no row yet."""
    lines = [
        "| config | on | peak of the step, GiB | other programs | a step, s | MFU | compiled in | "
        "planned |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    left = []
    for spec, topology in shipped().items():
        rows = {name: row for name, row in kept.get(spec, {}).items() if row["on"] == topology}
        if not rows:
            left.append(f"`{spec}`")
            continue
        lines.append(f"| {' | '.join(_cells(spec, topology, rows))} |")
    if left:
        lines += ["", f"Not yet planned: {', '.join(left)}."]
    return "\n".join(lines)


def _cells(spec: str, topology: str, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    plans = {name: from_dict(row["program"]) for name, row in rows.items()}
    plan = RunPlan(
        config=spec,
        overrides=(),
        topology=parse_topology(topology),
        programs=tuple(plans.values()),
        calls={},
    )
    trained = next((name for name in _STEPS if name in plans), "")
    align = plans.get(trained)
    yield f"`{spec}`"
    yield topology
    yield f"{_peak(align)} of {plan.topology.chip.limit / GIB:.2f}" if align else "?"
    yield ", ".join(f"{name} {_peak(plans[name])}" for name in plans if name != trained)
    step = plan.time(align) if align else None
    yield f"{_seconds(step.least)} to {_seconds(step.most)}" if step else ""
    yield f"{plan.mfu(align):.0%}" if step else ""
    seconds, host = zip(*((one.cpu_seconds, one.host_bytes) for one in plans.values()), strict=True)
    yield f"{sum(seconds):.0f} s, {max(host) / GIB:.1f} GiB"
    yield "; ".join(dict.fromkeys(f"{row['date']}, {row['compiler']}" for row in rows.values()))


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _peak(program: ProgramPlan) -> str:
    if program.memory is None:
        return "refused"
    return f"{program.memory.peak / GIB:.2f}{'' if program.memory.fits else ' (too much)'}"


def _row(plan: ProgramPlan, topology: str) -> dict[str, Any]:
    program = plan.to_dict()
    if plan.flops:
        program["flops"]["modules"] = dict(plan.flops.by_module())
    return {
        "on": topology,
        "date": datetime.date.today().isoformat(),
        "compiler": parse_topology(topology).compiler,
        "program": program,
    }


if __name__ == "__main__":
    app.run(main)
