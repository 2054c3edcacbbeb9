"""Clips per second of the generators: a training step and sampling, in one interleaved run.

    python benchmarks/generator_speed.py [--rounds=5] [--config=dpo_aif:mini]

Every round times each model once, so that whatever else the machine does falls on all of them;
the table shows the median over rounds and, of training, clips a CPU-second.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import flags

from vidpref.generation.adopt import load_config
from vidpref.generation.generator import build_base
from vidpref.runs import command_line as program
from vidpref.stages.pretrain import pretraining
from vidpref.training.sharding import make_mesh
from vidpref.training.step import put_batch

_CONFIG = flags.DEFINE_string("config", "dpo_aif:mini", "NAME:SCALE; its `pretrain` is timed.")
_MODELS = flags.DEFINE_list("models", ["unet3d", "dit"], "Models of the config.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Interleaved rounds.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10, "Training steps a round.", lower_bound=1)
_DRAWN = 200  # clips a sampling call, as in the mini config


def main(overrides: Sequence[str]) -> None:
    contenders = {name: _contender(name, overrides) for name in _MODELS.value}
    results = {name: [] for name in contenders}
    for _ in range(_ROUNDS.value):
        for name, (_, _, train, draw) in contenders.items():
            results[name].append((*_timed(train), *_timed(draw)))
    print("| model | parameters | compile s | training clips/s | a CPU-second | sampled clips/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, rows in results.items():
        count, compile_seconds, *_ = contenders[name]
        train, cpu, draw, _ = (statistics.median(column) for column in zip(*rows, strict=True))
        clips = _STEPS.value * load_config(_CONFIG.value, overrides).pretrain.train.batch_size
        print(
            f"| {name} | {count / 1e6:.2f}M | {compile_seconds:.1f} | {clips / train:.0f} "
            f"| {clips / cpu:.0f} | {_DRAWN / draw:.0f} |"
        )


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def _contender(
    name: str, overrides: Sequence[str]
) -> tuple[int, float, Callable[[], None], Callable[[], None]]:
    """Parameters, seconds to compile the training step, and the two things to time."""
    config = load_config(_CONFIG.value, [*overrides, f"model.name={name}"])
    mesh = make_mesh(config.mesh.to_dict())
    generator = build_base(config)
    plan = pretraining(config, "pretrain", generator, mesh).plan
    batch = put_batch(_batch(generator, plan.settings.batch_size), mesh)
    started = time.perf_counter()
    compiled = plan.lower({}, batch).compile()
    compile_seconds = time.perf_counter() - started
    held = [compiled(plan.create(0), {}, batch)[0]]

    def train_steps() -> None:
        for _ in range(_STEPS.value):
            held[0], _ = compiled(held[0], {}, batch)
        jax.block_until_ready(held[0])

    sample = jax.jit(generator.sample)
    conditions = {
        k: v for k, v in _batch(generator, _DRAWN).items() if k not in ("clips", "reward")
    }
    keys = jax.random.split(jax.random.key(0), _DRAWN)

    def draw() -> None:
        sample(held[0].params, keys, conditions).block_until_ready()

    draw()
    count = sum(leaf.size for leaf in jax.tree.leaves(held[0].params))
    return count, compile_seconds, train_steps, draw


def _batch(generator, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (rows, 1, *generator.clip_shape), np.uint8)
    return {
        "clips": clips,
        "text": rng.normal(size=(rows, *generator.text_shape)).astype(np.float32),
        "text_mask": np.ones((rows, generator.text_shape[0]), bool),
        "first_frame": clips[:, 0, 0],
        "reward": np.ones((rows, 1), np.float32),
    }


if __name__ == "__main__":
    program.launch(main)
