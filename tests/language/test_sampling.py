"""The rule of drawing against the warpers of transformers, and the draws against the rule."""

import jax
import numpy as np
import pytest
import scipy.stats
import torch
from transformers.generation import logits_process as theirs

from vidpref.language.decoding import _draw
from vidpref.language.sampling import Sampling, log_probabilities

LOGITS = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32) * 2
TIED = np.round(LOGITS)


@pytest.mark.parametrize(
    ("fields", "warpers"),
    [
        ({}, []),
        ({"temperature": 0.7}, [theirs.TemperatureLogitsWarper(0.7)]),
        ({"top_k": 7}, [theirs.TopKLogitsWarper(7)]),
        ({"top_p": 0.8}, [theirs.TopPLogitsWarper(0.8)]),
        ({"top_p": 0.01}, [theirs.TopPLogitsWarper(0.01)]),
        (
            {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "forbidden": (3, 4)},
            [
                theirs.SuppressTokensLogitsProcessor([3, 4]),
                theirs.TemperatureLogitsWarper(1.3),
                theirs.TopKLogitsWarper(20),
                theirs.TopPLogitsWarper(0.9),
            ],
        ),
    ],
)
@pytest.mark.parametrize("logits", [LOGITS, TIED], ids=["different", "tied"])
def test_equals_the_warpers_of_transformers(fields, warpers, logits):
    expected = torch.tensor(logits)
    for warper in warpers:
        expected = warper(None, expected)
    expected = torch.log_softmax(expected, dim=-1).numpy()
    ours = np.asarray(log_probabilities(logits, Sampling(1, (), **fields)))
    if logits is TIED and fields.get("top_p", 1) < 1:
        # of tokens that are alike at the edge any may go, but as many
        ours, expected = np.sort(ours), np.sort(expected)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_draws_have_the_probabilities_of_the_rule():
    rule = Sampling(1, (), temperature=1.5, top_k=12, top_p=0.95, forbidden=(2,))
    chances = np.exp(np.asarray(log_probabilities(LOGITS[:1], rule), np.float64))[0]
    count = 5000
    many = np.broadcast_to(LOGITS[:1], (count, 50))
    drawn, log_probs = _draw(
        many, jax.random.split(jax.random.key(0), count), jax.numpy.int32(3), rule
    )
    np.testing.assert_allclose(np.exp(log_probs), chances[drawn], rtol=1e-5)
    seen = np.bincount(drawn, minlength=50)
    assert (seen[chances == 0] == 0).all()
    kept = chances > 0
    assert (
        scipy.stats.chisquare(seen[kept], chances[kept] / chances[kept].sum() * count).pvalue
        > 0.001
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 0}, "length=0: must be 1 or more"),
        ({"temperature": -1.0}, "temperature=-1.0: must be 0 or more"),
        ({"top_p": 0.0}, r"top_p=0\.0: must be in \(0, 1\]"),
        ({"end": (5,), "forbidden": (5, 6)}, "token 5 ends an answer and is forbidden"),
    ],
)
def test_rules_that_cannot_work_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**{"length": 3, "end": (), **fields})
