"""The loss and its gradient against TRL's and Flow-GRPO's formulas in torch, and closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from draw_examples import (
    ADVANTAGES,
    DRAWS,
    ENDED,
    LENGTHS,
    LOG_PROBS,
    MASK,
    OLD,
    REFERENCE,
    B,
    G,
    N,
    ours,
)

from vidpref.objectives.policy_gradient import Draws, PolicyGradient, draw_counts, policy_gradient
from vidpref.objectives.policy_gradient.ratios import divergence, ratios


def as_trl(rule):
    """TRL 1.16's `_compute_loss` on rows of answers, in float64."""

    def rows(x):
        return torch.tensor(np.asarray(x).reshape(B * G, -1), dtype=torch.float64)

    log_probs = rows(LOG_PROBS).requires_grad_()
    mask, advantages = rows(MASK), rows(ADVANTAGES)
    if rule.mask_truncated:
        mask = mask * rows(ENDED)
    ratio = log_probs - rows(OLD)
    if rule.level == "sequence":
        ratio = (ratio * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    ratio = ratio.exp()
    low, high = rule.bounds
    free = ratio if rule.dual_clip is None else ratio.clamp(max=rule.dual_clip)
    terms = -torch.min(free * advantages, ratio.clamp(low, high) * advantages)
    if rule.kl_coefficient:
        d = rows(REFERENCE) - log_probs
        kl = {"k1": -d, "k2": d**2 / 2, "k3": d.exp() - d - 1}[rule.divergence]
        terms = terms + rule.kl_coefficient * (kl * ratio if rule.kl_by_ratio else kl)
    total = terms * mask
    loss = {
        "grpo": lambda: (total.sum(1) / mask.sum(1).clamp(min=1)).mean(),
        "dr_grpo": lambda: total.sum() / (len(total) * rule.length),
        "dapo": lambda: total.sum() / mask.sum().clamp(min=1),
        "bnpo": lambda: total.sum() / mask.sum().clamp(min=1),
    }[rule.aggregation]()
    loss.backward()
    return loss.item(), log_probs.grad.reshape(B, G, N).numpy()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"clip_high": 0.28, "aggregation": "dapo", "mask_truncated": True},
        {"aggregation": "dr_grpo", "length": 7, "kl_coefficient": 0.07, "divergence": "k2"},
        {"aggregation": "bnpo", "kl_coefficient": 0.5, "kl_by_ratio": True, "divergence": "k1"},
        {"kl_coefficient": 0.07, "mask_truncated": True},
        {"kl_coefficient": 0.5, "kl_by_ratio": True, "dual_clip": 1.25},
        {"level": "sequence", "clip_low": 0.05, "clip_high": 0.06},
        {"level": "sequence", "clip_low": 3e-4, "kl_coefficient": 0.5, "kl_by_ratio": True},
    ],
    ids=str,
)
def test_loss_and_gradient_are_those_of_trl(fields):
    rule = PolicyGradient(**{"clip_low": 0.15, **fields})
    loss, gradient, metrics = ours(DRAWS, rule)
    expected, of_torch = as_trl(rule)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, of_torch, rtol=1e-4, atol=1e-7)
    assert 0 < metrics["clip_fraction"] < 1
    assert (np.asarray(gradient)[~MASK] == 0).all()


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("old", [None, LOG_PROBS], ids=["not kept", "kept"])
def test_before_the_first_update_ratios_are_one_and_the_gradient_is_that_of_reinforce(level, old):
    draws = DRAWS.replace(old=old, sampler=LOG_PROBS + 0.25)
    _, gradient, metrics = ours(draws, PolicyGradient(1e-4, level=level))
    reinforce = -ADVANTAGES[..., None] * MASK / LENGTHS[..., None] / (B * G)
    np.testing.assert_allclose(gradient, reinforce, rtol=1e-6)
    assert metrics["ratio"] == 1
    assert metrics["policy_kl"] == metrics["clip_fraction"] == metrics["impossible"] == 0
    np.testing.assert_allclose(metrics["sampler_gap"], 0.25, rtol=1e-6)


