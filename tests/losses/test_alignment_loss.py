"""The loss against closed forms in NumPy float64, with a network of two parameters."""

import jax
import numpy as np
import pytest
import scipy.special
from tiny_alignment import (
    CLIP,
    POLICY,
    PROCESS,
    REFERENCE,
    B,
    Network,
    draw_batch,
    errors_and_slopes,
    make,
    run,
)


def test_sft_equals_the_closed_form():
    batch = draw_batch(1)
    loss, _, gradient, (call,) = run("sft", {}, batch)
    errors, slopes = errors_and_slopes(call, POLICY, batch)
    np.testing.assert_allclose(loss, errors.mean(), rtol=1e-5)
    for name in POLICY:
        np.testing.assert_allclose(gradient[name], slopes[name].mean(), rtol=1e-4, atol=1e-6)


def test_rwr_equals_the_closed_form_and_skips_padding():
    weight = np.float32([1, 0, 1, 1])
    batch = draw_batch(1, weight=weight)
    loss, metrics, gradient, (call,) = run("rwr", {"eta": 2, "gamma": 0.5}, batch)
    errors, slopes = errors_and_slopes(call, POLICY, batch)
    factor = (2 * batch["reward"] + 0.5)[:, 0] * weight / 3
    np.testing.assert_allclose(loss, factor @ errors[:, 0], rtol=1e-5)
    for name in POLICY:
        np.testing.assert_allclose(gradient[name], factor @ slopes[name][:, 0], rtol=1e-4)
    np.testing.assert_allclose(metrics["weight"], factor.sum(), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("error_in", ["x0", "v"])
def test_dpo_equals_the_closed_form(error_in, reduction):
    beta, nll_weight = 4.0, 0.25
    batch = draw_batch(2)
    hyper = {"beta": beta, "nll_weight": nll_weight}
    frozen = {"reference": REFERENCE}
    loss, metrics, gradient, (of_reference, of_policy) = run(
        "dpo", hyper, batch, frozen, error_in=error_in, reduction=reduction
    )

    reference, _ = errors_and_slopes(of_reference, REFERENCE, batch)
    policy, slopes = errors_and_slopes(of_policy, POLICY, batch)
    _, sigma = PROCESS.alpha_sigma(np.asarray(of_policy[1], np.float64).reshape(B, 2))
    factor = np.prod(CLIP) if reduction == "sum" else 1.0
    factor = factor / sigma**2 if error_in == "v" else np.full((B, 2), factor)
    d = factor * (policy - reference)
    logit = beta / 2 * (d[:, 1] - d[:, 0])
    winner = factor[:, 0] * policy[:, 0]
    expected = -scipy.special.log_expit(logit).mean() + nll_weight * winner.mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    pull = beta / 2 * scipy.special.expit(-logit)
    for name in POLICY:
        s = factor * slopes[name]
        slope = (pull * (s[:, 0] - s[:, 1])).mean() + nll_weight * s[:, 0].mean()
        np.testing.assert_allclose(gradient[name], slope, rtol=1e-3)
    np.testing.assert_allclose(metrics["error_winner"], winner.mean(), rtol=1e-4)


def test_dpo_of_the_reference_is_log_two():
    batch = draw_batch(2)
    loss, _, gradient, calls = run("dpo", {"beta": 40.0}, batch, {"reference": POLICY})
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-5)  # compiled: the two sums may round apart
    _, slopes = errors_and_slopes(calls[-1], POLICY, batch)
    for name, slope in slopes.items():
        expected = 40.0 / 4 * (slope[:, 0] - slope[:, 1]).mean()
        np.testing.assert_allclose(gradient[name], expected, rtol=1e-4, atol=1e-5)


def test_policy_and_reference_see_the_same_clips_time_noise_and_text():
    batch, frozen = draw_batch(2), {"reference": REFERENCE}
    *_, (first, second) = run("dpo", {"beta": 1.0}, batch, frozen, condition_dropout=0.5)
    jax.tree.map(np.testing.assert_array_equal, first, second)

    x_tau, tau, condition = first
    x_tau, tau = np.reshape(x_tau, (B, 2, *CLIP)), np.reshape(tau, (B, 2))
    np.testing.assert_array_equal(tau[:, 0], tau[:, 1])
    alpha, sigma = (w.reshape(B, 1, 1, 1, 1, 1) for w in PROCESS.alpha_sigma(tau[:, 0]))
    eps = (x_tau - alpha * (batch["clips"] / 127.5 - 1)) / sigma
    np.testing.assert_allclose(eps[:, 0], eps[:, 1], atol=1e-4)
    masks = np.asarray(condition.text_mask).reshape(B, 2, -1)
    np.testing.assert_array_equal(masks[:, 0], masks[:, 1])


