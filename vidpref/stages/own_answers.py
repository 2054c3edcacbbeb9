"""A judge draws answers, and learns from what they are worth (McSc 3, GRPO)."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vidpref.config.schema import counts_in
from vidpref.config.training import loop_settings
from vidpref.coordination.agreeing import first_host, gathered
from vidpref.datasets.pipeline import training_batches
from vidpref.files import write_text
from vidpref.language.continued import continued
from vidpref.language.decoding import answer
from vidpref.language.image_questions import first_tokens
from vidpref.language.sampling import Sampling
from vidpref.losses.drawn_answers import DrawnAnswersLoss
from vidpref.models.lora import apply_network
from vidpref.models.qwen_vl.inputs import from_arrays
from vidpref.objectives.policy_gradient import AdvantageRule, PolicyGradient, group_advantages
from vidpref.rewards.questions import YES_NO
from vidpref.stages.answer_examples import Example
from vidpref.stages.answer_rows import AnswerRows
from vidpref.stages.answer_training import AnswerTraining
from vidpref.stages.answer_worth import SUPPORTED, Worth
from vidpref.training.gathered import gathering
from vidpref.training.loop import fit
from vidpref.training.plan import make_plan
from vidpref.training.processes import share_of
from vidpref.training.rollouts import Prepare, Rollout, make_rollout
from vidpref.training.sharding import batch_sharding, replicated
from vidpref.typing import Array, PyTree

_SAMPLES = "answers.jsonl"  # in the stage's folder: some answers of every drawing that is logged
_SHOWN = 4
PHASES = ("reasoning", "hierarchy")  # McSc's ScDR and HCR, in the order in which they are trained


def phases(config: ConfigDict) -> tuple[str, ...]:
    """Returns the sections of `config.judge` by which its judge learns from its own answers."""
    return tuple(name for name in PHASES if counts_in(f"judge.{name}.group", config))


def instructed(config: ConfigDict) -> bool:
    """Whether the judge is told answers, and does not begin with drawing its own."""
    field = "judge.critic.instruct"
    return not counts_in(field, config) or config.judge.critic.instruct


def drawn_training(training: AnswerTraining, section: ConfigDict, name: str) -> AnswerTraining:
    """Returns the training with the loss and the settings of one on its own answers.

    Args:
        training: of the same judge.
        section: `judge.reasoning` or `judge.hierarchy`.
        name: name of the run, in messages.

    Raises:
        ValueError: a setting that cannot work.
    """
    loss = DrawnAnswersLoss(
        training.module,
        training.plan.tuning,
        sampling(training, section),
        PolicyGradient(clip_low=float(section.clip), kl_coefficient=float(section.kl)),
    )
    AdvantageRule(section.group)
    settings, mesh = loop_settings(section.train), training.plan.mesh
    plan = make_plan(training.plan.tuning, loss, settings, mesh, name=name)
    return dataclasses.replace(training, plan=plan, ranked=0)


def sampling(training: AnswerTraining, section: ConfigDict) -> Sampling:
    """Returns how answers are drawn."""
    length = training.reader.own.max_tokens
    return training.reader.questions.rule(length, float(section.temperature))


def train_on_own_answers(
    folder: Path,
    training: AnswerTraining,
    section: ConfigDict,
    rows: AnswerRows,
    examples: Sequence[Example],
    worth: Worth,
    *,
    seed: int,
) -> PyTree:
    """Trains on answers that the judge draws; returns the parameters of the whole network.

    `folder/answers.jsonl` has some answers of each logged step, with what they were worth.

    Args:
        folder: the stage's folder; a run that was stopped there goes on.
        training: result of `drawn_training`.
        section: as there.
        rows: the questions, without answers.
        examples: what is right, by the numbers of `rows`.
        worth: what an answer is worth.
        seed: seed of the order of the rows and of the draws.
    """
    plan = training.plan
    size = plan.settings.batch_size
    batches = training_batches(
        rows,
        batch_size=size,
        seed=seed,
        shapes=rows.shapes,
        positions=share_of(batch_sharding(plan.mesh), size).held,
    )
    params, tuning = training.start(), plan.tuning
    rule = sampling(training, section)
    draw = make_rollout(drawing(training, section, rule, worth.next), plan)
    scoring = Scoring(folder, training, section, examples, worth)
    frozen = tuning.frozen(params, reference=params if section.kl else None)
    logging.info("judge: %d questions, %d answers each", len(rows), section.group)
    state = fit(
        plan,
        batches,
        folder,
        seed=seed,
        start=tuning.start(params),
        frozen=frozen,
        rollout=Rollout(draw, scoring),
    )
    trained = state.ema if plan.settings.ema_decay else state.params
    return tuning.whole(trained, params)


def drawing(
    training: AnswerTraining, section: ConfigDict, rule: Sampling, following: str
) -> Prepare:
    """Returns the `prepare` of a rollout that adds answers to a batch of questions.

    It adds `drawn` and `log_probs` [b, g, n], `lengths` and `ended` [b, g] (see `Answers`), and
    with a question that follows `supported` [b, g], whether Yes is then the more probable.

    Args:
        training: the judge.
        section: as of `drawn_training`.
        rule: how answers are drawn.
        following: what is asked next; "" for nothing.
    """
    module, questions = training.module, training.reader.questions
    more = ids = None
    if following:
        more = questions.next_question(following)
        ids = first_tokens(questions.tokens, YES_NO)

    plan, gather = training.plan, lambda policy: policy
    if section.gather:
        gather = gathering(plan.tuning.network, plan.mesh)

    def prepare(policy: PyTree, frozen: PyTree, batch: PyTree, key: Array, step: Array) -> PyTree:
        policy, prompts = gather(policy), from_arrays(batch)
        said = answer(module, policy, prompts, key, rule, section.group)
        found = {
            "drawn": said.tokens,
            "log_probs": said.log_probs,
            "lengths": said.lengths,
            "ended": said.ended,
        }
        if more is not None:
            asked = continued(prompts, said.tokens, said.lengths, more)
            states = apply_network(module, policy, asked, method="states")
            last = prompts.tokens.shape[1] + said.lengths.reshape(-1) + len(more) - 1
            states = jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]
            logits = apply_network(module, policy, states, method="logits").astype(jnp.float32)
            yes, no = (jax.nn.logsumexp(logits[:, jnp.array(ids[w])], axis=1) for w in YES_NO)
            found["supported"] = (yes > no).reshape(said.lengths.shape)
        return {**batch, **found}

    return prepare


class Scoring:
    """What a drawing's answers are worth; each process reads those that it owns.

    Called with a drawing and the step, it returns the batch of `DrawnAnswersLoss`, and the metrics
    of `group_advantages` of the rewards.

    Args:
        folder: gets `answers.jsonl`.
        training: the judge.
        section: as of `drawn_training`.
        examples: what is right, by number.
        worth: what an answer is worth.
    """

    def __init__(
        self,
        folder: Path,
        training: AnswerTraining,
        section: ConfigDict,
        examples: Sequence[Example],
        worth: Worth,
    ):
        self._samples, self._examples, self._worth = folder / _SAMPLES, examples, worth
        self._tokens, mesh = training.reader.questions.tokens, training.plan.mesh
        self._rows, self._every = batch_sharding(mesh), section.train.log_every
        how = functools.partial(
            group_advantages,
            weights=dict.fromkeys(worth.names, 1.0),
            rule=AdvantageRule(section.group),
        )
        self._advantages = jax.jit(
            how, in_shardings=(self._rows,), out_shardings=(self._rows, replicated(mesh))
        )

    def __call__(self, drawn: Mapping[str, PyTree], step: int) -> tuple[PyTree, dict[str, Array]]:
        share = share_of(self._rows, len(drawn["example"]))
        read = {
            name: share.read(drawn[name])
            for name in ("example", "drawn", "lengths", SUPPORTED)
            if name in drawn
        }
        names = self._worth.names
        worth = np.zeros((*read["lengths"].shape, len(names)), np.float32)
        holds = read.get(SUPPORTED, np.zeros(read["lengths"].shape, bool))
        told = []
        for i, number in enumerate(read["example"].tolist()):
            example = self._examples[number]
            for j, length in enumerate(read["lengths"][i].tolist()):
                said = self._tokens.read(read["drawn"][i, j, :length].tolist())
                worth[i, j] = self._worth.of(example, said, bool(holds[i][j]))
                if j == 0 and len(told) < _SHOWN:
                    told.append(
                        {"right": example.word, "said": said, "worth": worth[i, j].tolist()}
                    )
        every = gathered(f"answers of step {step}", [share.owned.tolist(), worth.tolist(), told])
        whole = np.zeros((share.size, *worth.shape[1:]), np.float32)
        for rows, values, _ in every:
            if rows:
                whole[rows] = np.array(values, np.float32)
        if first_host() and step % self._every == 0:
            self._keep(step, [own for *_, some in every for own in some][:_SHOWN])
        scores = {name: whole[..., i] for i, name in enumerate(names)}
        placed = share.place({name: x[share.held] for name, x in scores.items()})
        advantage, metrics = self._advantages(placed)
        batch = {n: x for n, x in drawn.items() if n not in ("example", SUPPORTED)}
        return {**batch, "advantage": advantage}, metrics

    def _keep(self, step: int, answers: Sequence[Mapping[str, Any]]) -> None:
        before = self._samples.read_text() if self._samples.exists() else ""
        lines = [json.dumps({"step": step, **own}) + "\n" for own in answers]
        write_text(self._samples, before + "".join(lines))
