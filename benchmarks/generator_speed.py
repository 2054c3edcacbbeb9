"""Clips a second of the mini world's generators, training and sampling, in interleaved rounds.

Command:  JAX_PLATFORMS=cpu python benchmarks/generator_speed.py

A training step is forward, backward and Adam on 32 clips of 8x16x16; a sampling step one forward
pass. The rate per CPU-second is all clips over the processor time of the process, so it holds on a
machine that others use too; the rate per second of wall time is that of the best round.
"""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from flax.core import meta

from vidpref.models import unet3d_sizes
from vidpref.models.condition import Condition
from vidpref.models.dit import DiT
from vidpref.models.unet3d import UNet3D

BATCH = flags.DEFINE_integer("batch", 32, "Clips in one step.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; every round runs every program.")
STEPS = flags.DEFINE_integer("steps", 10, "Steps of one program in one round.")

CLIP = (8, 16, 16, 3)
TEXT = (12, 32)


@dataclasses.dataclass
class Program:
    """A compiled step with its running totals."""

    run: Callable[[], jax.Array]
    compile_seconds: float
    cpu_seconds: float = 0.0
    best_seconds: float = float("inf")

    def measure(self, steps: int) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            result = self.run()
        jax.block_until_ready(result)
        self.cpu_seconds += time.process_time() - cpu
        self.best_seconds = min(self.best_seconds, time.perf_counter() - wall)


def _batch(b: int) -> tuple[jax.Array, jax.Array, Condition]:
    rng = np.random.default_rng(0)
    t, h, w, c = CLIP
    x = jnp.asarray(rng.uniform(-1, 1, (b, t, h, w, c)), jnp.float32)
    condition = Condition(
        text=jnp.asarray(rng.normal(size=(b, *TEXT)), jnp.float32),
        text_mask=jnp.ones((b, TEXT[0]), bool),
        first_frame=x[:, 0],
    )
    return x, jnp.linspace(0.05, 0.95, b), condition


def _compile(fn: Callable, *args, donate: tuple[int, ...] = ()) -> tuple[Callable, float]:
    start = time.process_time()
    compiled = jax.jit(fn, donate_argnums=donate).lower(*args).compile()
    return compiled, time.process_time() - start


def build_programs(module, b: int) -> tuple[Program, Program, int]:
    """Returns the training step, the sampling step and the number of parameters of a generator."""
    x, tau, condition = _batch(b)
    variables = jax.jit(module.init)(
        jax.random.key(0),
        x[:1],
        tau[:1],
        Condition(
            text=condition.text[:1],
            text_mask=condition.text_mask[:1],
            first_frame=condition.first_frame[:1],
        ),
    )
    params = meta.unbox(variables["params"])
    optimizer = optax.adam(1e-4)

    def forward(params, x, tau, condition):
        return module.apply({"params": params}, x, tau, condition)

    def train(params, opt_state, x, tau, condition):
        def loss(params):
            return jnp.mean((forward(params, x, tau, condition) - x) ** 2)

        grads = jax.grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    sampling, sampling_compile = _compile(forward, params, x, tau, condition)
    frozen = jax.tree.map(jnp.copy, params)
    state = [params, optimizer.init(params)]
    training, training_compile = _compile(train, *state, x, tau, condition, donate=(0, 1))

    def train_once():
        state[:] = training(*state, x, tau, condition)
        return state[0]

    size = sum(leaf.size for leaf in jax.tree.leaves(frozen))
    return (
        Program(train_once, training_compile),
        Program(lambda: sampling(frozen, x, tau, condition), sampling_compile),
        size,
    )


def main(argv: list[str]) -> None:
    del argv
    b = BATCH.value
    generators = {
        "unet3d": UNet3D(channels=3, text_dim=TEXT[1], **unet3d_sizes.MINI),
        "dit": DiT(channels=3, text_dim=TEXT[1], residual="first_frame"),
    }
    programs, sizes = {}, {}
    for name, module in generators.items():
        training, sampling, sizes[name] = build_programs(module, b)
        programs[name, "training"], programs[name, "sampling"] = training, sampling
    for program in programs.values():
        program.run()  # the first step allocates
    for _ in range(ROUNDS.value):
        for program in programs.values():
            program.measure(STEPS.value)
    print("| model | parameters | step | clips/CPU-s | clips/s | compile CPU-s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, step), program in programs.items():
        clips = b * STEPS.value
        print(
            f"| {name} | {sizes[name] / 1e6:.2f}M | {step} "
            f"| {clips * ROUNDS.value / program.cpu_seconds:.0f} "
            f"| {clips / program.best_seconds:.0f} | {program.compile_seconds:.1f} |"
        )


if __name__ == "__main__":
    app.run(main)
