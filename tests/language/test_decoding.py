"""Answers against `generate` of transformers, and against themselves."""

import functools

import jax
import numpy as np
import pytest
import torch

from tests.models.qwen_vl_examples import (
    END,
    IMAGE,
    START,
    VIDEO,
    image,
    original,
    row,
    their_inputs,
    video,
)
from tests.models.torch_parity import state_dict
from vidpref.interop.qwen_vl import NEW, qwen_vl_table
from vidpref.interop.table import to_params
from vidpref.language.decoding import answer
from vidpref.language.sampling import Sampling, log_probabilities
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import Room, pack

FORBIDDEN = (START, END, IMAGE, VIDEO)
LENGTH = 6
COMPILE = {"xla_backend_optimization_level": 0}
ROOM = Room(28, 3, 32)


@functools.cache
def small(family: str):
    model = original(family)
    module = QwenVL.from_config(model.config.to_dict())
    tensors = state_dict(model)
    if module.config.text.tie_word_embeddings:
        del tensors["lm_head.weight"]
    return module, to_params(tensors, qwen_vl_table(module, NEW))


def prompts(family: str):
    """Rows of unequal lengths, whose videos are short enough for both rules of positions."""
    parts = [(3, video(1, 4, 4), 2), (5,), (1, image(4, 6), 1, video(2, 4, 4), 2)]
    return [row(family, *part, seed=i) for i, part in enumerate(parts)]


@functools.cache
def compiled(family: str, rule: Sampling, answers: int = 1):
    module, params = small(family)
    run = functools.partial(answer, module, rule=rule, answers=answers)
    run = jax.jit(run, compiler_options=COMPILE)
    return lambda inputs, key=0: run(params, inputs, jax.random.key(key))


def theirs(family: str, rows, inputs, rule: Sampling) -> np.ndarray:
    """The greedy tokens of transformers, whose own positions are used."""
    model = original(family)  # a new one, as it remembers positions
    given = their_inputs(rows, inputs)
    del given["position_ids"]
    tokens = given["input_ids"]
    seconds = [m.seconds for r in rows for m in r.media if m.is_video]
    if family == "qwen2_5_vl":
        given["second_per_grid_ts"] = torch.tensor(seconds)
    out = model.generate(
        **given,
        mm_token_type_ids=(tokens == IMAGE).int() + 2 * (tokens == VIDEO).int(),
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=rule.length,
        eos_token_id=list(rule.end) or None,
        pad_token_id=rule.pad,
        suppress_tokens=list(rule.forbidden),
    )
    out = out[:, tokens.shape[1] :].numpy()
    return np.pad(out, ((0, 0), (0, rule.length - out.shape[1])), constant_values=rule.pad)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_greedy_answers_are_those_of_transformers(family):
    module, _ = small(family)
    rows = prompts(family)
    left = pack(rows, module.config, ROOM, left=True)
    free = Sampling(LENGTH, (), temperature=0.0, forbidden=FORBIDDEN)
    expected = theirs(family, rows, left, free)
    # two ends that were drawn: one row stops early, another later
    ends = (int(expected[0, 1]), int(expected[1, 3]))
    rule = Sampling(LENGTH, ends, temperature=0.0, forbidden=FORBIDDEN, pad=7)
    ours = compiled(family, rule)(left)
    np.testing.assert_array_equal(ours.tokens[:, 0], theirs(family, rows, left, rule))
    for got, length in zip(expected, ours.lengths[:, 0], strict=True):
        first = [i for i, token in enumerate(got) if token in ends]
        assert length == (first[0] + 1 if first else LENGTH)
    # padding on the other side
    right = pack(rows, module.config, ROOM)
    jax.tree.map(np.testing.assert_array_equal, compiled(family, rule)(right).tokens, ours.tokens)


def test_answers_of_a_prompt_share_it_and_know_their_probability():
    module, _ = small("qwen2_vl")
    rows = prompts("qwen2_vl")
    inputs = pack(rows, module.config, ROOM)
    rule = Sampling(LENGTH, (11, 12), temperature=1.2, top_k=20, top_p=0.9, forbidden=FORBIDDEN)
    got = compiled("qwen2_vl", rule, 4)(inputs)
    assert got.tokens.shape == (3, 4, LENGTH)
    assert len({tuple(np.asarray(t)) for t in got.tokens[0]}) > 1
    assert not np.isin(got.tokens, FORBIDDEN).any()
    # the whole of prompt and answer, read at once
    for i, own in enumerate(rows):
        length = int(got.lengths[i, 0])
        tokens = np.concatenate([own.tokens, got.tokens[i, 0, :length]])
        whole = pack([type(own)(tokens, own.media, own.pixels)], module.config, Room(32, 3, 32))
        logits = reading(whole)
        start = len(own.tokens) - 1
        chances = log_probabilities(logits[0, start : start + length], rule)
        wanted = np.take_along_axis(np.asarray(chances), tokens[start + 1 :, None], axis=1)[:, 0]
        np.testing.assert_allclose(got.log_probs[i, 0, :length], wanted, atol=2e-5)
        assert (np.asarray(got.log_probs[i, 0, length:]) == 0).all()


@functools.cache
def _reader():
    module, _ = small("qwen2_vl")
    return jax.jit(lambda params, x: module.apply({"params": params}, x), compiler_options=COMPILE)


def reading(inputs):
    return _reader()(small("qwen2_vl")[1], inputs)
