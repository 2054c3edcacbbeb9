"""What a judge that answers in words learns from, of what was said about clips."""

from collections.abc import Sequence

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
    two = answer_examples.compared(
        given.said["train"], given.clips, reader.pairs, most=most, rng=rng
    )
    logging.info("judge: %d grades and %d pairs of train prompts", len(single), len(two))
    kinds = [two]
    if reader.supported:
        kinds.append(answer_examples.criticised(single, reader.supported, rng))
    if reader.whole is not None:
        kinds.append(hierarchies(given, reader, "train", len(single), rng))
    seen = (given.clips, reader.questions)
    how = (own.frames, own.answers, config.compute_dtype)
    if config.judge.critic.ranking:
        pairs = _ranked(given, reader, single, rng)
        if own.answers == PROBABILITIES:
            single = answer_examples.together(ranked_rows.unpaired(single, pairs), rng)
        kinds.append(single)
        if own.answers != PROBABILITIES:  # as many with reasons of their own as of shared ones
            there = sum(map(len, kinds))
            kinds = _as_many_of_each(kinds, 2 * len(pairs), rng)
            logging.info("judge: %d of %d other rows", sum(map(len, kinds)), there)
        others = [example for kind in kinds for example in kind]
        return ranked_rows.RankedRows(*seen, [*pairs, *ranked_rows.two_by_two(others)], *how)
    others = [example for kind in kinds for example in kind]
    if config.judge.critic.together:
        single = answer_examples.together(single, rng)
    return AnswerRows(*seen, [*single, *others], *how)


def _as_many_of_each(
    kinds: Sequence[list[answer_examples.Example]], most: int, rng: np.random.Generator
) -> list[list[answer_examples.Example]]:
    """Returns examples of each kind, the same share of `most`, drawn by chance; all of a smaller
    kind."""
    share = most // sum(map(bool, kinds))
    return [
        [kind[i] for i in sorted(rng.permutation(len(kind))[:share].tolist())] for kind in kinds
    ]


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
    given: Given,
    reader: AnswerReader,
    single: list[answer_examples.Example],
    rng: np.random.Generator,
) -> list[ranked_rows.RankedPair]:
    """The compared pairs of train prompts; as many as training takes, or half with reasons."""
    train, said = given.config.judge.train, given.said["train"]
    dimensions = {one.text: name for name, asked in reader.single.items() for one in asked}
    most = train.steps * train.batch_size
    reasons = given.config.reward.vlm_judge.answers != PROBABILITIES
    every = len(said.comparisons) if reasons else most
    pairs = ranked_rows.ranked_pairs(said, given.clips, single, dimensions, rng, most=every)
    if reasons:
        pairs = ranked_rows.behind_reasons(pairs, rng, most=most // 2)
    lacking = "no pair that was compared"
    if reasons:
        lacking = "no pair of clips with the same reason, of which one is better"
    check_some(pairs, f"config.judge.critic.ranking: {lacking}", given.config)
    logging.info("judge: %d pairs are graded side by side", len(pairs))
    return pairs