@pytest.mark.parametrize("aggregation", ["grpo", "dr_grpo", "dapo", "bnpo"])
def test_microbatches_make_up_the_loss_of_the_batch(aggregation):
    rule = PolicyGradient(
        0.2, aggregation=aggregation, length=N, kl_coefficient=0.1, mask_truncated=True
    )
    loss, metrics = policy_gradient(DRAWS, rule)
    parts = [jax.tree.map(lambda x, i=i: x[i : i + 1], DRAWS) for i in range(B)]
    counts = [draw_counts(rule, part.mask, part.ended) for part in parts]
    found = [policy_gradient(part, rule) for part in parts]

    def together(name, values):
        weights = [float(count[name]) for count in counts]
        return np.average([float(v) for v in values], weights=weights)

    value = together("loss", [f[0] for f in found])
    if aggregation == "bnpo":
        assert abs(value - loss) > 1e-3
        np.testing.assert_allclose(value, np.mean([f[0] for f in found]), rtol=1e-6)
    else:
        np.testing.assert_allclose(value, loss, rtol=1e-5)
    assert set(metrics) == set(counts[0]) - {"loss", "entropy", "sampler_gap"}
    for name, whole in metrics.items():
        np.testing.assert_allclose(together(name, [f[1][name] for f in found]), whole, rtol=1e-5)


def test_a_worked_example_of_clipping():
    # ratios 2, 1/2, 1 under advantages of 1 and -1
    log_ratios = np.log(np.array([[[2.0, 0.5, 1.0], [2.0, 0.5, 1.0]]], np.float32))
    draws = Draws(
        log_probs=log_ratios,
        mask=np.ones((1, 2, 3), bool),
        advantages=np.array([[1.0, -1.0]], np.float32),
        old=np.zeros((1, 2, 3), np.float32),
        entropy=np.full((1, 2, 3), 0.5, np.float32),
        ended=np.array([[True, False]]),
    )
    run = jax.jit(policy_gradient, static_argnames="rule")
    loss, metrics = run(draws, PolicyGradient(0.2, 0.4))
    np.testing.assert_allclose(loss, (-1.4 - 0.5 - 1.0 + 2.0 + 0.8 + 1.0) / 6, rtol=1e-6)
    expected = {
        "ratio": 7 / 6,
        "clip_fraction": 2 / 6,
        "clip_fraction_low": 1 / 6,
        "clip_fraction_high": 1 / 6,
        "policy_kl": 2 * (2 - 1 - np.log(2) + 0.5 - 1 + np.log(2)) / 6,
        "impossible": 0,
        "entropy": 0.5,
        "answer_length": 3,
        "truncated": 0.5,
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)
    bounded, _ = run(draws, PolicyGradient(0.2, 0.4, dual_clip=1.5))
    np.testing.assert_allclose(bounded - loss, (1.5 - 2.0) / 6, rtol=1e-5)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("by_ratio", [False, True])
