"""Small random errors and labels, and hyper-parameters of every objective, for these tests."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from vidpref.objectives.alignment import Errors, Labels

B = 6

# Every objective, and the variants that take another way through it.
CASES = {
    "sft": ("sft", {}),
    "rwr": ("rwr", {"eta": 2.0, "gamma": 0.1}),
    "flow_rwr": ("flow_rwr", {"beta": 0.7, "real_weight": 0.2}),
    "dpo": ("dpo", {"beta": 20.0, "nll_weight": 0.3}),
    "dpo_all": (
        "dpo",
        {
            "beta": 20.0,
            "nll_weight": 0.3,
            "real_weight": 0.2,
            "time_power": 2.0,
            "pair_weight": "gap",
            "pair_weight_power": 0.5,
            "pair_weight_reference": 2.0,
        },
    ),
    "dpo_probability": ("dpo", {"beta": 20.0, "pair_weight": "probability"}),
    "mcdpo": ("mcdpo", {"beta": 20.0, "real_weight": 0.2, "camera_motion": 0.5}),
    "kto_mean": ("kto", {"beta": 20.0, "real_weight": 0.2}),
    "kto_balanced": ("kto", {"beta": 20.0, "reference_point": "balanced"}),
    "kto_own_class": ("kto", {"beta": 20.0, "reference_point": "own_class"}),
    "kto_mismatched": ("kto", {"beta": 20.0, "reference_point": "mismatched"}),
    "diffusion_nft": ("diffusion_nft", {"beta": 0.5}),
    "diffusion_nft_held": ("diffusion_nft", {"beta": 0.5, "kl": 0.2}),
    "awm": ("awm", {"clip": 1.0}),
}


def draw(k, seed=0):
    """Errors of policy and reference and rewards, each [B, k]."""
    rng = np.random.default_rng(seed)
    policy, reference = rng.uniform(0.1, 1.0, (2, B, k)).astype(np.float32)
    return policy, reference, rng.uniform(0, 1, (B, k)).astype(np.float32)


def errors(policy, reference=None, **more):
    tau = jnp.linspace(0.1, 1.0, len(policy))
    reference = None if reference is None else jnp.asarray(reference)
    more = {name: jnp.asarray(value) for name, value in more.items()}
    return Errors(policy=jnp.asarray(policy), reference=reference, tau=tau, **more)


def labels(reward, weight=None, motion=None, pair_score=None):
    more = (None if x is None else jnp.asarray(x) for x in (weight, motion, pair_score))
    return Labels(jnp.asarray(reward), *more)


def gradient(objective, policy, reference, labels, more=None, **hyper):
    """With respect to the policy's errors; `more` are further errors."""
    return jax.grad(lambda p: objective(errors(p, reference, **(more or {})), labels, **hyper)[0])(
        jnp.asarray(policy)
    )


def torch_gradient(loss, *arrays):
    """Value and gradients of `loss(*tensors)` in float64."""
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    value = loss(*tensors)
    return value.item(), torch.autograd.grad(value, tensors)
