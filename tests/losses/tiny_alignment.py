"""A network of two parameters, its conditions and batches, and its errors by hand."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidpref.diffusion.ddpm import DDPM
from vidpref.losses.alignment import make_alignment_loss
from vidpref.training.sharding import make_mesh
from vidpref.training.state import create_state, state_shardings
from vidpref.training.step import make_train_step, put_batch
from vidpref.training.tuning import Everything
from vidpref.typing import Array

B, CLIP = 4, (2, 4, 4, 3)
PROCESS = DDPM("cosine", prediction="x0")
POLICY = {"scale": jnp.float32(0.6), "text": jnp.float32(0.3)}
REFERENCE = {"scale": jnp.float32(0.5), "text": jnp.float32(0.1)}


@flax.struct.dataclass
class Words:
    text: Array
    text_mask: Array
    low_res: Array | None = None
    low_res_tau: Array | None = None

    def repeat(self, k):
        return jax.tree.map(lambda x: jnp.repeat(x, k, axis=0), self)

    def without_text(self):
        return self.replace(text_mask=jnp.zeros_like(self.text_mask))


def make_condition(batch):
    low_res = batch.get("low_res")
    low_res = None if low_res is None else low_res.astype(jnp.float32) / 127.5 - 1.0
    return Words(batch["text"], batch["text_mask"], low_res)


def words_of(condition):
    return (condition.text * condition.text_mask[:, :, None]).mean(axis=(1, 2))


class Network:
    """`scale x_tau + text mean(words)`; remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, params, x_tau, tau, condition):
        self.calls.append((x_tau, tau, condition))
        text = words_of(condition).reshape(-1, 1, 1, 1, 1)
        return params["scale"] * x_tau + params["text"] * text


def draw_batch(k, seed=0, **extra):
    rng = np.random.default_rng(seed)
    return {
        "clips": rng.integers(0, 256, (B, k, *CLIP), dtype=np.uint8),
        "text": rng.normal(size=(B, 5, 6)).astype(np.float32),
        "text_mask": rng.uniform(size=(B, 5)) < 0.7,
        "reward": rng.uniform(size=(B, k)).astype(np.float32),
        **extra,
    }


def make(network, objective, hyper, **kwargs):
    tuning = Everything(lambda key: POLICY)
    settings = {"error_in": None, "reduction": "mean", "tuning": tuning, **kwargs}
    return make_alignment_loss(
        network, PROCESS, objective, hyper, make_condition=make_condition, **settings
    )


def errors_and_slopes(call, params, batch):
    """Errors [b, k] of the network and their derivative by each parameter, in float64."""
    x, _, condition = call
    x = np.asarray(x, np.float64)
    k = batch["clips"].shape[1]
    x0 = (batch["clips"].astype(np.float64) / 127.5 - 1).reshape(B * k, *CLIP)
    text = np.asarray(words_of(condition), np.float64).reshape(-1, 1, 1, 1, 1)
    difference = float(params["scale"]) * x + float(params["text"]) * text - x0
    mean = lambda a: a.mean(axis=(1, 2, 3, 4)).reshape(B, k)  # noqa: E731
    slopes = {"scale": mean(2 * difference * x), "text": mean(2 * difference * text)}
    return mean(difference**2), slopes


def run(objective, hyper, batch, frozen=None, seed=0, **settings):
    """Returns loss, metrics, gradient and the network's calls, all from one compiled step."""

    def step(params, frozen, batch, rng):
        network = Network()
        loss_fn = make(network, objective, hyper, **settings)

        def with_calls(params):
            loss, metrics = loss_fn(params, frozen, batch, rng)
            return loss, (metrics, network.calls)

        (loss, (metrics, calls)), gradient = jax.value_and_grad(with_calls, has_aux=True)(params)
        return loss, metrics, gradient, calls

    return jax.jit(step)(POLICY, frozen or {}, batch, jax.random.key(seed))


def one_step(params, frozen, loss_fn, batch, accumulate):
    """Loss and gradients of the training step: plain descent with rate 1 moves by the latter."""
    optimizer, mesh = optax.sgd(1.0), make_mesh({}, jax.devices()[:1])
    init = lambda key: params  # noqa: E731
    _, shardings = state_shardings(init, optimizer, mesh, with_ema=False)
    state = create_state(init, optimizer, shardings, seed=0)
    step = make_train_step(
        loss_fn, optimizer, lambda _: 1.0, shardings, mesh, accumulate=accumulate
    )
    state, metrics = step(state, frozen, put_batch(batch, mesh))
    gradient = jax.tree.map(lambda new, old: np.asarray(old - new), state.params, params)
    return jax.device_get(metrics), gradient
