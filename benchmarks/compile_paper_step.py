"""Compiles what a run computes with the compiler of a TPU or GPU, without one.

    pip install -e ".[plan]"
    python benchmarks/compile_paper_step.py                  # dpo_aif:paper on 128 cores of v3
    python benchmarks/compile_paper_step.py --effort=0       # exactly as a training run compiles it
    python benchmarks/compile_paper_step.py --section=superres
    python benchmarks/compile_paper_step.py --config=flow_dpo:wan2_1_1_3b --topology=v5e:8x16
    pip install "jax[cuda13]"
    python benchmarks/compile_paper_step.py --config=flow_dpo:wan2_1_1_3b@24gb --topology=cuda:1 \\
        --section=all                                        # one GPU: every program of the run

The step, what is frozen and the batch are those that a run of the config has: the stages take them
from the same place (`vidpref/stages/planning.py`). Of flow_nrg, `align` is the latent reward.

The TPU's compiler enforces the memory of a core (15.48 GiB on v3): a compile that succeeds says
that the step fits. A GPU's does not: compare the peak with the card's memory. Prints peak memory a
device, compile time, and the host memory it took.
"""

import os

import gpu_topology

# Before jax is imported: libtpu must not look for the metadata server of a TPU machine.
os.environ.update(
    gpu_topology.ENVIRONMENT,
    JAX_PLATFORMS="cpu",
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v3-128",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
)

import math
import re
import resource
import time
from collections import Counter
from collections.abc import Sequence

import jax
from absl import flags
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.generation.adopt import load_config
from vidpref.runs import command_line as program
from vidpref.stages.planning import SECTIONS, plan_section
from vidpref.stages.programs import programs
from vidpref.training.sharding import make_mesh

_CONFIG = flags.DEFINE_string("config", "dpo_aif:paper", "NAME:SCALE.")
_TOPOLOGY = flags.DEFINE_string(
    "topology", "v3:8x8", "As libtpu names it (v3:8x8 is 128 cores), or cuda:1."
)
_SECTION = flags.DEFINE_enum(
    "section",
    "align",
    [*SECTIONS, "encode", "sample", "decode", "sample-superres", "all"],
    "Whose training step, or which other program of the run, is compiled.",
)
_EFFORT = flags.DEFINE_float(
    "effort", -1.0, "The compiler's effort for speed, -1 to 1; a training run has 0."
)
_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_GIB = 2**30


def main(overrides: Sequence[str]) -> None:
    config = load_config(_CONFIG.value, overrides)
    if _SECTION.value in SECTIONS:
        started = time.monotonic()
        lowered = lower_step(config, _TOPOLOGY.value, _SECTION.value)
        print(f"traced and lowered in {time.monotonic() - started:.0f} s", flush=True)
        report(lowered)
        return
    known = programs(config, mesh_for(config, _TOPOLOGY.value))
    chosen = list(known) if _SECTION.value == "all" else [_SECTION.value]
    for name in chosen:
        if name not in known:
            raise ValueError(f"--section={name}: {_CONFIG.value} has {', '.join(known)}")
        print(f"{_CONFIG.value} {name}, {_TOPOLOGY.value}", flush=True)
        report(known[name]().trace().lower())


def report(lowered: jax.stages.Lowered) -> None:
    """Compiles a program and prints what it takes."""
    effort = _EFFORT.value and not _TOPOLOGY.value.startswith("cuda")
    options = {"exec_time_optimization_effort": _EFFORT.value} if effort else None
    wall, cpu = time.monotonic(), time.process_time()
    compiled = lowered.compile(compiler_options=options)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu

    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB
    memory = compiled.memory_analysis()
    arguments, on_host = memory.argument_size_in_bytes / _GIB, memory.host_temp_size_in_bytes / _GIB
    peak = memory.peak_memory_in_bytes / _GIB
    if on_host:  # then XLA's figure for the peak takes the larger of both memories
        peak = arguments + memory.temp_size_in_bytes / _GIB
    found = re.findall(rf" ({'|'.join(_COLLECTIVES)})(?:-start)?\(", compiled.as_text())
    print(f"peak memory: {peak:.2f} GiB a device, {arguments:.2f} of it given to the program")
    if on_host:
        print(f"of activations, {on_host:.2f} GiB lie in the host's memory")
    print(f"compile: {wall:.0f} s wall, {cpu:.0f} CPU-seconds, {host:.1f} GiB peak on the host")
    print("collectives: " + ", ".join(f"{n} {kind}" for kind, n in Counter(found).most_common()))


def mesh_for(config: ConfigDict, topology: str) -> Mesh:
    """Returns the config's mesh over devices that need not be there."""
    platform, _, count = topology.partition(":")
    if platform == "cuda":
        return make_mesh(config.mesh.to_dict(), gpu_topology.devices(int(count)))
    found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    return make_mesh(config.mesh.to_dict(), found.devices)


def lower_step(config: ConfigDict, topology: str, section: str) -> jax.stages.Lowered:
    """Returns the training step of a config's section, lowered for a topology."""
    mesh = mesh_for(config, topology)
    planned = plan_section(config, section, mesh)
    training = planned.training
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(planned.params))
    sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    print(
        f"{config.name} {section}: {count / 1e9:.3f}B parameters, "
        f"{training.plan.settings.batch_size} rows of {training.row.k} clips "
        f"{training.generator.clip_shape}, {config.compute_dtype}, {topology} ({sizes})",
        flush=True,
    )
    return planned.lower()


if __name__ == "__main__":
    program.launch(main)
