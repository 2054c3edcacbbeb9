"""Answers of a policy, as log-probabilities, and their loss with its gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.objectives.policy_gradient import Draws, policy_gradient

B, G, N = 2, 3, 5
RNG = np.random.default_rng(0)
LENGTHS = np.array([[5, 2, 1], [1, 4, 5]])
MASK = np.arange(N) < LENGTHS[..., None]
ENDED = np.array([[False, True, True], [True, False, True]])
LOG_PROBS = -RNG.uniform(0.1, 3.0, (B, G, N)).astype(np.float32)
OLD = LOG_PROBS + RNG.normal(scale=0.3, size=(B, G, N)).astype(np.float32)
REFERENCE = LOG_PROBS + RNG.normal(scale=0.5, size=(B, G, N)).astype(np.float32)
ADVANTAGES = np.array([[1.2, -0.7, -0.5], [0.9, -1.3, 0.4]], np.float32)
DRAWS = Draws(
    log_probs=LOG_PROBS,
    mask=MASK,
    advantages=ADVANTAGES,
    old=OLD,
    reference=REFERENCE,
    ended=ENDED,
)


def ours(draws, rule):
    """Loss, gradient by the log-probabilities, metrics."""

    def loss(log_probs):
        return policy_gradient(draws.replace(log_probs=log_probs), rule)

    value, gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(draws.log_probs))
    return value[0], gradient, value[1]
