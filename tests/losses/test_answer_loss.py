"""The loss of answers against torch's cross-entropy, with a network whose logits are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from vidpref.losses.answers import AnswerLoss
from vidpref.training.tuning import Everything

ROWS, LENGTH, ANSWER, VOCAB = 4, 7, 3, 5
SAID = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]], bool)


class Table(nn.Module):
    """Logits by the number of the token before."""

    vocabulary = VOCAB

    @nn.compact
    def __call__(self, inputs, n):
        table = self.param("table", nn.initializers.normal(1.0), (VOCAB, VOCAB))
        return table[inputs.tokens[:, -n - 1 : -1]]


def draw_batch(**more):
    tokens = np.random.default_rng(0).integers(0, VOCAB, (ROWS, LENGTH)).astype(np.int32)
    rest = ("mask", "positions", "features", "patch_pixels", "patch_mask", "patch_at", "patch_grid")
    return {**dict.fromkeys(rest, tokens), "tokens": tokens, "said": SAID, **more}


def test_loss_and_gradient_are_torchs_over_the_tokens_of_answers_alone():
    batch = draw_batch(weight=np.float32([1, 1, 1, 0]))
    table = np.random.default_rng(1).normal(size=(VOCAB, VOCAB)).astype(np.float32)
    loss_fn = AnswerLoss(Table(), Everything(lambda key: {}))
    (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
        {"table": jnp.asarray(table)}, {}, batch, jax.random.key(0)
    )
    own = torch.tensor(table, requires_grad=True)
    tokens = torch.tensor(batch["tokens"], dtype=torch.long)
    logits, target = own[tokens[:, -ANSWER - 1 : -1]], tokens[:, -ANSWER:].clone()
    there = torch.tensor(SAID)
    there[-1] = False
    target[~there] = -100
    expected = cross_entropy(logits.reshape(-1, VOCAB), target.reshape(-1))
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient["table"], own.grad, atol=1e-6)
    right = (logits.argmax(-1) == tokens[:, -ANSWER:]) & there
    np.testing.assert_allclose(metrics["token_accuracy"], right.sum() / there.sum())
    whole = (right | ~there).all(dim=1)[:3]
    np.testing.assert_allclose(metrics["answer_accuracy"], whole.float().mean())


def test_microbatches_weighed_by_their_counts_give_the_loss_of_the_batch():
    batch, table = draw_batch(), np.random.default_rng(1).normal(size=(VOCAB, VOCAB))
    loss_fn = AnswerLoss(Table(), Everything(lambda key: {}))
    params, key = {"table": jnp.float32(table)}, jax.random.key(0)
    whole, whole_metrics = loss_fn(params, {}, batch, key)
    parts = [{name: jnp.asarray(x[i : i + 2]) for name, x in batch.items()} for i in (0, 2)]
    found = [loss_fn(params, {}, part, key) for part in parts]
    counts = [loss_fn.counts(part) for part in parts]
    total = sum(c["loss"] for c in counts)
    mean = sum(loss * c["loss"] for (loss, _), c in zip(found, counts, strict=True)) / total
    np.testing.assert_allclose(mean, whole, rtol=1e-6)
    for name in ("token_accuracy", "answer_accuracy"):
        total = sum(c[name] for c in counts)
        own = sum(m[name] * c[name] for (_, m), c in zip(found, counts, strict=True)) / total
        np.testing.assert_allclose(own, whole_metrics[name], rtol=1e-6)
        assert total > 0


def test_what_is_not_an_answer_changes_nothing():
    loss_fn, params = AnswerLoss(Table(), Everything(lambda key: {})), None
    params = {"table": jnp.float32(np.random.default_rng(1).normal(size=(VOCAB, VOCAB)))}
    one = draw_batch(said=np.array([[0, 0, 1]] * ROWS, bool))
    other = dict(one, tokens=one["tokens"].copy())
    other["tokens"][:, :-2] = (other["tokens"][:, :-2] + 1) % VOCAB
    key = jax.random.key(0)
    assert loss_fn(params, {}, one, key)[0] == loss_fn(params, {}, other, key)[0]
    none = draw_batch(said=np.zeros((ROWS, ANSWER), bool))
    loss, metrics = loss_fn(params, {}, none, key)
    assert loss == 0
    assert metrics["token_accuracy"] == 0
