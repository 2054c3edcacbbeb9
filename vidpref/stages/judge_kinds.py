"""The judges that are trained: how each sees clips, what it depends on, and what trains it."""

import dataclasses
from collections.abc import Callable, Mapping, Sized
from pathlib import Path
from typing import Protocol

import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.judge import ANSWERS, SCORES
from vidpref.config.vlm_judge import REASONED
from vidpref.datasets.miniworld import prompts
from vidpref.datasets.preferences import Preferences
from vidpref.datasets.prompts import SPLITS
from vidpref.digests import files_below
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.language.conversation import FRAMES
from vidpref.rewards import templates
from vidpref.rewards.questions import BETTER, GRADES, VERDICTS, YES_NO
from vidpref.seeds import fold_seed
from vidpref.stages import (
    answer_examples,
    answer_rows,
    judge_rows,
    judge_training,
    ranked_rows,
)
from vidpref.stages.answer_training import AnswerReader, answer_reader, answer_training
from vidpref.stages.answer_worth import hierarchy_worth, reasoned_worth
from vidpref.stages.asking import answers, comparison_account
from vidpref.stages.judge_held_out import HeldOut
from vidpref.stages.own_answers import drawn_training, train_on_own_answers
from vidpref.stages.train_answers import train_answers, write_judge
from vidpref.stages.train_judge import train_judge
from vidpref.typing import UInt8

HELD_OUT = ("validation", "test")
_MOST_COMPARED = 512  # held-out pairs that a judge compares, each in both orders


class ClipReader(Protocol):
    """How a judge sees clips."""

    def shown(
        self, frames: UInt8[np.ndarray, "t h w c"], fps: float
    ) -> tuple[UInt8[np.ndarray, "n h w c"], float]:
        """Returns the frames that are shown, and their rate."""

    def row(self, frames: UInt8[np.ndarray, "t h w c"], fps: float, prompt: str) -> object:
        """Raises ValueError for a clip that the judge cannot be shown."""


@dataclasses.dataclass(frozen=True)
class Given:
    """What a judge is trained from.

    Attributes:
        config: the whole config.
        model: the model to start from.
        clips: all clips.
        said: the preferences by split: "train" and those of `HELD_OUT`.
        mesh: devices.
    """

    config: ConfigDict
    model: QwenVLFolder
    clips: judge_rows.SeenClips
    said: Mapping[str, Preferences]
    mesh: Mesh

    @property
    def seed(self) -> int:
        """The seed of the stage."""
        return fold_seed(self.config.seed, "judge")

    def held_out(self) -> dict[str, HeldOut]:
        """Returns the clips that nothing is learnt from, by split."""
        names = tuple(self.config.judge.dimensions)
        return {name: HeldOut.of(self.said[name], self.clips, names) for name in HELD_OUT}


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
    _check_some(pairs, f"config.judge.loss={section.loss!r}: no pair", config)
    logging.info("judge: %d pairs of train prompts", len(pairs))
    return judge_rows.JudgeRows(
        given.clips, training.reader, pairs, labels, ratings, config.compute_dtype
    )


def _train_answers(folder: Path, given: Given) -> None:
    config, own = given.config, given.config.reward.vlm_judge
    training = answer_training(config, given.model, given.mesh, seed=given.seed)
    reader, rng = training.reader, np.random.default_rng(given.seed)
    single = graded_examples(given, reader)
    if own.answers == REASONED:
        without = sum(not example.reason for example in single)
        single = [example for example in single if example.reason]
        logging.info("judge: %d grades without a reason are left out", without)
        _check_some(single, "config.reward.vlm_judge.answers='reasoned': no reason", config)
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
        pairs = _ranked(given, reader, single, rng)
        others += answer_examples.together(ranked_rows.unpaired(single, pairs), rng)
        rows = ranked_rows.RankedRows(*seen, [*pairs, *ranked_rows.two_by_two(others)], *how)
    else:
        if config.judge.critic.together:
            single = answer_examples.together(single, rng)
        rows = answer_rows.AnswerRows(*seen, [*single, *others], *how)
    params = train_answers(folder, training, rows, seed=given.seed)
    bounds = bounds_of(given, reader)
    write_judge(folder, training, params, given.clips, given.held_out(), bounds)


