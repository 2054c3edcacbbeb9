"""Where a window that slides lies."""

import jax.numpy as jnp

from vidpref.diffusion.stochastic import StepNoise
from vidpref.stages.online.drawing import window_start


def test_it_moves_on_by_a_step_and_begins_anew():
    noise = StepNoise("cps", 0.5, (1, 3), slides=True)
    start = window_start(noise, 6, every=2)
    assert [int(start(jnp.array(n))) for n in range(10)] == [1, 1, 2, 2, 3, 3, 1, 1, 2, 2]
