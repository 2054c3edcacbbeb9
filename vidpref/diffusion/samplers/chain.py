"""One run of a sampler: the noise it starts from, the network it calls, the noise it adds."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.process import Process
from vidpref.typing import Array, Float, Int, Key, PyTree

Denoise = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Chain:
    """What every sampler takes: a way from noise to clips in `steps` calls of a network.

    Attributes:
        process: noise process that the network was trained on.
        denoise: `(x_tau [b, t, h, w, c], tau [b]) -> output`, a closure over parameters and
            condition; the output means `process.prediction`.
        noise: standard normal, where the chain starts.
        steps: calls of the network.
        eta: for "ddim", 0 is deterministic and 1 is as random as "ddpm".
        keys: one key a clip for samplers that add noise; a clip depends on its own key alone,
            never on its neighbours in the batch.
        step_noise: the noise that the steps add, instead of noise drawn from `keys`.
        clip_x0: bound of the predicted clean clip at every step, [-clip_x0, clip_x0].
    """

    process: Process
    denoise: Denoise
    noise: Float[Array, "b t h w c"]
    steps: int
    eta: float = 0.0
    keys: Key[Array, " b"] | None = None
    step_noise: Float[Array, "b steps t h w c"] | None = None
    clip_x0: float | None = None

    @property
    def times(self) -> Float[np.ndarray, " entries"]:
        """The `steps + 1` falling times: of every call, and 0."""
        return self.process.sampling_times(self.steps)

    def predict(
        self,
        x_tau: Float[Array, "b t h w c"],
        tau: Float[Array, ""],
        told: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, "b t h w c"], Float[Array, "b t h w c"]]:
        """Calls the network once; returns the clean clips and the noise that its output implies.

        After clipping, the noise is derived from the clipped clip anew, so that both always compose
        to `x_tau`.

        Args:
            x_tau: state of the chain.
            tau: its time.
            told: time that the network is told, where it is another.
        """
        rows = x_tau.shape[:1]
        tau = jnp.full(rows, tau)
        output = self.denoise(x_tau, tau if told is None else jnp.full(rows, told))
        output = output.astype(x_tau.dtype)
        x0 = self.process.to_x0(output, x_tau, tau)
        eps = self.process.to_noise(output, x_tau, tau)
        if self.clip_x0 is not None:
            x0 = jnp.clip(x0, -self.clip_x0, self.clip_x0)
            eps = self.process.convert(x0, x_tau, tau, source="x0", to="eps")
        return x0, eps

    def fresh_noise(self, index: int | Int[Array, ""]) -> Float[Array, "b t h w c"]:
        """Returns the noise that is added after call `index`, each clip's from its own key.

        Raises:
            ValueError: the chain has neither keys nor noise.
        """
        if self.step_noise is not None:
            return self.step_noise[:, index].astype(self.noise.dtype)
        if self.keys is None:
            raise ValueError(
                "this sampler adds noise: give keys, one for each clip of the batch, or step_noise"
            )
        return drawn_noise(self.keys, index, self.noise.shape[1:]).astype(self.noise.dtype)

    def scan(self, step: Callable[..., PyTree], state: PyTree, *weights: np.ndarray) -> Any:
        """Returns the last state of `state = step(state, index, *weights[index])`.

        Args:
            step: one step, with the call `index` of the network in it.
            state: the first state.
            weights: weights of every step, computed on the host in float64; steps see them in
                float32.
        """
        xs = jnp.arange(self.steps), *(w.astype(np.float32) for w in weights)
        state, _ = jax.lax.scan(lambda state, x: (step(state, *x), None), state, xs)
        return state


def drawn_noise(
    keys: Key[Array, " b"], index: int | Int[Array, ""], clip_shape: tuple[int, ...]
) -> Float[Array, " b *clip"]:
    """Returns the noise of step `index` of clips with these keys."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), clip_shape))(keys)


def half_log_snr(
    alpha: Float[np.ndarray, " entries"], sigma: Float[np.ndarray, " entries"]
) -> Float[np.ndarray, " entries"]:
    """Returns `log(alpha / sigma)`, the time in which exponential integrators step.

    Minus infinity without signal, plus infinity without noise.
    """
    with np.errstate(divide="ignore"):
        return np.log(alpha) - np.log(sigma)
