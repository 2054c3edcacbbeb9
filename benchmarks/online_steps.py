"""Seconds of a step of learning on fresh draws: what is drawn, and what is learnt from it.

    JAX_PLATFORMS=cpu python benchmarks/online_steps.py
    JAX_PLATFORMS=cpu python benchmarks/online_steps.py --specs=flow_grpo:mini+align.online.group=4

The programs are those of the runs, in the largest shapes that their settings admit, with random
weights; an answer hardly ends before its last token then, so all tokens are drawn. Judging the
clips, which lies between the two, is not among it. Every round times each program once; the table
shows medians over rounds with the fastest and slowest.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from vidpref.generation.adopt import load_config
from vidpref.runs import command_line as program
from vidpref.stages.programs import Program, programs
from vidpref.training.sharding import make_mesh
from vidpref.typing import PyTree

_SPECS = flags.DEFINE_list(
    "specs",
    [
        "mcsc:mini+reward.vlm_judge.most_tokens=192",  # the mini world's longest question
        *("flow_grpo:mini", "diffusion_nft:mini", "awm:mini"),
    ],
    "Configs, NAME:SCALE with overrides behind a +.",
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Interleaved rounds.", lower_bound=1)
_DRAW = "draw"  # how names of the programs that draw begin; those of the judge's phases go on
_WEIGHT = 0.02  # deviation of the random numbers


def main(overrides: Sequence[str]) -> None:
    if overrides:
        raise app.UsageError(f"not understood: {' '.join(overrides)}")
    program.keep_freed_memory()
    steps = [step for spec in _SPECS.value for step in steps_of(spec)]
    for name, *both in steps:
        print(f"{name} is compiled", flush=True)
        for one in both:
            one.seconds()
    times = {name: [] for name, *_ in steps}
    for _ in range(_ROUNDS.value):
        for name, draw, learn in steps:
            times[name].append((draw.seconds(), learn.seconds()))
    print("\n| step | draws | drawing, s | learning, s | drawn a second | learnt from a second |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, draw, _ in steps:
        print(f"| {name} | {' | '.join(cells(draw.drawn, draw.unit, times[name]))} |")


class Timed:
    """A compiled program, called with random numbers.

    Attributes:
        drawn: answers' tokens, or clips, of a call of one that draws.
        unit: which of the two.
    """

    def __init__(self, made: Program):
        self._arguments = made.arguments
        self._compiled = made.trace().lower().compile()
        self.drawn, self.unit = _drawn(made.trace().out_info)

    def seconds(self) -> float:
        """Calls it once; its arguments are made anew, since it may take them over."""
        arguments = jax.block_until_ready(filled(list(self._arguments.values())))
        started = time.perf_counter()
        jax.block_until_ready(self._compiled(*arguments))
        return time.perf_counter() - started


def steps_of(spec: str) -> Iterator[tuple[str, Timed, Timed]]:
    """Yields the name of every kind of step of a config, what draws and what learns from it.

    Raises:
        absl.app.UsageError: it draws nothing.
    """
    name, *changed = spec.split("+")
    made = programs(load_config(name, changed), make_mesh({}, jax.devices()[:1]))
    kinds = [name for name in made if name.startswith(_DRAW)]
    if not kinds:
        raise app.UsageError(f"--specs={spec}: it draws nothing while it learns")
    for kind in kinds:
        learns = kind.replace(_DRAW, "judge") if kind != _DRAW else "align"
        suffix = kind.removeprefix(_DRAW).replace("-", ", ")
        yield name + suffix, Timed(made[kind]()), Timed(made[learns]())


def filled(shapes: PyTree) -> PyTree:
    """Returns arrays of these shapes: small random numbers, zeros for integers, everything true."""
    rng = np.random.default_rng(0)

    def one(shape: jax.ShapeDtypeStruct) -> Any:
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if shape.dtype == bool:
            values = np.ones(shape.shape, bool)
        elif jnp.issubdtype(shape.dtype, jnp.integer):
            values = np.zeros(shape.shape, shape.dtype)
        else:
            values = (_WEIGHT * rng.standard_normal(shape.shape)).astype(shape.dtype)
        return jax.device_put(values, shape.sharding)

    return jax.tree.map(one, shapes)


def _drawn(out: PyTree) -> tuple[int, str]:
    """How many tokens or clips a program returns; 0 of one that draws neither."""
    found = out if isinstance(out, dict) else {}
    if "drawn" in found:
        return int(np.prod(found["drawn"].shape)), "tokens"
    clips = found.get("states", found.get("clips"))
    return (0, "") if clips is None else (int(np.prod(clips.shape[:2])), "clips")


def cells(drawn: int, unit: str, times: Sequence[tuple[float, float]]) -> list[str]:
    """Returns a row of the table."""
    draw, learn = zip(*times, strict=True)
    spans = [f"{statistics.median(t):.2f} ({min(t):.2f}-{max(t):.2f})" for t in (draw, learn)]
    rates = [f"{drawn / statistics.median(t):.3g}" for t in (draw, learn)]
    return [f"{drawn} {unit}", *spans, *rates]


if __name__ == "__main__":
    program.launch(main)
