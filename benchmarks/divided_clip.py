"""Compiles the training step of clips too large for a chip: tokens over chips, and over slices.

    pip install -e ".[plan]"
    python benchmarks/divided_clip.py --topology=v6e:2x4                       # a pair, 8 chips
    python benchmarks/divided_clip.py --topology=v6e:16x16                     # 32 pairs, 256 chips
    python benchmarks/divided_clip.py --topology=v6e:2x4 --slices=2            # two slices
    python benchmarks/divided_clip.py --topology=v6e:2x4 --override=mesh.context=1 \\
        --override=mesh.tensor=8                                               # held no other way

The step is that of `flow_dpo:wan2_1_14b` with 81 frames of 720x1280; a group of --context chips has
one pair, and mesh.data is the rest of the chips. Prints peak memory a chip, and for each kind of
collective how often a step runs it and how many bytes it hands each chip. The compiler is the
TPU's, without a TPU; what does not fit it refuses.
"""

import os

# Before jax is imported: libtpu must not look for the metadata server of a TPU machine.
os.environ.update(
    JAX_PLATFORMS="cpu",
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v3-128",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
)

import time
from pathlib import Path

from absl import app, flags
from jax.experimental import topologies

from vidpref.generation.adopt import load_config
from vidpref.planning.collectives import collectives
from vidpref.planning.hlo import parse
from vidpref.stages.planning import plan_section
from vidpref.training.sharding import make_mesh

_CONFIG = flags.DEFINE_string("config", "flow_dpo:wan2_1_14b", "NAME:SCALE.")
_TOPOLOGY = flags.DEFINE_string("topology", "v6e:2x4", "A slice, as libtpu names it.")
_SLICES = flags.DEFINE_integer("slices", 1, "So many of them.")
_CONTEXT = flags.DEFINE_integer("context", 8, "Chips over which the tokens of a clip are divided.")
_OVERRIDES = flags.DEFINE_multi_string("override", [], "More fields, FIELD=VALUE.")
_EFFORT = flags.DEFINE_float("effort", -1.0, "The compiler's effort for speed, -1 to 1.")
_HLO = flags.DEFINE_string("hlo", "", "File for the compiled program's text.")

_CLIP = ("data.frames=81", "data.height=720", "data.width=1280", "data.buckets=()")
_GIB = 2**30


def main(_: list[str]) -> None:
    found = topologies.get_topology_desc(
        platform="tpu", topology_name=_TOPOLOGY.value, num_slices=_SLICES.value
    )
    devices = found.devices
    rows = max(1, len(devices) // _CONTEXT.value)
    mesh_fields = ("mesh.data=-1", "mesh.fsdp=1", f"mesh.context={_CONTEXT.value}")
    batch = (f"align.train.batch_size={rows}", f"sampler.batch_size={rows}")
    config = load_config(_CONFIG.value, [*_CLIP, *mesh_fields, *batch, *_OVERRIDES.value])
    mesh = make_mesh(config.mesh.to_dict(), devices)
    sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    slices = f"{_SLICES.value} x " if _SLICES.value > 1 else ""
    print(f"{_CONFIG.value}, {slices}{_TOPOLOGY.value} ({sizes}), {rows} rows", flush=True)

    lowered = plan_section(config, "align", mesh).lower()
    options = {"exec_time_optimization_effort": _EFFORT.value} if _EFFORT.value else None
    started = time.process_time()
    compiled = lowered.compile(compiler_options=options)
    memory = compiled.memory_analysis()
    print(
        f"peak memory: {memory.peak_memory_in_bytes / _GIB:.2f} GiB a chip, "
        f"{memory.argument_size_in_bytes / _GIB:.2f} of it given to the program; compiled in "
        f"{time.process_time() - started:.0f} CPU-seconds",
        flush=True,
    )
    text = compiled.as_text()
    if _HLO.value:
        Path(_HLO.value).write_text(text)
    for one in collectives(parse(text), dict(mesh.shape)):
        print(
            f"{one.kind} over {one.axes} ({one.group}): {one.calls:.0f} a step, "
            f"{one.bytes / _GIB:.2f} GiB a chip"
        )


if __name__ == "__main__":
    app.run(main)
