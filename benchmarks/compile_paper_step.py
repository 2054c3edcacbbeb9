"""Compiles the paper's Diffusion-DPO training step for 128 TPU v3 cores, on a machine without TPU.

Command:  pip install -e .[plan] && python benchmarks/compile_paper_step.py

It is the real step of `--config=dpo_aif:paper`: 64 pairs of 16x24x40 clips, policy and frozen
reference, Adam. The TPU compiler refuses a program that does not fit the memory of a core (15.48
GiB on v3), so a compile that ends is a verdict that it fits. Nothing runs, no TPU is needed.
"""

import json
import os
import re
import resource
import sys
import time
from pathlib import Path

# before jax is imported: libtpu must not look for the metadata server of a TPU machine
os.environ.update(
    JAX_PLATFORMS="cpu",
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v3-128",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
from absl import app, flags
from jax.experimental import topologies
from ml_collections import ConfigDict

from configs import dpo_aif
from vidpref.stages import generator as generators
from vidpref.stages.align import hyper_parameters
from vidpref.training.alignment import make_alignment_loss
from vidpref.training.optimizer import learning_rate_schedule, make_optimizer
from vidpref.training.sharding import batch_sharding, make_mesh
from vidpref.training.state import state_shardings
from vidpref.training.step import make_train_step

TOPOLOGY = flags.DEFINE_string("topology", "v3:8x8", "TPU topology; v3:8x8 is 128 cores.")
HLO = flags.DEFINE_string("hlo", "", "Where to write the compiled program as text.")

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


def lower_step(config: ConfigDict, topology: str) -> jax.stages.Lowered:
    """Returns the training step of a config, lowered for a topology."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = make_mesh(config.mesh, devices)
    generator = generators.build(config)
    training = config.align.train
    boxed = jax.eval_shape(generator.init, jax.random.key(0))
    schedule = learning_rate_schedule(training.optimizer, training.steps)
    optimizer = make_optimizer(training.optimizer, schedule, boxed)
    state, shardings = state_shardings(
        generator.init, optimizer, mesh, with_ema=training.ema_decay > 0
    )
    loss_fn = make_alignment_loss(
        generator.apply,
        generator.process,
        config.align.method,
        hyper_parameters(config.align),
        make_condition=generators.make_condition,
        error_in=config.diffusion.error_in,
        reduction=config.align.reduction,
    )
    step = make_train_step(
        loss_fn, optimizer, schedule, shardings, mesh, accumulate=training.accumulate
    )
    return step.lower(state, {"reference": state.params}, _batch(config, generator, mesh))


def _batch(config: ConfigDict, generator: generators.Generator, mesh) -> dict:
    b, (t, h, w, c), (l, d) = (
        config.align.train.batch_size,
        generator.clip_shape,
        generator.text_shape,
    )

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct((b, *shape), dtype, sharding=batch_sharding(mesh))

    return {
        "clips": array(jnp.uint8, 2, t, h, w, c),
        "text": array(jnp.float32, l, d),
        "text_mask": array(jnp.bool_, l),
        "first_frame": array(jnp.uint8, h, w, c),
        "reward": array(jnp.float32, 2),
    }


def main(argv: list[str]) -> None:
    del argv
    config = dpo_aif.get_config("paper")
    start = time.perf_counter()
    lowered = lower_step(config, TOPOLOGY.value)
    lowering = time.perf_counter() - start
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    compiled = lowered.compile()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    text = compiled.as_text()
    if HLO.value:
        Path(HLO.value).write_text(text)
    report = {
        "topology": TOPOLOGY.value,
        "peak_gib_per_core": compiled.memory_analysis().peak_memory_in_bytes / 2**30,
        "compile_wall_s": wall,
        "compile_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "lowering_s": lowering,
        "host_peak_gib": after.ru_maxrss / 2**20,
        "collectives": {
            name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    app.run(main)
