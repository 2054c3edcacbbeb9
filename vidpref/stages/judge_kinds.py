"""The judges that are trained: how each sees clips, what it depends on, and what trains it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vidpref.config.judge import ANSWERS, SCORES
from vidpref.config.vlm_judge import REASONED
from vidpref.datasets.miniworld import prompts
from vidpref.datasets.prompts import SPLITS
from vidpref.digests import files_below
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.language.conversation import FRAMES
from vidpref.rewards import templates
from vidpref.rewards.questions import (
    BETTER,
    EQUAL,
    GRADES,
    VERDICTS,
    YES_NO,
    hierarchical,
    reasoned,
)
from vidpref.seeds import fold_seed
from vidpref.stages import answer_examples, answer_rows, judge_rows, judge_training
from vidpref.stages import answer_sources as sources
from vidpref.stages.answer_training import answer_reader, answer_training
from vidpref.stages.answer_worth import hierarchy_worth, reasoned_worth
from vidpref.stages.asking import answers, comparison_account
from vidpref.stages.judge_given import HELD_OUT, Given, check_some
from vidpref.stages.judged_world import reasons
from vidpref.stages.own_answers import drawn_training, train_on_own_answers
from vidpref.stages.train_answers import train_answers, write_judge
from vidpref.stages.train_judge import train_judge
from vidpref.typing import UInt8

_MOST_COMPARED = 128  # held-out pairs that a judge compares, each in both orders


class ClipReader(Protocol):
    """How a judge sees clips."""

    def shown(
        self, frames: UInt8[np.ndarray, "t h w c"], fps: float
    ) -> tuple[UInt8[np.ndarray, "n h w c"], float]:
        """Returns the frames that are shown, and their rate."""

    def row(self, frames: UInt8[np.ndarray, "t h w c"], fps: float, prompt: str) -> object:
        """Raises ValueError for a clip that the judge cannot be shown."""


@dataclasses.dataclass(frozen=True)
class JudgeKind:
    """A kind of judge that is trained.

    Attributes:
        tokens: `(config) -> names` of special tokens that its model needs besides every Qwen-VL's.
        reader: `(config, model) -> ClipReader`; raises ValueError for what does not fit.
        texts: `(config) -> (name, path)` of the files of text that it depends on.
        seen: fields besides `judge` that what it sees of clips, and its training, depend on.
        train: `(folder, given)` trains it.
    """

    tokens: Callable[[ConfigDict], tuple[str, ...]]
    reader: Callable[[ConfigDict, QwenVLFolder], ClipReader]
    texts: Callable[[ConfigDict], list[tuple[str, Path]]]
    seen: tuple[str, ...]
    train: Callable[[Path, Given], None]


def _train_scores(folder: Path, given: Given) -> None:
    config = given.config
    training = judge_training.judge_training(
        config.judge, given.model, given.mesh, dtype=config.compute_dtype, seed=given.seed
    )
    rows = pair_rows(given, training)
    train_judge(folder, training, rows, given.clips, given.held_out(), seed=given.seed)


def pair_rows(given: Given, training: judge_training.JudgeTraining) -> judge_rows.JudgeRows:
    """Returns what a model that scores learns from.

    Raises:
        ValueError: there is nothing.
    """
    config, section, names = given.config, given.config.judge, tuple(given.config.judge.dimensions)
    ratings, said = None, given.said["train"]
    if section.loss == "regression":
        center = float(section.rating_center)
        pairs, labels, ratings = judge_rows.rated(said, given.clips, names, center)
    else:
        decided = section.loss == "bt"
        pairs, labels = judge_rows.compared(said, given.clips, names, decided=decided)
    check_some(pairs, f"config.judge.loss={section.loss!r}: no pair", config)
    logging.info("judge: %d pairs of train prompts", len(pairs))
    return judge_rows.JudgeRows(
        given.clips, training.reader, pairs, labels, ratings, config.compute_dtype
    )


def _train_answers(folder: Path, given: Given) -> None:
    training = answer_training(given.config, given.model, given.mesh, seed=given.seed)
    reader = training.reader
    rows = sources.instruction_rows(given, reader)
    params = train_answers(folder, training, rows, seed=given.seed)
    bounds = sources.bounds_of(given, reader)
    write_judge(folder, training, params, given.clips, given.held_out(), bounds)


def train_drawn(folder: Path, given: Given, section: str) -> None:
    """Trains a judge that answers on answers that it draws.

    Args:
        folder: the stage's folder.
        given: what it is trained from; its model is the one to start from.
        section: "reasoning" (about one clip, McSc 4.1) or "hierarchy" (about two, 4.2).

    Raises:
        ValueError: a setting that cannot work, or nothing to learn from.
    """
    config, own = given.config, given.config.judge[section]
    seed, frames = fold_seed(given.seed, section), config.reward.vlm_judge.frames
    training = answer_training(config, given.model, given.mesh, seed=given.seed)
    training = drawn_training(training, own, f"judge {section}")
    reader = training.reader
    if section == "hierarchy":
        worth = hierarchy_worth(tuple(config.judge.dimensions))
        examples = sources.hierarchies(given, reader, "train", None, np.random.default_rng(seed))
    else:
        worth = reasoned_worth(reader.supported)
        examples = [e for e in sources.graded_examples(given, reader) if e.question.words == GRADES]
        check_some(examples, "config.judge.reasoning.enabled=True: no grade", config)
    rows = answer_rows.AnswerRows(
        given.clips, reader.questions, examples, frames, None, config.compute_dtype
    )
    params = train_on_own_answers(folder, training, own, rows, examples, worth, seed=seed)
    compared = {}
    for split in HELD_OUT if section == "hierarchy" else ():
        rng = np.random.default_rng(fold_seed(seed, split))
        one_order = sources.hierarchies(given, reader, split, _MOST_COMPARED, rng)
        both = [*one_order, *answer_examples.turned(one_order)]
        if not both:
            continue
        rows = answer_rows.AnswerRows(
            given.clips, reader.questions, both, frames, None, config.compute_dtype
        )
        compared[split] = comparison_account(both, answers(training, params, rows))
        logging.info("judge: %s: comparisons %s", split, compared[split])
    bounds = sources.bounds_of(given, reader)
    write_judge(folder, training, params, given.clips, given.held_out(), bounds, compared)


def _texts_of_questions(config: ConfigDict) -> list[tuple[str, Path]]:
    folders = dict.fromkeys(templates.folders(config.reward.vlm_judge.templates))
    return [
        (f"template/{i}/{name}", path)
        for i, folder in enumerate(folders)
        for name, path in files_below(folder)
    ]


def scratch_tokenizer(config: ConfigDict) -> ByteTokenizer:
    """Returns the tokenizer of a small model from nothing: the words that it is asked with, and of
    the mini world, are its tokens, and those of its reasons where it gives some."""
    kind = KINDS[config.judge.name]
    special = tuple(kind.tokens(config))  # refuses texts that are not there
    asked = [path.read_text() for _, path in kind.texts(config)]
    words = [word for known in (VERDICTS, GRADES, YES_NO, BETTER) for word in known]
    shown = [prompt.text for split in SPLITS for prompt in prompts(split, camera=True)]
    texts = (*FRAMES, *asked, *words, *(f" {word}" for word in words), *shown)
    if config.judge.name == ANSWERS and config.reward.vlm_judge.answers == REASONED:
        told = dict.fromkeys(config.judge.dimensions, EQUAL)
        given = (reasoned(reason, word) for reason, word in zip(reasons(), words, strict=False))
        texts += (*reasons(), *given, *(hierarchical(told, word) for word in BETTER))
    return ByteTokenizer(special, texts)


KINDS = {
    SCORES: JudgeKind(
        tokens=lambda config: judge_training.template_of(config.judge).tokens,
        reader=lambda config, model: judge_training.make_reader_of(config.judge, model),
        texts=lambda config: [("template", judge_training.template_file(config.judge))],
        seen=(),
        train=_train_scores,
    ),
    ANSWERS: JudgeKind(
        tokens=lambda config: (),
        reader=answer_reader,
        texts=_texts_of_questions,
        seen=("reward.vlm_judge",),
        train=_train_answers,
    ),
}
