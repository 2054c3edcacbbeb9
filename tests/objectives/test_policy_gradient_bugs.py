"""Bugs that public code of GRPO had, each as what it would do to the loss.

Beside each test stands where the bug was reported. Those of a language model's inputs are tested
where these are made: ends, padding that is an end, temperature and top-p in
`tests/language/test_answer_likelihood.py`; padding of prompts on either side, ends and positions in
answers, and what a network says right after it has answered in `test_decoding.py` beside it
(transformers 44873, trl 7039, verl 5024); positions in `tests/models/test_qwen_vl_positions.py`
(verl 3653), with prompts that are too long and videos that are missing (trl 5904, Qwen-VL-Series
207), which are refused.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draw_examples import ADVANTAGES, DRAWS, LENGTHS, MASK, B, G, N, ours

from vidpref.objectives.policy_gradient import Draws, PolicyGradient, policy_gradient

RULE = PolicyGradient(0.2, kl_coefficient=0.07)
FREE = PolicyGradient(0.2)


def padded(value, left=False):
    """The example with `value` for its padding, on either side of each answer."""
    places = (np.arange(N) - (N - LENGTHS[..., None])) % N if left else np.arange(N)[None, None]

    def put(x):
        return np.take_along_axis(np.where(MASK, x, np.float32(value)), places, axis=2)

    fields = {name: put(getattr(DRAWS, name)) for name in ("log_probs", "old", "reference")}
    mask = np.take_along_axis(MASK, places, axis=2)
    return DRAWS.replace(**fields, mask=mask, sampler=fields["old"], entropy=fields["old"])


@pytest.mark.parametrize("value", [0.0, -np.inf, np.nan, 1e30])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_padding_may_be_anything_and_on_either_side(value, level):
    """huggingface/trl 5785: padding on the wrong side."""
    rule = PolicyGradient(0.2, kl_coefficient=0.07, level=level)
    loss, gradient, metrics = ours(padded(-1.0), rule)
    for left in (False, True):
        draws = padded(value, left)
        again, of_padded, same = ours(draws, rule)
        np.testing.assert_allclose(again, loss, rtol=1e-6)
        of_padded = np.asarray(of_padded)
        np.testing.assert_allclose(of_padded[draws.mask], np.asarray(gradient)[MASK], rtol=1e-5)
        assert (of_padded[~draws.mask] == 0).all()
        for name in metrics:
            np.testing.assert_allclose(same[name], metrics[name], rtol=1e-5, err_msg=name)


def test_answers_that_were_cut_off_teach_nothing_if_asked_and_are_counted():
    """trl 6357 and ms-swift 4950: answers that never seem to finish."""
    rule = PolicyGradient(0.2, kl_coefficient=0.07, mask_truncated=True)
    loss, gradient, metrics = ours(DRAWS, rule)
    cut = ~DRAWS.ended
    assert (np.asarray(gradient)[cut] == 0).all()
    assert (np.asarray(gradient)[DRAWS.ended] != 0).any()
    np.testing.assert_allclose(metrics["truncated"], 2 / 6)
    np.testing.assert_allclose(metrics["answer_length"], LENGTHS.mean())
    for aggregation in ("grpo", "dr_grpo", "dapo", "bnpo"):
        rule = PolicyGradient(0.2, aggregation=aggregation, length=N, mask_truncated=True)
        loss, gradient, metrics = ours(DRAWS.replace(ended=np.zeros((B, G), bool)), rule)
        assert loss == 0
        assert (np.asarray(gradient) == 0).all()
        assert metrics["truncated"] == 1
        assert all(np.isfinite(value) for value in metrics.values())


def test_a_draw_that_a_policy_no_longer_makes_is_counted():
    """trl 6789 and 7269, ms-swift 8442: another support of top-p in sampler and loss."""
    gone = DRAWS.log_probs.copy()
    gone[0, 0, 1] = gone[0, 1, 0] = -np.inf
    reference = DRAWS.reference.copy()
    reference[1, 2, 0] = -np.inf
    loss, gradient, metrics = ours(DRAWS.replace(log_probs=gone, reference=reference), RULE)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert gradient[0, 0, 1] == gradient[0, 1, 0] == gradient[1, 2, 0] == 0
    np.testing.assert_allclose(metrics["impossible"], 3 / MASK.sum())
    _, whole, _ = ours(DRAWS, RULE)
    np.testing.assert_allclose(gradient[1, 1], whole[1, 1], rtol=1e-6)
    # a reference that is only measured changes nothing
    _, gradient, metrics = ours(DRAWS.replace(reference=reference), FREE)
    np.testing.assert_array_equal(gradient, ours(DRAWS.replace(reference=None), FREE)[1])
    assert metrics["impossible"] == 0
    assert 0 < metrics["kl"] < np.inf


def test_a_network_that_gives_no_numbers_is_not_hidden():
    broken = DRAWS.log_probs.copy()
    broken[0, 0, 0] = np.nan
    assert np.isnan(policy_gradient(DRAWS.replace(log_probs=broken), RULE)[0])


def test_temperature_that_the_loss_forgets_is_seen_in_the_gap():
    """trl 4159: log-probabilities at temperature 1 of what was drawn at another."""
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(B, G, N, 9)), jnp.float32)
    tokens = jnp.argsort(logits, axis=-1)[..., -2:-1]

    def draws(temperature, sampler):
        chances = jax.nn.log_softmax(logits / temperature)
        log_probs = jnp.take_along_axis(chances, tokens, axis=-1)[..., 0]
        return Draws(log_probs, MASK, ADVANTAGES, sampler=sampler)

    said = draws(0.5, None).log_probs
    right, wrong = (policy_gradient(draws(t, said), FREE)[1] for t in (0.5, 1.0))
    assert right["sampler_gap"] == 0
    assert wrong["sampler_gap"] > 0.1


def test_half_precision_is_left_before_the_ratio():
    """verl 2996, 6240, 6280: old and new log-probabilities that differ by their type."""
    half = jnp.asarray(DRAWS.log_probs).astype(jnp.bfloat16)
    wide = half.astype(jnp.float32)
    loss, metrics = policy_gradient(DRAWS.replace(log_probs=half, old=wide), FREE)
    assert metrics["ratio"] == 1
    assert loss.dtype == jnp.float32
    old = jnp.asarray(DRAWS.old)
    one = policy_gradient(DRAWS.replace(log_probs=half, old=old), RULE)
    two = policy_gradient(DRAWS.replace(log_probs=wide, old=old), RULE)
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.parametrize("far", [-500.0, 500.0])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_policies_far_apart_keep_a_finite_loss(far, level):
    rule = PolicyGradient(0.2, kl_coefficient=0.07, kl_by_ratio=True, level=level)
    moved = DRAWS.replace(old=DRAWS.log_probs - far, reference=DRAWS.log_probs + far)
    loss, gradient, metrics = ours(moved, rule)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("aggregation", ["grpo", "dr_grpo", "dapo", "bnpo"])
def test_padding_prompts_change_nothing(aggregation):
    rule = PolicyGradient(0.2, kl_coefficient=0.07, aggregation=aggregation, length=N)
    loss, gradient, metrics = ours(jax.tree.map(lambda x: x[:1], DRAWS), rule)
    padded = DRAWS.replace(prompt_weight=np.array([1, 0], np.float32))
    again, of_padded, same = ours(padded, rule)
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    np.testing.assert_allclose(of_padded[:1], gradient, rtol=1e-5)
    assert (np.asarray(of_padded[1]) == 0).all()
    for name in metrics:
        np.testing.assert_allclose(same[name], metrics[name], rtol=1e-5, err_msg=name)
