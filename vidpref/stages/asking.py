"""A judge that answers is asked about rows in the process that trained it, on all devices."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vidpref.language.decoding import answer
from vidpref.models.qwen_vl.inputs import from_arrays
from vidpref.rewards.questions import BETTER
from vidpref.stages.answer_examples import Example
from vidpref.stages.answer_rows import AnswerRows
from vidpref.stages.answer_training import AnswerTraining
from vidpref.training.processes import padded, share_of
from vidpref.training.sharding import activation_rules, batch_sharding, replicated
from vidpref.typing import Array, PyTree


def answers(training: AnswerTraining, params: PyTree, rows: AnswerRows) -> list[str]:
    """Returns the likeliest answer to each row, the same in every process.

    Args:
        training: whose network, mesh and batch size are taken.
        params: of the whole network.
        rows: without answers.
    """
    questions, mesh = training.reader.questions, training.plan.mesh
    rule = questions.rule(training.reader.own.max_tokens, 0.0)

    def run(params: PyTree, batch: PyTree) -> tuple[Array, Array]:
        with activation_rules(mesh):
            prompts, key = from_arrays(batch), jax.random.key(0)
            said = answer(training.module, params, prompts, key, rule)
        return said.tokens[:, 0], said.lengths[:, 0]

    run = jax.jit(run, out_shardings=replicated(mesh))
    size = training.plan.settings.batch_size
    share = share_of(batch_sharding(mesh), size)
    found = [""] * len(rows)
    for shape in np.unique(rows.shapes):
        numbers = np.flatnonzero(rows.shapes == shape).tolist()
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            full = np.array(padded(part, size))
            held = [rows[int(i)] for i in full[share.held]]
            batch = {name: np.stack([row[name] for row in held]) for name in held[0]}
            tokens, lengths = map(np.asarray, run(params, share.place(batch)))
            for i, own, length in zip(part, tokens, lengths, strict=False):
                found[i] = questions.tokens.read(own[:length].tolist())
    return found


def comparison_account(examples: Sequence[Example], said: Sequence[str]) -> dict[str, Any]:
    """Returns how well pairs were compared that were shown in both orders.

    Args:
        examples: those of one order, then the same pairs in the other.
        said: the answers to them.

    Returns:
        `pairs`; `unclear`, the part of answers that cannot be read; `right`, the part of the others
        that name the better clip, None without any; `position_bias`, the part of pairs with both
        answers clear that named the same place in both orders.
    """
    words = [_word(example, text) for example, text in zip(examples, said, strict=True)]
    half = len(examples) // 2
    clear = [(e.word, word) for e, word in zip(examples, words, strict=True) if word]
    both = [(a, b) for a, b in zip(words[:half], words[half:], strict=True) if a and b]
    return {
        "pairs": half,
        "unclear": 1.0 - len(clear) / max(len(words), 1),
        "right": sum(a == b for a, b in clear) / len(clear) if clear else None,
        "position_bias": sum(a == b for a, b in both) / len(both) if both else None,
    }


def _word(example: Example, said: str) -> str:
    try:
        worth = example.question.read(said)
    except ValueError:
        return ""
    return next(word for word, value in BETTER.items() if value == worth)