def test_estimates_in_expectation(estimator, by_ratio):
    """All six tokens of a vocabulary, each as often as the policy draws it."""
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=6).astype(np.float32))
    q = jax.nn.log_softmax(jnp.asarray(rng.normal(size=6).astype(np.float32)))

    def kl(logits):
        p = jax.nn.log_softmax(logits)
        return (jnp.exp(p) * (p - q)).sum()

    drawn = jax.nn.softmax(logits)[None, None]

    def expected(logits):
        p = jax.nn.log_softmax(logits)[None, None]
        estimate = divergence(q[None, None] - p, estimator)
        moved = p - jax.lax.stop_gradient(p)
        ratio = ratios(moved, jnp.ones(p.shape, bool), "token") if by_ratio else 1.0
        return (drawn * estimate * ratio).sum()

    value, gradient = jax.value_and_grad(expected)(logits)
    if estimator != "k2":  # which is biased
        np.testing.assert_allclose(value, kl(logits), rtol=1e-5)
    right = {("k1", True), ("k2", False), ("k3", True)}
    if (estimator, by_ratio) in right:
        np.testing.assert_allclose(gradient, jax.grad(kl)(logits), rtol=1e-4, atol=1e-6)
    else:
        assert np.abs(gradient - jax.grad(kl)(logits)).max() > 1e-2
    if (estimator, by_ratio) == ("k1", False):
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_steps_of_a_sampler_as_flow_grpo_learns_from_them():
    """Means of Gaussian steps instead of logits; log-probabilities are means over the numbers."""
    shape = (B, G, N, 8)
    start, ahead, drawn, move = np.random.default_rng(2).normal(size=(4, *shape)).astype(np.float32)
    mean = start + np.float32(0.05) * move
    std, clip, beta = 0.8, 1e-2, 0.04

    def log_prob(mean):
        density = -((drawn - mean) ** 2) / (2 * std**2) - np.log(std * np.sqrt(2 * np.pi))
        return density.mean(-1)

    old = log_prob(start).astype(np.float32)

    def loss(mean):
        draws = Draws(
            log_probs=log_prob(mean),
            mask=np.ones((B, G, N), bool),
            advantages=ADVANTAGES,
            old=old,
            kl=jnp.square(mean - ahead).mean(-1) / (2 * std**2),
        )
        rule = PolicyGradient(clip, divergence="exact", kl_coefficient=beta)
        return policy_gradient(draws, rule)

    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(mean))
    of_torch = torch.tensor(mean, dtype=torch.float64, requires_grad=True)
    normal = torch.distributions.Normal(of_torch, std)
    moved = normal.log_prob(torch.tensor(drawn)).mean(-1) - torch.tensor(old)
    advantages = torch.tensor(ADVANTAGES)[..., None]
    clipped = moved.exp().clamp(1 - clip, 1 + clip)
    policy = torch.max(-advantages * moved.exp(), -advantages * clipped).mean()
    kl = torch.distributions.kl_divergence(
        normal, torch.distributions.Normal(torch.tensor(ahead, dtype=torch.float64), std)
    ).mean()
    (policy + beta * kl).backward()
    np.testing.assert_allclose(value, (policy + beta * kl).item(), rtol=1e-4)
    np.testing.assert_allclose(gradient, of_torch.grad.numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(metrics["kl"], kl.item(), rtol=1e-5)
    assert 0 < metrics["clip_fraction"] < 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clip_low": 0.0}, r"clip_low=0\.0: must be in \(0, 1\]"),
        ({"clip_high": -0.1}, r"clip_high=-0\.1: must be above 0"),
        ({"dual_clip": 1.1}, r"dual_clip=1\.1: must be above 1 \+ clip_high, 1\.2"),
        ({"level": "tokens"}, "level='tokens' is unknown; did you mean token"),
        ({"divergence": "k4"}, "divergence='k4' is unknown; did you mean k"),
        ({"aggregation": "gspo"}, "aggregation='gspo' is unknown; did you mean"),
        ({"aggregation": "dr_grpo"}, "length=None: must be 1 or more with aggregation='dr_grpo'"),
        ({"kl_coefficient": -1.0}, r"kl_coefficient=-1\.0: must be 0 or more"),
        ({"kl_coefficient": 0.1, "divergence": "k1"}, "a gradient whose mean is 0.* take 'k3'"),
    ],
)
def test_rules_that_cannot_work_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PolicyGradient(**{"clip_low": 0.2, **fields})


def test_what_is_missing_is_said_before_anything_is_computed():
    def run(rule, **fields):
        return jax.eval_shape(lambda d: policy_gradient(d, rule), DRAWS.replace(**fields))

    held = PolicyGradient(0.2, kl_coefficient=0.07)
    with pytest.raises(ValueError, match=r"kl_coefficient=0\.07 .* reference, and none is given"):
        run(held, reference=None)
    with pytest.raises(ValueError, match=r"divergence='exact' holds .* none is given"):
        run(dataclasses.replace(held, divergence="exact"))
    with pytest.raises(ValueError, match="nothing says which did end"):
        run(PolicyGradient(0.2, mask_truncated=True), ended=None)
    loss, metrics = run(PolicyGradient(0.2), reference=None, ended=None)
    assert loss.shape == ()
    assert "kl" not in metrics
