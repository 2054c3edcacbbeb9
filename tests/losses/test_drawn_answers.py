"""A model's own answers: training reads them as drawing did, and learns as GRPO says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.language.reward_rows import clip, write_tiny_model
from vidpref.language.continued import continued
from vidpref.language.decoding import answer
from vidpref.losses.drawn_answers import DrawnAnswersLoss
from vidpref.models.lora import apply_network
from vidpref.models.qwen_vl.answers import QwenVLAnswers
from vidpref.models.qwen_vl.inputs import to_arrays
from vidpref.models.qwen_vl.packing import Room
from vidpref.objectives.policy_gradient import PolicyGradient
from vidpref.rewards.vlm_judge import open_model
from vidpref.training.tuning import Everything

G, LENGTH = 3, 6
KL = 0.07


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The reader, the network with its parameters, two prompts of unequal length, and answers."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    module, params = write_tiny_model(out, np.random.default_rng(0), 0.3)
    _, reader = open_model(str(out), (64, 256), 512)
    rows = [
        reader.row(reader.see(clip(2, 16)), "is it good?"),
        reader.row(reader.see(clip(1, 16, seed=1)), "and this?"),
    ]
    prompts = reader.pack(rows, Room())
    # many ends, so that answers have several lengths
    rule = dataclasses.replace(reader.rule(LENGTH, 0.8), end=tuple(range(0, 256, 4)))
    network = QwenVLAnswers(module.config)
    own = {"model": jax.tree.map(jnp.asarray, params)}
    said = jax.jit(lambda p: answer(network, p, prompts, jax.random.key(1), rule, G))(own)
    return reader, network, own, rows, prompts, rule, said


def batch_of(prompts, said, **more):
    advantage = np.array([[1.0, -0.5, -0.5], [0.0, 1.0, -1.0]], np.float32)
    return {
        **to_arrays(prompts),
        "drawn": said.tokens,
        "log_probs": said.log_probs,
        "lengths": said.lengths,
        "ended": said.ended,
        "advantage": advantage,
        **more,
    }


def test_training_finds_the_answers_as_likely_as_drawing_did(drawn):
    """Reported bugs 1, 8, 9 and 10 of public GRPO: padding, positions, and layouts of batches."""
    _, network, params, _, prompts, rule, said = drawn
    assert len(set(np.asarray(said.lengths).ravel())) > 1
    loss_fn = DrawnAnswersLoss(
        network, Everything(lambda key: {}), rule, PolicyGradient(clip_low=0.2, kl_coefficient=KL)
    )
    frozen = {"reference": params}
    _, metrics = loss_fn(params, frozen, batch_of(prompts, said), jax.random.key(0))
    assert metrics["sampler_gap"] < 1e-5
    assert abs(metrics["kl"]) < 1e-9  # the policy is the reference still
    assert metrics["impossible"] == 0
    found = loss_fn.likelihood(params, batch_of(prompts, said))
    mask = np.asarray(found.mask)
    np.testing.assert_allclose(
        np.asarray(found.log_probs)[mask], np.asarray(said.log_probs)[mask], atol=2e-5
    )
    np.testing.assert_array_equal(mask.sum(axis=-1), said.lengths)


def test_the_first_gradient_is_reinforces(drawn):
    _, network, params, _, prompts, rule, said = drawn
    batch, key = batch_of(prompts, said), jax.random.key(0)
    loss_fn = DrawnAnswersLoss(
        network, Everything(lambda key: {}), rule, PolicyGradient(clip_low=0.2)
    )
    gradient = jax.grad(lambda p: loss_fn(p, {}, batch, key)[0])(params)

    def reinforce(p):
        found = loss_fn.likelihood(p, batch)
        each = jnp.where(found.mask, found.log_probs, 0.0).sum(-1) / batch["lengths"]
        return -(batch["advantage"] * each).mean()

    expected = jax.grad(reinforce)(params)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
    assert scale > 1e-3
    for got, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5 * scale)


def test_a_reference_that_differs_pulls_back(drawn):
    _, network, params, _, prompts, rule, said = drawn
    batch = batch_of(prompts, said, advantage=np.zeros((2, G), np.float32))
    loss_fn = DrawnAnswersLoss(
        network, Everything(lambda key: {}), rule, PolicyGradient(clip_low=0.2, kl_coefficient=KL)
    )
    moved = jax.tree.map(lambda x: x * 1.05, params)
    loss, metrics = loss_fn(moved, {"reference": params}, batch, jax.random.key(0))
    assert metrics["kl"] > 1e-4
    np.testing.assert_allclose(loss, KL * metrics["kl"], rtol=0.5)  # means over draws and answers
    without = dataclasses.replace(loss_fn, rule=PolicyGradient(clip_low=0.2))
    assert without(moved, {}, batch, jax.random.key(0))[0] == 0


def test_what_is_asked_next_stands_right_behind_each_answer(drawn):
    """The state that a next question is answered from is that of the whole conversation, packed."""
    reader, network, params, rows, prompts, _, said = drawn
    more = reader.next_question("are you sure?")
    found = continued(prompts, said.tokens, said.lengths, more)
    states = apply_network(network, params, found, method="states")
    length = prompts.tokens.shape[1]
    for i, row in enumerate(rows):
        for j in range(G):
            n = int(said.lengths[i, j])
            told = np.concatenate([row.tokens, np.asarray(said.tokens)[i, j, :n], more])
            alone = reader.pack([dataclasses.replace(row, tokens=told)], Room())
            expected = apply_network(network, params, alone, method="states")[0, -1]
            got = states[i * G + j, length + n + len(more) - 1]
            np.testing.assert_allclose(got, expected, atol=2e-5)
