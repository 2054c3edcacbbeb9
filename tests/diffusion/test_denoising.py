import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.denoising import corrupt_clips, denoising_errors
from vidpref.typing import Array

B, K, CLIP = 4, 3, (2, 4, 4, 3)
ELEMENTS = 2 * 4 * 4 * 3


@flax.struct.dataclass
class Row:
    """A condition that tells the network which prompt a clip belongs to."""

    index: Array

    def repeat(self, k):
        return Row(jnp.repeat(self.index, k))


CONDITION = Row(jnp.arange(B))


def denoising_error(denoise, process, corrupted, condition, **settings):
    """The errors of a single group of clips."""
    return denoising_errors(denoise, process, [(corrupted, condition)], **settings)[0]


@pytest.fixture(scope="module")
def clips():
    return jax.random.uniform(jax.random.key(0), (B, K, *CLIP), minval=-1, maxval=1)


def test_clips_of_a_prompt_share_time_and_noise(clips):
    process = DDPM("cosine")
    corrupted = corrupt_clips(process, jax.random.key(1), clips)
    alpha, sigma = process.alpha_sigma(corrupted.tau)
    assert corrupted.tau.shape == (B,)
    for k in range(K):
        residual = corrupted.x_tau[:, k] - alpha.reshape(-1, 1, 1, 1, 1) * clips[:, k]
        expected = sigma.reshape(-1, 1, 1, 1, 1) * corrupted.eps
        np.testing.assert_allclose(residual, expected, atol=1e-6)
    assert len(np.unique(corrupted.tau)) == B  # prompts differ among themselves
    assert not np.allclose(corrupted.eps[0], corrupted.eps[1])


def test_corruption_has_the_marginals_of_the_process():
    process, b = DDPM("linear", steps=3), 3000
    clips = jnp.full((b, 1, 2, 4, 4, 1), 0.5)
    corrupted = corrupt_clips(process, jax.random.key(2), clips)
    for n in (1, 2, 3):
        rows = np.rint(np.asarray(corrupted.tau) * 3) == n
        x = np.asarray(corrupted.x_tau)[rows]
        alpha, sigma = (float(w[0]) for w in process.alpha_sigma(np.full(1, n / 3)))
        # About 32 000 draws: standard errors sigma/179 of the mean and sigma/253 of the deviation.
        np.testing.assert_allclose(x.mean(), 0.5 * alpha, atol=5 * sigma / 170)
        np.testing.assert_allclose(x.std(), sigma, rtol=5 / 240)


@pytest.mark.parametrize(("reduction", "expected"), [("mean", 0.09), ("sum", 0.09 * ELEMENTS)])
@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "velocity"])
def test_constant_offset_from_the_truth(clips, prediction, reduction, expected):
    process = DDPM("cosine", prediction=prediction)
    corrupted = corrupt_clips(process, jax.random.key(1), clips)
    flat = clips.reshape(-1, *CLIP)
    eps = jnp.repeat(corrupted.eps, K, axis=0)

    def denoise(x, tau, condition):
        assert x.shape[0] == B * K  # one batch
        return process.target(flat, eps, tau) + 0.3

    error = denoising_error(denoise, process, corrupted, CONDITION, reduction=reduction)
    np.testing.assert_allclose(error, np.full((B, K), expected), rtol=1e-5)


def test_x0_error_measured_in_v(clips):
    process = DDPM("cosine", prediction="x0")
    corrupted = corrupt_clips(process, jax.random.key(1), clips)

    def denoise(x, tau, condition):
        return 0.5 * x

    in_x0 = denoising_error(denoise, process, corrupted, CONDITION)
    in_v = denoising_error(denoise, process, corrupted, CONDITION, error_in="v")
    _, sigma = process.alpha_sigma(np.asarray(corrupted.tau, np.float64))
    np.testing.assert_allclose(in_v, in_x0 / (sigma[:, None] ** 2), rtol=1e-5)
    difference = 0.5 * corrupted.x_tau - clips
    np.testing.assert_allclose(in_x0, (difference**2).mean(axis=(2, 3, 4, 5)), rtol=1e-5)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("error_in", ["eps", "v", "x0"])
