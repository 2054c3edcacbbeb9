"""What the `judge` section of a config trains where its judge answers in words."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.training import loop_settings
from vidpref.config.vlm_judge import PROBABILITIES
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.language.image_questions import ImageQuestions
from vidpref.losses.answers import AnswerLoss
from vidpref.losses.ranked_answers import RankedAnswerLoss
from vidpref.models.qwen_vl.answers import QwenVLAnswers
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import Room, shapes_of, smallest
from vidpref.rewards import templates
from vidpref.rewards.questions import Question, shown_frames
from vidpref.rewards.vlm_judge import first_words, open_model
from vidpref.stages.judge_tuning import judge_tuning, kept
from vidpref.stages.ranked_rows import scales
from vidpref.training.plan import Plan, make_plan
from vidpref.training.sharding import abstract_params, batch_sharding
from vidpref.typing import Array, PyTree, UInt8


@dataclasses.dataclass(frozen=True)
class AnswerReader:
    """How the judge of `reward.vlm_judge` is shown clips and asked about them.

    Attributes:
        questions: rows of frames and text.
        single: what it is asked about one clip, by dimension.
        pairs: what it is asked about two; none where it does not learn to compare.
        supported: what it is asked about its own answer; "" where it is not.
        whole: what it is asked about two in all dimensions; None where it is not.
        own: the section.
    """

    questions: ImageQuestions
    single: dict[str, list[Question]]
    pairs: dict[str, Question]
    supported: str
    whole: Question | None
    own: ConfigDict

    def shown(self, frames: UInt8[Array, "t h w c"], fps: float):
        """Returns the frames that are shown, and their rate; raises ValueError for too few."""
        chosen = shown_frames(len(frames), self.own.frames)
        rate = fps * (len(chosen) - 1) / max(len(frames) - 1, 1)
        return frames[chosen], rate or fps

    def row(self, frames: UInt8[Array, "t h w c"], fps: float, prompt: str) -> None:
        """Refuses a clip that the judge could not be asked about, with a ValueError."""
        if not prompt.strip():
            raise ValueError("the prompt is empty: what the clip was made for is unknown")
        seen = self.questions.see(frames)
        for asked in self.single.values():
            for question in asked:
                self.questions.row(seen, question.about(prompt, len(frames)))
        for question in (*self.pairs.values(), *([self.whole] if self.whole else [])):
            self.questions.row(seen * 2, question.about(prompt, len(frames)))


@dataclasses.dataclass(frozen=True)
class AnswerTraining:
    """What is trained.

    Attributes:
        plan: the run.
        module: the network.
        reader: how clips are shown.
        section: the `judge` section.
        base: the model that it starts from.
        ranked: where a row is two clips, side by side, what it asks of both at most; else 0.
    """

    plan: Plan
    module: QwenVLAnswers
    reader: AnswerReader
    section: ConfigDict
    base: QwenVLFolder
    ranked: int = 0

    def arguments(self, room: Room, said: int) -> dict[str, PyTree]:
        """Returns what the training step is given, in shapes with shardings, by name.

        Args:
            room: size of the arrays of a row, of which nothing is None.
            said: tokens of an answer at most.
        """
        tuning, mesh = self.plan.tuning, self.plan.mesh
        params = abstract_params(jax.eval_shape(tuning.network, jax.random.key(0)), mesh)
        rows, sharding = self.plan.settings.batch_size, batch_sharding(mesh)
        own = shapes_of(self.module.config, room, self.module.dtype)
        own["said"] = jax.ShapeDtypeStruct((said,), jnp.bool_)
        if self.ranked:
            labels = jax.ShapeDtypeStruct((self.ranked,), jnp.int32)
            own = {n: jax.ShapeDtypeStruct((2, *x.shape), x.dtype) for n, x in own.items()}
            own["at"] = jax.ShapeDtypeStruct((2, self.ranked), jnp.int32)
            own |= {"scale": labels, "preference": labels}
        found = {
            name: jax.ShapeDtypeStruct((rows, *x.shape), x.dtype, sharding=sharding)
            for name, x in own.items()
        }
        return {"state": self.plan.state, "frozen": tuning.frozen(params), "batch": found}

    @functools.cached_property
    def model(self) -> QwenVL:
        """The network that answers."""
        module = self.module
        return self.base.module(attention=module.attention, dtype=module.dtype)

    def start(self) -> PyTree:
        """Returns the parameters of the base; what stands still is kept as `lora.base` says."""
        network = self.plan.tuning.network
        target = abstract_params(jax.eval_shape(network, jax.random.key(0)), self.plan.mesh)
        params = {"model": self.base.load(self.model, target["model"])}
        return kept(self.plan.tuning, params)


def answer_reader(config: ConfigDict, base: QwenVLFolder) -> AnswerReader:
    """Returns how the judge that a config trains is shown clips, and what it is asked.

    Args:
        config: the whole config; `judge` and `reward.vlm_judge` count.
        base: the model.

    Raises:
        ValueError: a dimension without text, or a tokenizer or setting that does not fit.
    """
    own, section = config.reward.vlm_judge, config.judge
    names = tuple(section.dimensions)
    single = templates.asked(names, own.answers, own.graded, own.templates)
    if wrong := [name for name, asked in single.items() if len(asked) != 1]:
        raise ValueError(
            f"config.reward.vlm_judge.graded={own.graded!r} asks several questions of "
            f"{', '.join(wrong)}, and a rating answers one: a judge is trained on grades"
        )
    pairs = templates.compared(names, own.templates) if section.critic.pairs else {}
    pixels = own.min_pixels, own.max_pixels
    _, questions = open_model(str(base.path), pixels, own.most_tokens, own.video_fps)
    if own.answers == PROBABILITIES:
        first_words(questions.tokens, single)
    supported = ""
    if section.reasoning.enabled and section.reasoning.self_critic:
        supported = templates.text("supported.txt", templates.folders(own.templates)[0])
    whole = templates.hierarchy(names, own.templates) if section.hierarchy.enabled else None
    return AnswerReader(questions, single, pairs, supported, whole, own)


def answer_training(
    config: ConfigDict, base: QwenVLFolder, mesh: Mesh, *, seed: int, name: str = "judge"
) -> AnswerTraining:
    """Returns what a config trains whose judge answers in words (instruction tuning, IPO 3.2).

    Args:
        config: the whole config.
        base: the model that it starts from.
        mesh: devices.
        seed: seed of fresh adapters.
        name: name of the run, in messages.

    Raises:
        ValueError: a setting that cannot work.
    """
    section = config.judge
    module = QwenVLAnswers(
        base.config,
        attention=section.attention,
        remat=section.remat,
        dtype=config.compute_dtype,
    )

    def network(key: Array) -> PyTree:
        return module.init(key, smallest(base.config, more=1), 1)["params"]

    tuning = judge_tuning(section, network, seed)
    reader, ranking = answer_reader(config, base), float(section.critic.ranking)
    loss: AnswerLoss | RankedAnswerLoss = AnswerLoss(module, tuning)
    ranked = 0
    if ranking:  # behind a reason of its own, a row asks one thing
        ranked = len(reader.single) if config.reward.vlm_judge.answers == PROBABILITIES else 1
        words = scales(reader.questions.tokens)
        loss = RankedAnswerLoss(module, tuning, words, ranking, float(section.theta))
    plan = make_plan(tuning, loss, loop_settings(section.train), mesh, name=name)
    return AnswerTraining(plan, module, reader, section, base, ranked)
