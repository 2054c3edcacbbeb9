"""Logits of a few tokens at a time say what those of all at once say, and so do their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.language.reward_rows import clip, write_tiny_model
from vidpref.losses import read_logits as room
from vidpref.losses.answers import AnswerLoss
from vidpref.models.qwen_vl.answers import QwenVLAnswers
from vidpref.models.qwen_vl.inputs import to_arrays
from vidpref.models.qwen_vl.packing import Room
from vidpref.rewards.vlm_judge import open_model
from vidpref.training.tuning import Everything


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A network with its parameters, and a batch of answers of two lengths."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    module, params = write_tiny_model(out, np.random.default_rng(0), 0.3)
    _, reader = open_model(str(out), (64, 256), 512)
    asked = [reader.row(reader.see(clip(1, 16, seed=i)), "is it good?") for i in range(2)]
    rows = [reader.answered(row, said) for row, said in zip(asked, ("Good", "no"), strict=True)]
    most = max(len(said) for _, said in rows)
    batch = to_arrays(reader.pack([row for row, _ in rows], Room()))
    batch["said"] = np.stack([np.pad(said, (most - len(said), 0)) for _, said in rows])
    return QwenVLAnswers(module.config), {"model": jax.tree.map(jnp.asarray, params)}, batch


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_chunks_have_the_loss_and_gradient_of_the_whole(told, tokens, monkeypatch):
    network, params, batch = told
    assert batch["said"].shape[1] == 5  # so that one of two tokens, and of three, is not whole
    loss_fn = AnswerLoss(network, Everything(lambda key: {}))

    def found():
        run = jax.value_and_grad(loss_fn, has_aux=True)
        return run(params, {}, batch, jax.random.key(0))

    (loss, metrics), gradient = found()
    sizes = []
    logits = QwenVLAnswers.logits
    monkeypatch.setattr(
        QwenVLAnswers, "logits", lambda self, x: sizes.append(x.shape[1]) or logits(self, x)
    )
    monkeypatch.setattr(room, "MOST_LOGITS", tokens * network.vocabulary)
    (again, same), own = found()
    assert set(sizes) == {tokens}
    np.testing.assert_allclose(again, loss, rtol=1e-5)
    assert jax.tree.map(float, same) == jax.tree.map(float, metrics)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * (float(jnp.abs(b).max()) + 1e-3))