def test_error_space_equals_converting_the_output_in_float64(clips, prediction, error_in):
    """At every time, the smallest noise included, against NumPy float64."""
    process = DDPM("cosine", prediction=prediction)
    rows = clips[:, 0]
    tau = np.array([1, 10, 500, 990]) / 1000
    corrupted = corrupt_clips(process, jax.random.key(1), clips[:, :1])
    x_tau = process.corrupt(rows, corrupted.eps, jnp.asarray(tau))
    corrupted = corrupted.replace(x_tau=x_tau[:, None], tau=jnp.asarray(tau))
    got = denoising_error(
        lambda x, tau, condition: 0.5 * x, process, corrupted, CONDITION, error_in=error_in
    )

    alpha, sigma = (w.reshape(-1, 1, 1, 1, 1) for w in process.alpha_sigma(tau))
    x0, eps = np.asarray(rows, np.float64), np.asarray(corrupted.eps, np.float64)
    x = alpha * x0 + sigma * eps
    output = {"x0": lambda o: o, "eps": lambda o: (x - sigma * o) / alpha}
    output["v"] = lambda o: alpha * x - sigma * o
    got_x0 = output[prediction](0.5 * x)
    got_eps = (x - alpha * got_x0) / sigma
    kinds = {"x0": (got_x0, x0), "eps": (got_eps, eps)}
    kinds["v"] = (alpha * got_eps - sigma * got_x0, alpha * eps - sigma * x0)
    a, b = kinds[error_in]
    np.testing.assert_allclose(got[:, 0], ((a - b) ** 2).mean(axis=(1, 2, 3, 4)), rtol=1e-5)


def test_gradient_equals_the_closed_form(clips):
    """d/da mean((a x - x0)^2) = 2 mean(x (a x - x0))."""
    process = DDPM("linear", prediction="x0")
    corrupted = corrupt_clips(process, jax.random.key(1), clips)

    def total(a):
        return denoising_error(lambda x, tau, c: a * x, process, corrupted, CONDITION).sum()

    x = corrupted.x_tau
    expected = 2 * (x * (0.4 * x - clips)).mean(axis=(2, 3, 4, 5)).sum()
    np.testing.assert_allclose(jax.grad(total)(0.4), expected, rtol=1e-5)


def test_condition_goes_with_its_prompt(clips):
    process = DDPM("linear", prediction="x0")
    corrupted = corrupt_clips(process, jax.random.key(1), clips)
    flat = clips.reshape(-1, *CLIP)

    def denoise(x, tau, condition):
        return flat + condition.index.reshape(-1, 1, 1, 1, 1)

    error = denoising_error(denoise, process, corrupted, CONDITION)
    np.testing.assert_allclose(error, np.broadcast_to([[0], [1], [4], [9]], (B, K)), atol=1e-5)


def test_low_precision_output_is_reduced_in_float32(clips):
    process = DDPM("linear", prediction="x0")
    corrupted = corrupt_clips(process, jax.random.key(1), clips)
    error = denoising_error(
        lambda x, tau, c: jnp.zeros(x.shape, jnp.bfloat16), process, corrupted, CONDITION
    )
    assert error.dtype == jnp.float32
    np.testing.assert_allclose(error, (clips**2).mean(axis=(2, 3, 4, 5)), rtol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"reduction": "average"}, "reduction='average': known are mean, sum"),
        ({"error_in": "epsilon"}, "error_in='epsilon': known predictions are x0, eps, v"),
    ],
)
def test_wrong_settings_are_named(clips, kwargs, message):
    corrupted = corrupt_clips(DDPM(), jax.random.key(1), clips)
    with pytest.raises(ValueError, match=message):
        denoising_error(lambda x, t, c: x, DDPM(), corrupted, CONDITION, **kwargs)
