"""Compiles the real alignment step of a paper config with the TPU compiler, without a TPU.

    pip install -e ".[plan]"
    python benchmarks/compile_paper_step.py                  # dpo_aif:paper on 128 cores of v3
    python benchmarks/compile_paper_step.py --effort=0       # exactly as a training run compiles it
    python benchmarks/compile_paper_step.py --section=superres
    python benchmarks/compile_paper_step.py --config=flow_dpo:wan2_1_1_3b --topology=v5e:8x16

The compiler enforces the memory of a core (15.48 GiB on v3): a compile that succeeds says that the
step fits. Prints peak memory a core, compile time, and the host memory it took.
"""

import os

# Before jax is imported: libtpu must not look for the metadata server of a TPU machine.
os.environ.update(
    JAX_PLATFORMS="cpu",
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v3-128",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
)

import functools
import math
import re
import resource
import time
from collections import Counter
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags
from jax.experimental import topologies
from ml_collections import ConfigDict

from vidpref.generation.adapters import lora_policies, lora_spec
from vidpref.generation.adopt import load_config
from vidpref.generation.generator import Generator, build_base, build_superres
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.runs import command_line as program
from vidpref.stages import align
from vidpref.stages.rows.sampled import kind_of
from vidpref.stages.train import generator_loss
from vidpref.training.optimizer import learning_rate_schedule, make_optimizer
from vidpref.training.sharding import abstract_params, batch_sharding, make_mesh
from vidpref.training.state import state_shardings
from vidpref.training.step import make_train_step

_CONFIG = flags.DEFINE_string("config", "dpo_aif:paper", "NAME:SCALE.")
_TOPOLOGY = flags.DEFINE_string("topology", "v3:8x8", "As libtpu names it; v3:8x8 is 128 cores.")
_SECTION = flags.DEFINE_enum(
    "section", "align", ["align", "pretrain", "superres"], "Whose training step is compiled."
)
_EFFORT = flags.DEFINE_float(
    "effort", -1.0, "The compiler's effort for speed, -1 to 1; a training run has 0."
)
_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_GIB = 2**30


def main(overrides: Sequence[str]) -> None:
    config = load_config(_CONFIG.value, overrides)
    started = time.monotonic()
    lowered = lower_step(config, _TOPOLOGY.value, _SECTION.value)
    print(f"traced and lowered in {time.monotonic() - started:.0f} s", flush=True)
    options = {"exec_time_optimization_effort": _EFFORT.value} if _EFFORT.value else None
    wall, cpu = time.monotonic(), time.process_time()
    compiled = lowered.compile(compiler_options=options)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu

    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB
    peak = compiled.memory_analysis().peak_memory_in_bytes / _GIB
    found = re.findall(rf" ({'|'.join(_COLLECTIVES)})(?:-start)?\(", compiled.as_text())
    print(f"peak memory: {peak:.2f} GiB a core (the compiler refuses what does not fit)")
    print(f"compile: {wall:.0f} s wall, {cpu:.0f} CPU-seconds, {host:.1f} GiB peak on the host")
    print("collectives: " + ", ".join(f"{n} {kind}" for kind, n in Counter(found).most_common()))


def lower_step(config: ConfigDict, topology: str, name: str) -> jax.stages.Lowered:
    """Returns the training step of a config's section `name`, lowered for a TPU topology."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = make_mesh(config.mesh.to_dict(), devices)
    generator = build_superres(config) if name == "superres" else build_base(config)
    section = config[name]
    objective = section.get("method", "sft")
    hyper, k = {}, 1
    if name == "align":
        hyper, k = align.hyper_parameters(section), kind_of(section).k(section)
    boxed = jax.eval_shape(generator.init, jax.random.key(0))
    train, spec = section.train, OBJECTIVES[objective]
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(boxed))
    sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    print(
        f"{config.name} {name}: {count / 1e9:.3f}B parameters, {train.batch_size} rows of {k} "
        f"clips {generator.clip_shape}, {config.compute_dtype}, {topology} ({sizes})",
        flush=True,
    )
    schedule = learning_rate_schedule(train.optimizer, train.steps)
    init, policies, lora = generator.init, None, lora_spec(section)
    frozen = {"reference": abstract_params(boxed, mesh)} if spec.needs_reference else {}
    if lora is not None:
        init, policies = (
            functools.partial(lora.init, base=boxed),
            lora_policies(lora, own_reference=False),
        )
        frozen = {"base": abstract_params(boxed, mesh)}
    trained = jax.eval_shape(init, jax.random.key(0))
    optimizer = make_optimizer(train.optimizer, schedule, trained)
    with_ema = train.ema_decay > 0
    state, shardings = state_shardings(init, optimizer, mesh, with_ema=with_ema)
    error_in = section.get("error_in", config.diffusion.error_in)
    step = make_train_step(
        generator_loss(generator, objective, hyper, section, error_in, policies),
        optimizer,
        schedule,
        shardings,
        mesh,
        accumulate=train.accumulate,
        ema_decay=train.ema_decay,
    )
    batch = _batch(train.batch_size, k, generator, mesh)
    if spec.needs_motion:
        motion = (train.batch_size, k, 2)
        batch["motion"] = jax.ShapeDtypeStruct(motion, np.float32, sharding=batch_sharding(mesh))
    return step.lower(state, frozen, batch)


def _batch(rows: int, k: int, generator: Generator, mesh) -> dict[str, jax.ShapeDtypeStruct]:
    t, h, w, c = generator.clip_shape
    length, dim = generator.text_shape

    def struct(*shape: int, dtype) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=batch_sharding(mesh))

    batch = {
        "clips": struct(k, t, h, w, c, dtype=np.float16 if generator.latent else np.uint8),
        "text": struct(length, dim, dtype=np.float32),
        "text_mask": struct(length, dtype=np.bool_),
        "reward": struct(k, dtype=np.float32),
    }
    if generator.low_res_shape:
        batch["low_res"] = struct(t, *generator.low_res_shape, c, dtype=np.uint8)
    elif generator.image == "first_frame":
        batch["first_frame"] = struct(h, w, c, dtype=np.uint8)
    elif generator.image == "image_latent":
        shape = generator.example()[2].image_latent.shape[1:]
        batch["image_latent"] = struct(*shape, dtype=np.float16)
    if generator.image_states_shape:
        batch["image_states"] = struct(*generator.image_states_shape, dtype=np.float16)
    return batch


if __name__ == "__main__":
    program.launch(main)
