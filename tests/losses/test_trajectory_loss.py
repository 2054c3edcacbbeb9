"""The loss of Flow-GRPO against closed forms in NumPy float64, with a network of two parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_alignment as tiny

from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers import Chain
from vidpref.diffusion.stochastic import StepNoise, step_weights, stochastic_sample
from vidpref.losses.trajectories import TrajectoryLoss
from vidpref.objectives.policy_gradient import PolicyGradient
from vidpref.training.tuning import Everything

B, G, STEPS, WINDOW = 3, 2, 5, (1, 4)
N = WINDOW[1] - WINDOW[0]
CLIP = (2, 4, 4, 3)
NOISE = StepNoise("flow_grpo", 0.7, WINDOW)
PROCESS = RectifiedFlow(prediction="x0")
OLDER = {"scale": jnp.float32(0.4), "text": jnp.float32(0.2)}


def chain(params, batch):
    def denoise(x, tau):
        shift = params["text"] * (batch["text"] * (1 + tau))[:, None, None, None, None]
        return params["scale"] * x + shift

    rows = len(batch["text"])
    keys = jax.random.split(jax.random.key(7), rows)
    start = jax.random.normal(jax.random.key(3), (rows, *CLIP))
    return Chain(PROCESS, denoise, start, STEPS, keys=keys)


def drawn(params, seed=0):
    """g trajectories of b prompts, as the policy with these parameters draws them."""
    rng = np.random.default_rng(seed)
    text = rng.normal(size=B).astype(np.float32)
    prompts = np.repeat(text, G)
    found = stochastic_sample(chain(params, {"text": prompts}), NOISE)
    return {
        "text": text,
        "states": np.asarray(found.states).reshape(B, G, N + 1, *CLIP),
        "log_probs": np.asarray(found.log_probs).reshape(B, G, N),
        "advantage": rng.normal(size=(B, G)).astype(np.float32),
    }


def loss_of(params, batch, reference=None, updates=1, **rule):
    rule = PolicyGradient(**{"clip_low": 1e-4, "divergence": "exact"} | rule)
    loss = TrajectoryLoss(chain, NOISE, rule, Everything(lambda key: params), updates=updates)
    frozen = {} if reference is None else {"reference": reference}
    function = jax.value_and_grad(
        lambda params: loss(params, frozen, batch, jax.random.key(0)), has_aux=True
    )
    (value, metrics), gradient = jax.jit(function)(params)
    return float(value), jax.device_get(metrics), jax.device_get(gradient)


def by_hand(params, batch):
    """Log-probability and mean of every step, and their derivatives by `scale`, in float64."""
    weights = step_weights(chain(params, batch), NOISE)
    log_probs, slopes = np.zeros((B, G, N)), np.zeros((B, G, N))
    means = np.zeros((B, G, N, *CLIP))
    scale, text = float(params["scale"]), float(params["text"])
    for i, step in enumerate(range(*WINDOW)):
        tau, of_x0, of_eps, std = (
            float(w[step]) for w in (weights.tau, weights.of_x0, weights.of_eps, weights.std)
        )
        x, after = (batch["states"][:, :, j].astype(np.float64) for j in (i, i + 1))
        shift = text * batch["text"].astype(np.float64) * (1 + tau)
        x0 = scale * x + shift[:, None, None, None, None, None]
        mean = of_x0 * x0 + of_eps * (x - (1 - tau) * x0) / tau
        slope = (of_x0 - of_eps * (1 - tau) / tau) * x
        over = tuple(range(2, 6))
        density = -0.5 * ((after - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
        log_probs[:, :, i] = density.mean(axis=over)
        slopes[:, :, i] = ((after - mean) / std**2 * slope).mean(axis=over)
        means[:, :, i] = mean / std
    return log_probs, slopes, means


def test_before_the_first_update_the_ratio_is_one_and_the_gradient_is_that_of_reinforce():
    batch = drawn(tiny.POLICY)
    value, metrics, gradient = loss_of(tiny.POLICY, batch)
    log_probs, slopes, _ = by_hand(tiny.POLICY, batch)
    np.testing.assert_allclose(batch["log_probs"], log_probs, rtol=1e-4)
    assert set(metrics) == {"sampler_gap"}
    assert metrics["sampler_gap"] < 1e-5
    np.testing.assert_allclose(value, -batch["advantage"].mean(), rtol=1e-5)
    expected = -(batch["advantage"][..., None] * slopes).mean()
    np.testing.assert_allclose(gradient["scale"], expected, rtol=1e-3)


def test_ratios_are_to_the_policy_that_drew_where_it_learns_several_times():
    batch = drawn(OLDER)
    value, metrics, gradient = loss_of(tiny.POLICY, batch, updates=2, clip_low=0.05)
    log_probs, slopes, _ = by_hand(tiny.POLICY, batch)
    before, _, _ = by_hand(OLDER, batch)
    ratio, advantage = np.exp(log_probs - before), batch["advantage"][..., None]
    clipped = np.clip(ratio, 0.95, 1.05)
    expected = -np.minimum(ratio * advantage, clipped * advantage).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["ratio"], ratio.mean(), rtol=1e-4)
    free = ratio * advantage <= clipped * advantage
    slope = -(np.where(free, ratio * advantage, 0.0) * slopes).mean()
    np.testing.assert_allclose(gradient["scale"], slope, rtol=1e-3)
    assert 0 < metrics["clip_fraction"] < 1


def test_the_divergence_from_the_reference_is_that_of_two_gaussians():
    batch = drawn(tiny.POLICY)
    value, metrics, _ = loss_of(tiny.POLICY, batch, OLDER, kl_coefficient=0.5)
    _, _, means = by_hand(tiny.POLICY, batch)
    _, _, others = by_hand(OLDER, batch)
    kl = ((means - others) ** 2).mean() / 2
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-3)
    np.testing.assert_allclose(value, -batch["advantage"].mean() + 0.5 * kl, rtol=1e-3)
    value, metrics, _ = loss_of(OLDER, drawn(OLDER), OLDER, kl_coefficient=0.5)
    assert metrics["kl"] == 0.0


def test_a_divergence_without_a_reference_is_refused():
    with pytest.raises(ValueError, match="held to a reference policy, and none was given"):
        loss_of(tiny.POLICY, drawn(tiny.POLICY), kl_coefficient=0.5)


def test_a_window_that_slides_is_found_by_its_first_step():
    """Steps 1 to 3 of a window that may lie anywhere, as those of one that lies there."""
    batch = drawn(tiny.POLICY) | {"first_step": np.full(B, WINDOW[0], np.int32)}
    rule, tuning = PolicyGradient(clip_low=1e-4), Everything(lambda key: tiny.POLICY)
    sliding = StepNoise("flow_grpo", 0.7, (0, N), slides=True)
    values = [
        jax.value_and_grad(
            lambda params, noise=noise: TrajectoryLoss(chain, noise, rule, tuning)(
                params, {}, batch, jax.random.key(0)
            ),
            has_aux=True,
        )(tiny.POLICY)
        for noise in (NOISE, sliding)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *values)


def test_a_data_term_is_the_error_on_real_clips():
    batch = drawn(tiny.POLICY)
    real = tiny.draw_batch(1)
    error = tiny.make(tiny.Network(), "sft", {})
    rule = PolicyGradient(clip_low=1e-4, divergence="exact")
    tuning = Everything(lambda key: tiny.POLICY)
    args = (tiny.POLICY, {}, batch | {"real": real}, jax.random.key(0))
    plain = TrajectoryLoss(chain, NOISE, rule, tuning)
    held = TrajectoryLoss(chain, NOISE, rule, tuning, real=error, real_weight=3.0)
    expected, _ = error(tiny.POLICY, {}, real, jax.random.key(0))
    loss, metrics = held(*args)
    np.testing.assert_allclose(metrics["error_real"], expected, rtol=1e-6)
    np.testing.assert_allclose(loss, plain(*args)[0] + 3.0 * expected, rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_microbatches_add_up(accumulate):
    batch = drawn(tiny.POLICY)
    rule = PolicyGradient(clip_low=1e-4, divergence="exact", kl_coefficient=0.1)
    loss = TrajectoryLoss(chain, NOISE, rule, Everything(lambda key: tiny.POLICY))
    metrics, gradient = tiny.one_step(tiny.POLICY, {"reference": OLDER}, loss, batch, accumulate)
    value, whole, expected = loss_of(tiny.POLICY, batch, OLDER, kl_coefficient=0.1)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-4)
    np.testing.assert_allclose(metrics["kl"], whole["kl"], rtol=1e-4)
    for name in gradient:
        np.testing.assert_allclose(gradient[name], expected[name], rtol=1e-3, atol=1e-5)
