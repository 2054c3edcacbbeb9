"""A vision-language model of a local folder as a judge, which is asked about frames of clips.

Its answers are generated and read, or the probabilities of the words by which a question may be
answered are read off the model, which takes one pass and no sampling.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vidpref.config.vlm_judge import REASONED
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.decoding import answer
from vidpref.language.image_questions import ImageQuestions, first_tokens
from vidpref.language.patches import Eye
from vidpref.language.sampling import Sampling
from vidpref.models.frozen import Keeping
from vidpref.models.lora import apply_network
from vidpref.models.qwen_vl.inputs import Inputs
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import Room, Row, smallest
from vidpref.rewards.questions import Answer, Question, judgement_of, shown_frames, together
from vidpref.rewards.reward import Judgement
from vidpref.training.sharding import (
    abstract_params,
    activation_rules,
    batch_sharding,
    filled_up,
    make_mesh,
    replicated,
)
from vidpref.typing import Array, Float, Key, PyTree, UInt8

ROW_TOKENS = 128  # rows are padded to a multiple of it: prompts of many lengths share a program
_AGAIN = 0.7  # temperature of further tries; at 0 the same answer would come again


class VlmJudge:
    """Shows a model some frames and the prompt, and asks one question a dimension, or several.

    The model lies on the devices of this process, and every process asks about clips of its own. A
    clip without a clear answer in every dimension is a failure, never a score.

    Args:
        questions: by dimension, what is asked; the mean of what the answers are worth counts.
        folder: see `QwenVLFolder`.
        answers: "words" of a generated answer, or "probabilities": the mean worth of the words by
            which an answer may begin, weighed by their probabilities, over that of all of them.
        frames: number of frames shown, evenly spaced from first to last.
        video_fps: frames a second of these, shown as one video; 0: as images.
        min_pixels: of a frame, at least; smaller ones grow.
        max_pixels: of a frame, at most.
        most_tokens: of frames and question; a clip with more is a failure.
        max_tokens: longest answer.
        retries: further tries, drawn by chance, where an answer is not clear.
        weighed: of answers with reasoning, what counts is not the word but the mean worth of all
            words of the question, weighed by their probabilities behind the same reasoning (Liu et
            al. 2023, "G-Eval", 2).
        batch_size: questions at once, over all devices of the process.
        dtype: type of the computation.

    Raises:
        ValueError: a folder of no such model, a tokenizer that is not the model's, or words that
            it cannot tell apart.
    """

    def __init__(
        self,
        questions: Mapping[str, Sequence[Question]],
        folder: str,
        *,
        answers: str = "words",
        frames: int = 8,
        video_fps: float = 0.0,
        min_pixels: int = 50_176,
        max_pixels: int = 200_704,
        most_tokens: int = 8192,
        max_tokens: int = 256,
        retries: int = 2,
        weighed: bool = False,
        batch_size: int = 8,
        dtype: str = "bfloat16",
    ):
        opened, self._reader = open_model(folder, (min_pixels, max_pixels), most_tokens, video_fps)
        self.dimensions, self._questions = tuple(questions), questions
        self._soft = answers == "probabilities"
        self._behind = weighed and answers == REASONED
        read_off = self._soft or self._behind
        self._words = first_words(self._reader.tokens, questions) if read_off else {}
        self._name, self._frames, self._retries = opened.path.name, frames, retries
        self._length = max_tokens
        self._mesh = make_mesh({"fsdp": -1}, jax.local_devices())
        self._batch_size = filled_up(batch_size, self._mesh)
        self._module = opened.module(dtype=dtype, attention="auto")

        def init(key: Array) -> PyTree:
            return self._module.init(key, smallest(opened.config))["params"]

        target = abstract_params(jax.eval_shape(init, jax.random.key(0)), self._mesh)
        self._params = opened.load(self._module, target, keep=Keeping(init, "compute").one)

    def __str__(self) -> str:
        if self._soft:
            return f"{self._name}, by the probabilities of its answers"
        return f"{self._name} in {self._retries + 1} tries each"

    def score(self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]) -> Judgement:
        """Returns one number of [0, 1] a clip and dimension.

        The reasons are the model's words or their probabilities, a question a line, under the
        names of their dimensions where there are several.

        Raises:
            ValueError: not as many prompts as clips.
        """
        if len(clips) != len(prompts):
            raise ValueError(f"{len(clips)} clips and {len(prompts)} prompts")
        asked = [(i, name) for i in range(len(clips)) for name in self.dimensions]
        flat = [(i, question) for i, name in asked for question in self._questions[name]]
        said = iter(self._ask(np.asarray(clips), prompts, flat))
        answers: list[dict[str, Answer]] = [{} for _ in clips]
        for i, name in asked:
            answers[i][name] = together([next(said) for _ in self._questions[name]])
        return judgement_of(self.dimensions, answers)

    def _ask(
        self,
        clips: UInt8[np.ndarray, "b t h w c"],
        prompts: Sequence[str],
        asked: Sequence[tuple[int, Question]],
    ) -> list[Answer]:
        """The answer to each question about a clip."""
        shown = shown_frames(clips.shape[1], self._frames)
        see = functools.cache(lambda i: self._reader.see(clips[i][shown]))
        found: list[Answer] = [(None, "")] * len(asked)
        rows: dict[int, Row] = {}
        for number, (i, question) in enumerate(asked):
            try:
                if not prompts[i].strip():
                    raise ValueError("the prompt is empty: what the clip was made for is unknown")
                rows[number] = self._reader.row(see(i), question.about(prompts[i], len(shown)))
            except ValueError as error:
                found[number] = None, str(error)
        longest = max((len(row.tokens) for row in rows.values()), default=0)
        room = Room(-(-longest // ROW_TOKENS) * ROW_TOKENS)
        for attempt in range(1 if self._soft else self._retries + 1):
            left = [number for number in rows if found[number][0] is None]
            for start in range(0, len(left), self._batch_size):
                part = left[start : start + self._batch_size]
                questions = [asked[number][1] for number in part]
                packed = self._packed([rows[number] for number in part], room)
                if self._soft:
                    answers = self._weighed(packed, questions)
                else:
                    answers = self._generated(packed, questions, attempt)
                if self._behind:
                    answers = self._reconsidered([rows[n] for n in part], questions, answers, room)
                for number, own in zip(part, answers, strict=True):
                    found[number] = own
        return found

    def _packed(self, rows: list[Row], room: Room) -> Inputs:
        full = rows + rows[:1] * (self._batch_size - len(rows))
        return jax.device_put(self._reader.pack(full, room), batch_sharding(self._mesh))

    def _generated(
        self, packed: Inputs, questions: Sequence[Question], attempt: int
    ) -> list[Answer]:
        key = jax.random.key(attempt)
        drawn = self._answer_again if attempt else self._answer
        tokens, lengths, ended = map(np.asarray, drawn(self._params, packed, key))
        found = []
        for question, own, length, whole in zip(questions, tokens, lengths, ended, strict=False):
            text = question.heard(self._reader.tokens.read(own[:length].tolist()))
            try:
                found.append((question.read(text), text))
            except ValueError as error:
                cut = "" if whole else f" (cut off at max_tokens={self._length})"
                found.append((None, f"{error}{cut}"))
        return found

    def _weighed(self, packed: Inputs, questions: Sequence[Question]) -> list[Answer]:
        chances = np.asarray(self._next(self._params, packed), np.float64)
        found = []
        for question, row in zip(questions, chances, strict=False):
            ids = self._words[tuple(question.words)]
            mass = {word: float(np.exp(row[own]).sum()) for word, own in ids.items()}
            total = sum(mass.values())
            if not (np.isfinite(total) and total > 0):
                found.append((None, "the model gave probabilities that are not finite"))
                continue
            worth = sum(question.words[word] * share for word, share in mass.items()) / total
            shares = ", ".join(f"{word} {share / total:.4f}" for word, share in mass.items())
            found.append((worth, f"{shares}; together {total:.3g} of all answers"))
        return found

    def _reconsidered(
        self, rows: list[Row], questions: Sequence[Question], said: list[Answer], room: Room
    ) -> list[Answer]:
        """Answers with the word weighed against the others, where there is one."""
        clear = [i for i, (worth, _) in enumerate(said) if worth is not None]
        if not clear:
            return said
        before = []
        for i in clear:
            worth, text = said[i]
            word = next(word for word, value in questions[i].words.items() if value == worth)
            told = self._reader.tokens.text(text[: text.lower().rindex(word.lower())])
            tokens = np.concatenate([rows[i].tokens, np.array(told, np.int32)])
            before.append(dataclasses.replace(rows[i], tokens=tokens))
        longer = Room(-(-(room.tokens + self._length) // ROW_TOKENS) * ROW_TOKENS)
        weighed = self._weighed(self._packed(before, longer), [questions[i] for i in clear])
        found = list(said)
        for i, (worth, shares) in zip(clear, weighed, strict=True):
            found[i] = worth, f"{said[i][1]}\n{shares}" if worth is not None else shares
        return found

    @functools.cached_property
    def _answer(self):
        return answering(self._module, self._mesh, self._reader.rule(self._length, 0.0))

    @functools.cached_property
    def _answer_again(self):
        return answering(self._module, self._mesh, self._reader.rule(self._length, _AGAIN))

    @functools.cached_property
    def _next(self):
        return weighing(self._module, self._mesh)


def answering(module: QwenVL, mesh: Mesh, rule: Sampling) -> jax.stages.Wrapped:
    """Returns the compiled `(params, inputs, key) -> (tokens, lengths, ended)`, an answer a row.

    Args:
        module: the network.
        mesh: devices, of this process alone.
        rule: how tokens are drawn.
    """

    def run(params: PyTree, inputs: Inputs, key: Key[Array, ""]) -> tuple[Array, Array, Array]:
        with activation_rules(mesh):
            said = answer(module, params, inputs, key, rule)
        return said.tokens[:, 0], said.lengths[:, 0], said.ended[:, 0]

    return jax.jit(run, out_shardings=replicated(mesh))


def weighing(module: QwenVL, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the compiled `(params, inputs) -> log-probabilities of the first token [b, v]`.

    Args:
        module, mesh: as of `answering`.
    """

    def run(params: PyTree, inputs: Inputs) -> Float[Array, "b v"]:
        with activation_rules(mesh):
            states = apply_network(module, params, inputs, method="states")
            logits = apply_network(module, params, states[:, -1], method="logits")
        return jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)

    return jax.jit(run, out_shardings=replicated(mesh))