def _ranked(
    given: Given,
    reader: AnswerReader,
    single: list[answer_examples.Example],
    rng: np.random.Generator,
) -> list[ranked_rows.RankedPair]:
    """The compared pairs of train prompts, as many as training takes."""
    train = given.config.judge.train
    dimensions = {one.text: name for name, asked in reader.single.items() for one in asked}
    most = train.steps * train.batch_size
    pairs = ranked_rows.ranked_pairs(
        given.said["train"], given.clips, single, dimensions, rng, most=most
    )
    _check_some(pairs, "config.judge.critic.ranking: no pair that was compared", given.config)
    logging.info("judge: %d pairs are graded side by side", len(pairs))
    return pairs


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
        examples = hierarchies(given, reader, "train", None, np.random.default_rng(seed))
    else:
        worth = reasoned_worth(reader.supported)
        examples = [e for e in graded_examples(given, reader) if e.question.words == GRADES]
        _check_some(examples, "config.judge.reasoning.enabled=True: no grade", config)
    rows = answer_rows.AnswerRows(
        given.clips, reader.questions, examples, frames, None, config.compute_dtype
    )
    params = train_on_own_answers(folder, training, own, rows, examples, worth, seed=seed)
    compared = {}
    for split in HELD_OUT if section == "hierarchy" else ():
        rng = np.random.default_rng(fold_seed(seed, split))
        one_order = hierarchies(given, reader, split, _MOST_COMPARED, rng)
        both = [*one_order, *answer_examples.turned(one_order)]
        if not both:
            continue
        rows = answer_rows.AnswerRows(
            given.clips, reader.questions, both, frames, None, config.compute_dtype
        )
        compared[split] = comparison_account(both, answers(training, params, rows))
        logging.info("judge: %s: comparisons %s", split, compared[split])
    bounds = bounds_of(given, reader)
    write_judge(folder, training, params, given.clips, given.held_out(), bounds, compared)


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
        _check_some(found, "config.judge.hierarchy.enabled=True: no comparison", given.config)
    return found


def graded_examples(given: Given, reader: AnswerReader) -> list[answer_examples.Example]:
    """Returns what the judge is to say of single clips of train prompts.

    Raises:
        ValueError: nothing is known of any.
    """
    bounds = bounds_of(given, reader)
    single = answer_examples.graded(given.said["train"], given.clips, reader.single, bounds)
    _check_some(single, "config.judge.name='vlm_judge': no rating", given.config)
    return single


def bounds_of(given: Given, reader: AnswerReader) -> dict[str, answer_examples.Bounds]:
    """Returns the ratings between which a clip is Normal, by dimension."""
    return answer_examples.bounds_of(given.said["train"], reader.single, given.config.judge.critic)


def _check_some(found: Sized, what: str, config: ConfigDict) -> None:
    if not len(found):
        names = config.judge.dimensions
        raise ValueError(
            f"there is nothing to learn from with {what} of train prompts whose clips could be "
            f"read says anything of {', '.join(names)}; see bad_clips.csv of the frames stage, and "
            "config.data.held_out"
        )


def _texts_of_questions(config: ConfigDict) -> list[tuple[str, Path]]:
    folders = dict.fromkeys(templates.folders(config.reward.vlm_judge.templates))
    return [
        (f"template/{i}/{name}", path)
        for i, folder in enumerate(folders)
        for name, path in files_below(folder)
    ]


def scratch_tokenizer(config: ConfigDict) -> ByteTokenizer:
    """Returns the tokenizer of a small model from nothing: the words that it is asked with, and of
    the mini world, are its tokens."""
    kind = KINDS[config.judge.name]
    special = tuple(kind.tokens(config))  # refuses texts that are not there
    asked = [path.read_text() for _, path in kind.texts(config)]
    words = [word for known in (VERDICTS, GRADES, YES_NO, BETTER) for word in known]
    shown = [prompt.text for split in SPLITS for prompt in prompts(split, camera=True)]
    texts = (*FRAMES, *asked, *words, *(f" {word}" for word in words), *shown)
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