def test_gradient_does_not_flow_into_the_reference():
    loss_fn = make(Network(), "dpo", {"beta": 4.0})
    frozen = {"reference": REFERENCE}
    gradient = jax.grad(lambda f: loss_fn(POLICY, f, draw_batch(2), jax.random.key(0))[0])(frozen)
    assert gradient == {"reference": {"scale": 0.0, "text": 0.0}}


def test_dropout_takes_the_text_from_the_stated_share_of_rows():
    batch = draw_batch(1)
    batch = {name: np.repeat(value, 500, axis=0) for name, value in batch.items()}
    *_, ((_, _, condition),) = run("sft", {}, batch, condition_dropout=0.25)
    kept = (np.asarray(condition.text_mask) == batch["text_mask"]).all(axis=1)
    assert not np.asarray(condition.text_mask)[~kept].any()
    # 2000 rows: a standard deviation is 0.0097. Rows without any word count as kept.
    had_words = batch["text_mask"].any(axis=1)
    np.testing.assert_allclose((~kept)[had_words].mean(), 0.25, atol=0.05)
    np.testing.assert_array_equal(condition.text, batch["text"])


def test_low_res_input_is_corrupted_up_to_the_stated_time():
    b = 500
    low_res = np.full((b, 2, 4, 4, 1), 255, np.uint8)
    batch = draw_batch(1)
    batch = {name: np.repeat(value, b // B, axis=0) for name, value in batch.items()}
    batch["low_res"] = low_res
    *_, ((_, _, condition),) = run("sft", {}, batch, low_res_augmentation=0.4)
    tau = np.asarray(condition.low_res_tau)
    assert tau.min() >= 0
    assert 0.38 < tau.max() <= 0.4
    np.testing.assert_allclose(tau.mean(), 0.2, atol=0.03)
    alpha, sigma = (w.reshape(-1, 1, 1, 1, 1) for w in PROCESS.alpha_sigma(tau))
    noise = (np.asarray(condition.low_res) - alpha)[tau > 0.1] / sigma[tau > 0.1]
    np.testing.assert_allclose([noise.mean(), noise.std()], [0.0, 1.0], atol=0.05)


def test_without_augmentation_the_low_res_input_is_clean():
    low_res = np.random.default_rng(1).integers(0, 256, (B, 2, 4, 4, 1), np.uint8)
    batch = draw_batch(1, low_res=low_res)
    *_, ((_, _, condition),) = run("sft", {}, batch)
    np.testing.assert_array_equal(condition.low_res_tau, np.zeros(B))
    np.testing.assert_allclose(condition.low_res, low_res / 127.5 - 1, atol=1e-6)


def test_randomness_comes_from_the_key_alone():
    apply = lambda params, x, tau, condition: params["scale"] * x  # noqa: E731
    loss_fn = jax.jit(make(apply, "sft", {}))
    batch = draw_batch(1)
    first, again, other = (loss_fn(POLICY, {}, batch, jax.random.key(s))[0] for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_wrong_number_of_clips_is_named():
    loss_fn = make(Network(), "dpo", {"beta": 1.0})
    with pytest.raises(ValueError, match="dpo takes 2 or more clips a row, the rows have 1"):
        loss_fn(POLICY, {"reference": REFERENCE}, draw_batch(1), jax.random.key(0))


@pytest.mark.parametrize(
    ("objective", "hyper", "settings", "message"),
    [
        ("dpo", {"beta": 0.0}, {}, "dpo: beta=0.0: must be > 0"),
        ("dqo", {"beta": 1.0}, {}, "did you mean dpo"),
        ("sft", {}, {"condition_dropout": 1.5}, "condition_dropout=1.5 must lie in"),
        ("sft", {}, {"low_res_augmentation": -0.5}, "low_res_augmentation=-0.5 must lie in"),
    ],
)
def test_wrong_settings_are_named_before_anything_runs(objective, hyper, settings, message):
    with pytest.raises(ValueError, match=message):
        make(Network(), objective, hyper, **settings)
