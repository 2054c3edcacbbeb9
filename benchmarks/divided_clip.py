"""Compiles the training step of clips too large for a chip: tokens over chips, and over slices.

    pip install -e ".[plan]"
    python benchmarks/divided_clip.py --topology=v6e:2x4                       # a pair, 8 chips
    python benchmarks/divided_clip.py --topology=v6e:16x16                     # 32 pairs, 256 chips
    python benchmarks/divided_clip.py --topology=v6e:2x4:2                     # two slices
    python benchmarks/divided_clip.py --topology=v6e:2x4 --override=mesh.context=1 \\
        --override=mesh.tensor=8                                               # held no other way

The step is that of `flow_dpo:wan2_1_14b` with 81 frames of 720x1280; a group of --context chips has
one pair, and mesh.data is the rest of the chips. Prints peak memory a chip, and for each kind of
collective how often a step runs it and how many bytes it hands each chip. The compiler is the
TPU's, without a TPU; what does not fit it refuses.
"""

import sys

from absl import app, flags

from vidpref.planning.chips import GIB
from vidpref.planning.compiling import Request, compile_programs
from vidpref.planning.topologies import parse_topology

_CONFIG = flags.DEFINE_string("config", "flow_dpo:wan2_1_14b", "NAME:SCALE.")
_TOPOLOGY = flags.DEFINE_string("topology", "v6e:2x4", "Slices, as of launch/plan_pod.py.")
_CONTEXT = flags.DEFINE_integer("context", 8, "Chips over which the tokens of a clip are divided.")
_OVERRIDES = flags.DEFINE_multi_string("override", [], "More fields, FIELD=VALUE.")
_EFFORT = flags.DEFINE_float("effort", -1.0, "The compiler's effort for speed, -1 to 1.")

_CLIP = ("data.frames=81", "data.height=720", "data.width=1280", "data.buckets=()")


def main(_: list[str]) -> None:
    topology = parse_topology(_TOPOLOGY.value)
    rows = max(1, topology.devices // _CONTEXT.value)
    mesh = ("mesh.data=-1", "mesh.fsdp=1", f"mesh.context={_CONTEXT.value}")
    batch = (f"align.train.batch_size={rows}", f"sampler.batch_size={rows}")
    overrides = (*_CLIP, *mesh, *batch, *_OVERRIDES.value)
    request = Request(_CONFIG.value, topology.name, overrides, ("align",), _EFFORT.value)
    (step,) = compile_programs(request)
    if step.memory is None:
        sys.exit(step.refused)
    sizes = ", ".join(f"{axis} {size}" for axis, size in step.mesh.items() if size > 1)
    print(f"{_CONFIG.value}, {topology.name} ({sizes}), {rows} rows")
    print(
        f"peak memory: {step.memory.peak / GIB:.2f} GiB a chip, {step.memory.arguments / GIB:.2f} "
        f"of it given to the program; {step.cpu_seconds:.0f} CPU-seconds"
    )
    for one in step.collectives:
        print(
            f"{one.kind} over {one.axes} ({one.group}): {one.calls:.0f} a step, "
            f"{one.bytes / GIB:.2f} GiB a chip"
        )
    if not step.fits:
        sys.exit(f"a chip has {step.memory.limit / GIB:.2f} GiB")


if __name__ == "__main__":
    app.run(main)
