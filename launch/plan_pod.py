"""Says what a run will need on a slice of TPUs, or on GPUs, without any of them.

    pip install -e ".[plan]"
    python launch/plan_pod.py --config=dpo_aif --topology=v3:8x8 --price=2 --json=plan.json
    python launch/plan_pod.py --config=flow_dpo:wan2_1_1_3b@24gb --topology=gpu24    # jax[cuda13]
    python launch/plan_pod.py --config=flow_dpo:wan2_1_1_3b --sweep=v5e:4x4,v5e:8x8 --out=sweep.png
    python launch/plan_pod.py --config=flow_dpo:wan2_1_1_3b     # which slices it fits on

Every program of the run is traced from the plan that the run itself has, and compiled by the
accelerator's own compiler. Printed are memory, arithmetic by module, what is sent between devices,
and times by the roofline with their assumptions. What does not fit ends with exit status 1, the
reason, and settings that do, found by trying them.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line

_CONFIG = flags.DEFINE_string("config", None, "Config by name, NAME[:SCALE], as of tpu_run.py.")
_TOPOLOGY = flags.DEFINE_string(
    "topology",
    None,
    "Slice such as v3:8x8 (in chips) or v5p:4x4x4, two of them as v5e:16x16:2, or cards such as "
    "gpu24 or gpu80:8. None: lists the fewest of each kind that the config fits on.",
)
_SWEEP = flags.DEFINE_list("sweep", None, "Topologies that are compared in a picture, --out.")
_OUT = flags.DEFINE_string("out", "sweep.png", "Picture of --sweep.")
_JSON = flags.DEFINE_string("json", None, "File for the plan as JSON.")
_PRICE = flags.DEFINE_float(
    "price", None, "Price of a chip (or card) and hour, in your money.", lower_bound=0.0
)
_PROMPTS = flags.DEFINE_integer(
    "prompts", None, "Prompts of the data, where the config takes all.", lower_bound=1
)
_PROGRAMS = flags.DEFINE_list("programs", [], "Only these, such as align,sample; none: all.")
_EFFORT = flags.DEFINE_float(
    "effort",
    -1.0,
    "The TPU compiler's effort for speed, -1 to 1; a run has 0, and takes longer.",
    lower_bound=-1.0,
    upper_bound=1.0,
)
_TRIES = flags.DEFINE_integer(
    "tries", 6, "Settings tried, at most, where something does not fit.", lower_bound=0
)


def main(overrides: Sequence[str]) -> None:
    _check_flags()
    from vidpref.planning.alternatives import alternatives
    from vidpref.planning.compiling import Request
    from vidpref.planning.planner import fitting, plan_each, plan_run
    from vidpref.planning.sweep import draw, sweep_text
    from vidpref.planning.table import plan_text

    request = Request(
        config=_CONFIG.value,
        topology=_TOPOLOGY.value or "",
        overrides=tuple(overrides),
        programs=tuple(_PROGRAMS.value),
        effort=_EFFORT.value,
    )
    known = {"prompts": _PROMPTS.value, "price": _PRICE.value, "say": _say}
    if _SWEEP.value:
        plans = plan_each(request, _SWEEP.value, **known)
        draw(plans, Path(_OUT.value))
        print(f"{sweep_text(plans)}\n\npicture: {_OUT.value}")
        _write([plan.to_dict() for plan in plans])
        return
    if not _TOPOLOGY.value:
        for line in fitting(request, say=_say):
            print(line, flush=True)
        return
    plan = plan_run(request, **known)
    print(plan_text(plan))
    found = plan.to_dict()
    if any(program.memory and not program.fits for program in plan.programs):
        tried = alternatives(request, plan, tries=_TRIES.value, say=_say)
        print(f"\n{tried.text}")
        found["alternatives"] = tried.to_dict()
    _write(found)
    if not plan.fits:
        sys.exit(1)


def _check_flags() -> None:
    if not _CONFIG.value:
        raise app.UsageError("--config=NAME[:SCALE] is missing.")
    from vidpref.config.by_name import named_config
    from vidpref.planning.topologies import parse_topology

    for name in [_TOPOLOGY.value, *(_SWEEP.value or [])]:
        if name:
            parse_topology(name)
    named_config(_CONFIG.value)
    if _SWEEP.value and _TOPOLOGY.value:
        raise app.UsageError("--sweep and --topology: give one of them.")
    if flags.FLAGS["out"].present and not _SWEEP.value:
        raise app.UsageError("--out goes with --sweep.")
    if not (_TOPOLOGY.value or _SWEEP.value):
        for name in ("json", "price", "prompts", "tries"):
            if flags.FLAGS[name].present:
                raise app.UsageError(f"--{name} goes with --topology or --sweep.")
    if not all(name.strip() for name in _PROGRAMS.value):
        raise app.UsageError(f"--programs={','.join(_PROGRAMS.value)}: a name is empty.")


def _say(line: str) -> None:
    print(f"[{line}]", file=sys.stderr, flush=True)


def _write(found: object) -> None:
    if _JSON.value:
        from vidpref.files import write_text

        write_text(Path(_JSON.value), json.dumps(found, indent=2) + "\n")
        print(f"\nJSON: {_JSON.value}")


if __name__ == "__main__":
    command_line.launch(main)
