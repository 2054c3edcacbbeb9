"""Likelihoods of answers against the draws themselves, and bugs that public code of GRPO had."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vidpref.language.decoding import _draw, _is_end
from vidpref.language.likelihood import likelihood as plain
from vidpref.language.sampling import Sampling, log_probabilities

B, G, N, V = 2, 3, 6, 12
LOGITS = np.random.default_rng(0).normal(scale=2.0, size=(B, G, N, V)).astype(np.float32)
FORBIDDEN = (3, 4)  # such as tokens that stand for an image
RULE = Sampling(N, (1, 2), temperature=0.6, top_k=8, top_p=0.9, forbidden=FORBIDDEN, pad=1)


likelihood = jax.jit(plain, static_argnames="rule")


@functools.cache
def drawn(rule):
    """Tokens, lengths and log-probabilities of answers, token by token as they are drawn."""
    keys = jax.random.split(jax.random.key(0), B * G)
    draw = jax.jit(functools.partial(_draw, rule=rule))
    steps = [draw(LOGITS[:, :, i].reshape(B * G, V), keys, jnp.int32(i)) for i in range(N)]
    tokens, log_probs = (np.stack(x, axis=1).reshape(B, G, N) for x in zip(*steps, strict=True))
    ends = np.asarray(_is_end(tokens, rule))
    lengths = np.where(ends.any(-1), ends.argmax(-1) + 1, N).astype(np.int32)
    behind = np.arange(N) >= lengths[..., None]
    return np.where(behind, rule.pad, tokens), lengths, np.where(behind, 0.0, log_probs)


def test_likelihood_is_what_the_sampler_said():
    """trl 4159, 6789, 7269: temperature or top-p that the loss does not know."""
    tokens, lengths, said = drawn(RULE)
    got = likelihood(LOGITS, tokens, lengths, RULE)
    np.testing.assert_allclose(got.log_probs[got.mask], said[got.mask], atol=1e-6)
    for change in ({"temperature": 1.0}, {"top_k": 0}, {"top_p": 1.0}, {"forbidden": ()}):
        fields = {**RULE.__dict__, **change}
        other = likelihood(LOGITS, tokens, lengths, Sampling(**fields))
        assert np.abs(other.log_probs - got.log_probs)[got.mask].max() > 1e-3, change


@pytest.mark.parametrize("pad", [1, 0], ids=["pad is an end", "pad is another"])
def test_the_end_of_an_answer_counts_whatever_the_padding_and_whichever_end(pad):
    """trl 7039, 6357, ms-swift 4950: several ends, and padding that is one of them."""
    rule = Sampling(**{**RULE.__dict__, "pad": pad})
    tokens, lengths, _ = drawn(rule)
    mask = np.asarray(likelihood(LOGITS, tokens, lengths, rule).mask)
    assert set(lengths.ravel()) - {N}  # some answers end early
    seen = set()
    for answer, length, kept in zip(
        tokens.reshape(-1, N), lengths.ravel(), mask.reshape(-1, N), strict=True
    ):
        assert kept.sum() == length
        assert kept[:length].all()
        if answer[length - 1] in rule.end:
            seen.add(int(answer[length - 1]))
            assert not np.isin(answer[: length - 1], rule.end).any()
    assert seen == set(rule.end)


def test_tokens_that_cannot_be_drawn_have_no_probability_and_no_gradient():
    """trl 3847: a policy that answers with placeholders of images."""
    tokens = np.full((B, G, N), FORBIDDEN[0], np.int32)
    lengths = np.full((B, G), N, np.int32)
    got = likelihood(LOGITS, tokens, lengths, RULE)
    assert np.isneginf(got.log_probs).all()
    tokens, lengths, _ = drawn(RULE)

    def total(logits):
        got = likelihood(logits, tokens, lengths, RULE)
        return jnp.where(jnp.isneginf(got.log_probs), 0.0, got.log_probs).sum() + got.entropy.sum()

    gradient = np.asarray(jax.grad(total)(jnp.asarray(LOGITS)))
    assert np.isfinite(gradient).all()
    assert (gradient[..., list(FORBIDDEN)] == 0).all()
    assert (gradient != 0).any()


def test_entropy_is_that_of_the_rule():
    tokens, lengths, _ = drawn(RULE)
    for rule in (RULE, Sampling(N, (1, 2), temperature=0.6)):
        odds = np.exp(np.asarray(log_probabilities(LOGITS, rule), np.float64))
        got = likelihood(LOGITS, tokens, lengths, rule).entropy
        np.testing.assert_allclose(got, scipy.stats.entropy(odds, axis=-1), rtol=1e-4, atol=1e-5)
