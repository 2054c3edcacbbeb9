"""Sampling chains of this library and of diffusers, recorded state by state."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from vidpref.diffusion.samplers import Chain, sample

SHAPE = (2, 2, 4, 4, 3)


def network(np_like, x, tau):
    """Any smooth function of both arguments; the same in JAX and torch."""
    return np_like.tanh(0.7 * x) + 0.3 * tau


def denoise(x, tau):
    return network(jnp, x, tau.reshape(-1, 1, 1, 1, 1))


def our_states(process, noise, *, sampler, **fields):
    """The chain's states before every network call and at the end."""
    states = []

    def recording(x, tau):
        states.append(np.asarray(x))
        return denoise(x, tau)

    with jax.disable_jit():
        states.append(np.asarray(sample(sampler, Chain(process, recording, noise, **fields))))
    return states


def their_chain(scheduler, step, x, times=None):
    """The states of a diffusers scheduler whose timesteps are set, as tensors.

    `step(output, timestep, x, index) -> next x`; `times` are the network's, of a DDPM if not given.
    """
    if times is None:
        times = (scheduler.timesteps + 1) / scheduler.config.num_train_timesteps
    states = []
    for index, timestep in enumerate(scheduler.timesteps):
        states.append(x)
        x = step(network(torch, x, times[index].item()), timestep, x, index=index)
    return [*states, x]


def their_states(scheduler, step, noise, times=None):
    return [x.numpy() for x in their_chain(scheduler, step, torch.tensor(np.asarray(noise)), times)]


def assert_same(ours, theirs, tolerance):
    """Every state, to `tolerance` times its largest element."""
    assert len(ours) == len(theirs)
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        scale = np.abs(b).max()
        np.testing.assert_allclose(a / scale, b / scale, atol=tolerance, err_msg=f"step {step}")
