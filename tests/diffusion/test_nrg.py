"""Guidance against the papers' formulas, and against Gaussians whose tilt is known exactly.

For clips N(mu, s^2) and the reward g.x the tilted clips are N(mu + w s^2 g, s^2). The log of
`E[exp(w g.x0) | x_tau]` has the gradient of w g.E[x0 | x_tau], as the posterior's variance is the
same everywhere; so that is the exact reward of the noisy clip.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.guidance import classifier_free
from vidpref.diffusion.nrg import (
    clean_reward_guidance,
    dimension_weights,
    noise_reward_guidance,
)
from vidpref.diffusion.samplers import Chain, sample
from vidpref.typing import Array

SHAPE = (4, 2, 2, 2, 1)
X = jax.random.normal(jax.random.key(0), SHAPE)
TAU = jnp.array([0.1, 0.4, 0.75, 0.95])
WEIGHTS = np.float32([0.5, -1.5])
SCALE = 3.0
PROCESSES = [
    RectifiedFlow(),
    RectifiedFlow(prediction="x0"),
    DDPM("cosine", prediction="eps"),
    DDPM("linear", prediction="x0"),
    DDPM("cosine", prediction="v"),
]


def network(x, tau):
    return jnp.tanh(x) * tau.reshape(-1, 1, 1, 1, 1)


def squares(x, tau):
    """Two dimensions, `sum x^2 / 2` and `tau sum x`, whose gradients are x and tau."""
    total = x.reshape(len(x), -1).sum(axis=1)
    return jnp.stack([(x**2 / 2).reshape(len(x), -1).sum(axis=1), tau * total], axis=1)


def weighted_gradient(x, tau):
    return WEIGHTS[0] * x + WEIGHTS[1] * rows(tau)


def rows(tau):
    return np.asarray(tau).reshape(-1, 1, 1, 1, 1)


def guided(process, denoise=network, reward=squares, wrap=noise_reward_guidance):
    return jax.jit(wrap(denoise, reward, process, WEIGHTS, scale=SCALE))


def test_velocity_is_that_of_videoalign():
    got = guided(RectifiedFlow())(X, TAU)
    expected = network(X, TAU) - SCALE * rows(TAU / (1 - TAU)) * weighted_gradient(X, TAU)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "velocity"])
def test_ddpm_is_classifier_guidance_whatever_is_predicted(kind):
    process = DDPM("linear", prediction=kind)
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[np.rint(TAU * 1000).astype(int) - 1]
    alpha, sigma = rows(np.sqrt(abar)), rows(np.sqrt(1 - abar))
    score = SCALE * weighted_gradient(X, TAU)
    shift = {
        "eps": -sigma * score,  # Dhariwal and Nichol, algorithm 2
        "x0": sigma**2 / alpha * score,
        "v": -sigma / alpha * score,
        "velocity": -(sigma + sigma**2 / alpha) * score,
    }
    got = guided(process)(X, TAU)
    np.testing.assert_allclose(got, network(X, TAU) + shift[kind], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("process", [*PROCESSES[:3], DDPM("linear", zero_terminal_snr=True)])
@pytest.mark.parametrize("wrap", [noise_reward_guidance, clean_reward_guidance])
def test_pure_noise_is_not_guided(process, wrap):
    ones = jnp.ones(4)
    plain = jax.jit(network)(X, ones)
    np.testing.assert_array_equal(guided(process, wrap=wrap)(X, ones), plain)
    assert jnp.abs(guided(process, wrap=wrap)(X, TAU) - network(X, TAU)).max() > 0.1


def test_first_time_of_the_unipc_grid_counts_as_pure_noise():
    process = RectifiedFlow(spacing="unipc")
    tau = jnp.full(4, np.float32(process.sampling_times(10)[0]))
    assert tau[0] < 1
    np.testing.assert_array_equal(guided(process)(X, tau), jax.jit(network)(X, tau))


MEAN = np.array([0.4, -0.3, 0.0, 1.0, -1.0, 0.2, 0.1, 0.7]).reshape(SHAPE[1:])
GRADIENT = np.random.default_rng(1).normal(size=(2, *SHAPE[1:]))
STD = 0.6
TILTED_MEAN = MEAN + SCALE * STD**2 * np.tensordot(WEIGHTS, GRADIENT, 1)


def gaussian_denoiser(process, mean):
    """The exact network for clips N(mean, STD^2), by weighing prior and observation."""

    def posterior_mean(x, tau):
        alpha, sigma = (w.reshape(-1, 1, 1, 1, 1) for w in process.alpha_sigma(tau))
        prior, seen = sigma**2, (alpha * STD) ** 2
        return (prior * mean[None] + alpha * STD**2 * x) / (prior + seen)

    def denoise(x, tau):
        return process.convert(posterior_mean(x, tau), x, tau, source="x0", to=process.prediction)

    return posterior_mean, denoise


def linear_reward(x, tau):
    return jnp.einsum("bthwc,dthwc->bd", x, GRADIENT)


def gaussian_guidance(process, wrap):
    posterior_mean, denoise = gaussian_denoiser(process, MEAN)
    if wrap is clean_reward_guidance:
        reward = linear_reward
    else:
        reward = lambda x, tau: linear_reward(posterior_mean(x, tau), tau)  # noqa: E731
    return denoise, wrap(denoise, reward, process, WEIGHTS, scale=SCALE)


@pytest.mark.parametrize("process", PROCESSES, ids=str)
@pytest.mark.parametrize("wrap", [noise_reward_guidance, clean_reward_guidance])
def test_guided_gaussian_is_the_tilted_gaussian(process, wrap):
    _, guided = gaussian_guidance(process, wrap)
    _, tilted = gaussian_denoiser(process, TILTED_MEAN)
    got = process.to_x0(jax.jit(guided)(X, TAU), X, TAU)
    expected = process.to_x0(tilted(X, TAU), X, TAU)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("process", "sampler"),
    [
        (RectifiedFlow(), "euler"),
        (RectifiedFlow(spacing="unipc"), "unipc"),
        (DDPM("cosine", prediction="v"), "ddim"),
        (DDPM("cosine", prediction="eps", spacing="leading"), "ddpm"),
    ],
    ids=str,
)
def test_guided_samples_are_tilted_samples(process, sampler):
    denoise, guided = gaussian_guidance(process, noise_reward_guidance)
    keys = jax.random.split(jax.random.key(5), 4)

    @jax.jit
    def draw(noise):
        chains = [
            sample(sampler, Chain(process, network, noise, steps=200, keys=keys))
            for network in (denoise, guided)
        ]
        return chains[1] - chains[0]

    # the same noise moves by the same amount: both chains are affine with the same slope
    shift = np.broadcast_to(TILTED_MEAN - MEAN, SHAPE)
    error = np.abs(draw(X) - shift).max() / np.abs(shift).max()
    assert error < 0.02


@flax.struct.dataclass
class Words:
    text: Array
    text_mask: Array

    def without_text(self):
        return self.replace(text_mask=jnp.zeros_like(self.text_mask))


def test_joins_with_classifier_free_guidance_and_scores_each_clip_once():
    words = Words(jnp.arange(4.0)[:, None], jnp.ones((4, 1), bool))
    seen = []

    def with_words(x, tau, words):
        text = (words.text * words.text_mask).sum(axis=1)
        return network(x, tau) + text.reshape(-1, 1, 1, 1, 1)

    def reward(x, tau):
        seen.append(len(x))
        return squares(x, tau)

    process = RectifiedFlow()
    denoise = classifier_free(with_words, words, 4.0)
    got = noise_reward_guidance(denoise, reward, process, WEIGHTS, scale=SCALE)(X, TAU)
    shift = guided(process)(X, TAU) - network(X, TAU)
    np.testing.assert_allclose(got, denoise(X, TAU) + shift, rtol=1e-4, atol=1e-4)
    assert seen == [4]


@pytest.mark.parametrize("wrap", [noise_reward_guidance, clean_reward_guidance])
def test_scale_zero_leaves_the_reward_out(wrap):
    assert wrap(network, squares, RectifiedFlow(), WEIGHTS, scale=0.0) is network


def test_weights_by_name():
    dims = ("visual", "motion", "text")
    np.testing.assert_array_equal(dimension_weights({"text": 2, "visual": 0.5}, dims), [0.5, 0, 2])
    with pytest.raises(ValueError, match=r"'motoin', which is no dimension.*did you mean motion"):
        dimension_weights({"motoin": 1.0}, dims)
    with pytest.raises(ValueError, match="motion=nan must be finite"):
        dimension_weights({"motion": float("nan")}, dims)