def open_model(
    folder: str, pixels: tuple[int, int], most_tokens: int, video_fps: float = 0.0
) -> tuple[QwenVLFolder, ImageQuestions]:
    """Returns a model's folder, and what makes rows for it; weights are not read.

    Args:
        folder, most_tokens, video_fps: as of `VlmJudge`.
        pixels: of a frame, least and most.

    Raises:
        ValueError: see `VlmJudge`.
    """
    if not folder:
        raise ValueError(
            "config.reward.vlm_judge.folder is empty: give the folder of a Qwen2-VL, Qwen2.5-VL "
            "or Qwen3-VL model"
        )
    opened = QwenVLFolder(folder)
    eye = Eye.of(opened.config, images=pixels, videos=pixels)
    return opened, ImageQuestions(
        opened.config, ChatTokens(opened.path), eye, most_tokens, video_fps
    )


def first_words(
    tokens: ChatTokens, questions: Mapping[str, Sequence[Question]]
) -> dict[tuple[str, ...], Mapping[str, list[int]]]:
    """Returns, by the words of a question, the tokens with which each may begin.

    Raises:
        ValueError: see `first_tokens`.
    """
    every = [question for own in questions.values() for question in own]
    return {tuple(q.words): first_tokens(tokens, q.words) for q in every}
