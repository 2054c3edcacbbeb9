"""What a judge that answers in words learns from, of what was said about clips."""

import dataclasses

import numpy as np
from absl import logging

from vidpref.config.vlm_judge import PROBABILITIES, REASONED
from vidpref.stages import answer_examples, ranked_rows
from vidpref.stages.answer_rows import AnswerRows
from vidpref.stages.answer_training import AnswerReader
from vidpref.stages.judge_given import Given, check_some


def instruction_rows(given: Given, reader: AnswerReader) -> AnswerRows | ranked_rows.RankedRows:
    """Returns the rows of instruction tuning: grades, comparisons, and what McSc's phases ask.

    Args:
        given: what it is trained from.
        reader: what it is asked.

    Raises:
        ValueError: there is nothing to learn from.
    """
    config, own = given.config, given.config.reward.vlm_judge
    rng = np.random.default_rng(given.seed)
    single = graded_examples(given, reader)
    if own.answers == REASONED:
        without = sum(not example.reason for example in single)
        single = [example for example in single if example.reason]
        logging.info("judge: %d grades without a reason are left out", without)
        check_some(single, "config.reward.vlm_judge.answers='reasoned': no reason", config)
    most = round(config.judge.critic.pairs * len(single))
    others = answer_examples.compared(
        given.said["train"], given.clips, reader.pairs, most=most, rng=rng
    )
    logging.info("judge: %d grades and %d pairs of train prompts", len(single), len(others))
    if reader.supported:
        others += answer_examples.criticised(single, reader.supported, rng)
    if reader.whole is not None:
        others += hierarchies(given, reader, "train", len(single), rng)
    seen = (given.clips, reader.questions)
    how = (own.frames, own.answers, config.compute_dtype)
    if config.judge.critic.ranking:
        pairs = _ranked(given, reader, rng)
        rest = _beside_pairs(single, others, pairs, own.answers, rng)
        return ranked_rows.RankedRows(*seen, [*pairs, *ranked_rows.two_by_two(rest)], *how)
    if config.judge.critic.together:
        single = answer_examples.together(single, rng)
    return AnswerRows(*seen, [*single, *others], *how)


def hierarchies(
    given: Given, reader: AnswerReader, split: str, most: int | None, rng: np.random.Generator
) -> list[answer_examples.Example]:
    """Returns what the judge is to say of pairs of a split's prompts in all dimensions.

    Args:
        given: what it is trained from.
        reader: what it is asked.
        split: of the prompts.
        most: number of examples, drawn by chance; None for all.
        rng: which those are, and which clip is shown first.

    Raises:
        ValueError: nothing is known of any.
    """
    said, names = given.said[split], tuple(given.config.judge.dimensions)
    most = len(said.comparisons) if most is None else most
    found = answer_examples.hierarchies(said, given.clips, reader.whole, names, most=most, rng=rng)
    if split == "train":
        check_some(found, "config.judge.hierarchy.enabled=True: no comparison", given.config)
    return found


def graded_examples(given: Given, reader: AnswerReader) -> list[answer_examples.Example]:
    """Returns what the judge is to say of single clips of train prompts.

    Raises:
        ValueError: nothing is known of any.
    """
    bounds = bounds_of(given, reader)
    single = answer_examples.graded(given.said["train"], given.clips, reader.single, bounds)
    check_some(single, "config.judge.name='vlm_judge': no rating", given.config)
    return single


def bounds_of(given: Given, reader: AnswerReader) -> dict[str, answer_examples.Bounds]:
    """Returns the ratings between which a clip is Normal, by dimension."""
    return answer_examples.bounds_of(given.said["train"], reader.single, given.config.judge.critic)


def _ranked(
    given: Given, reader: AnswerReader, rng: np.random.Generator
) -> list[ranked_rows.RankedPair]:
    """The compared pairs of train prompts, as many as training takes.

    What is asked of them is answered in a word. A reason before it would give the word away: the
    order of two clips would be learnt from what is said of them, and not by sight.
    """
    train, bounds = given.config.judge.train, bounds_of(given, reader)
    said, dimensions = given.said["train"], {}
    for name, asked in reader.direct.items():
        dimensions |= {one.text: name for one in asked}
    graded = answer_examples.graded(said, given.clips, reader.direct, bounds)
    if reader.direct is not reader.single:
        graded = [dataclasses.replace(example, reason="") for example in graded]
    most = train.steps * train.batch_size
    pairs = ranked_rows.ranked_pairs(said, given.clips, graded, dimensions, rng, most=most)
    check_some(pairs, "config.judge.critic.ranking: no pair that was compared", given.config)
    logging.info("judge: %d pairs are graded side by side", len(pairs))
    return pairs


def _beside_pairs(
    single: list[answer_examples.Example],
    others: list[answer_examples.Example],
    pairs: list[ranked_rows.RankedPair],
    form: str,
    rng: np.random.Generator,
) -> list[answer_examples.Example]:
    """What is learnt beside ranked pairs: comparisons, and grades that no pair teaches.

    A judge that gives reasons learns them here, with all grades; as many rows of all that as there
    are of pairs, drawn by chance, since what it sees it learns of the pairs.
    """
    if form == PROBABILITIES:
        return [*others, *answer_examples.together(ranked_rows.unpaired(single, pairs), rng)]
    every = [*single, *others]
    chosen = sorted(rng.permutation(len(every))[: 2 * len(pairs)].tolist())
    logging.info("judge: beside them %d of %d answers with reasons", len(chosen), len(every))
    return [every[i] for i in chosen]
