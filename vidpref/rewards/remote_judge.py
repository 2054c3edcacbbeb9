"""A vision-language model behind the OpenAI-compatible chat API as a judge."""

import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vidpref.datasets.pictures import enlarge
from vidpref.rewards.chat import ChatModel, encode_image
from vidpref.rewards.questions import Answer, Question, judgement_of, shown_frames, together
from vidpref.rewards.reward import Judgement
from vidpref.typing import Array, UInt8


class RemoteJudge:
    """Shows a model some frames and the prompt, and asks one question a dimension, or several.

    A clip without a clear answer in every dimension is a failure, never a score.

    Args:
        base_url: address, e.g. "http://127.0.0.1:8000/v1"; `ChatModel` says which servers will do.
        model: name of the model on that server.
        questions: by dimension, what is asked, each for one request a clip; the mean of what the
            answers are worth counts.
        api_key_env: environment variable that holds the key; unset or empty sends none.
        frames: number of frames shown, evenly spaced from first to last.
        concurrency: requests at a time; those about one clip follow each other.
        retries: further tries of a question after an error of the server or an unclear answer.
        timeout: seconds for one answer.
        pause: seconds before the first retry, doubled for each further one.
        max_tokens: longest answer; 0 leaves that to the server.
        min_size: least height and width in pixels; smaller frames are enlarged by a whole factor.

    Raises:
        ValueError: an empty address or model, or a number out of its range.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        questions: Mapping[str, Sequence[Question]],
        api_key_env: str = "",
        *,
        frames: int = 8,
        concurrency: int = 8,
        retries: int = 4,
        timeout: float | int = 120.0,
        pause: float | int = 1.0,
        min_size: int = 224,
        max_tokens: int = 1024,
    ):
        given = {"base_url": base_url, "model": model}
        if missing := [f"config.reward.remote_judge.{name}" for name in given if not given[name]]:
            raise ValueError(
                f"the remote judge needs {' and '.join(missing)}, "
                "e.g. base_url=http://127.0.0.1:8000/v1 of a vLLM server"
            )
        if frames < 1 or concurrency < 1:
            raise ValueError(f"frames={frames} and concurrency={concurrency} must be positive")
        self.dimensions, self._questions = tuple(questions), questions
        self._chat = ChatModel(
            base_url,
            model,
            api_key_env,
            retries=retries,
            timeout=timeout,
            pause=pause,
            max_tokens=max_tokens,
        )
        # at the latest when the judge is dropped or the program ends
        self.close = weakref.finalize(self, self._chat.close)
        self._frames, self._concurrency, self._min_size = frames, concurrency, min_size

    def __str__(self) -> str:
        tries = self._chat.retries + 1
        return f"{self._chat.model} at {self._chat.url} in {tries} tries each"

    def score(self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]) -> Judgement:
        """Returns one number of [0, 1] a clip and dimension.

        The reasons are the model's words, an answer a line: the raw answers or, of several
        dimensions, all of them under their names. A clip without a clear answer after all retries
        is a failure; its other dimensions keep their scores.

        Raises:
            ValueError: not as many prompts as clips.
        """
        if len(clips) != len(prompts):
            raise ValueError(f"{len(clips)} clips and {len(prompts)} prompts")
        with ThreadPoolExecutor(self._concurrency) as pool:
            answers = list(pool.map(self._judge, np.asarray(clips), prompts))
        return judgement_of(self.dimensions, answers)

    def _judge(self, clip: np.ndarray, prompt: str) -> dict[str, Answer]:
        """(score, raw answer) of each dimension, or (None, what went wrong)."""
        shown = shown_frames(len(clip), self._frames)
        enlarged = enlarge(clip[shown], min_side=self._min_size)
        images = [encode_image(image) for image in enlarged]
        return {
            name: together(
                [
                    self._chat.ask(question.about(prompt, len(shown)), images, question.read)
                    for question in questions
                ]
            )
            for name, questions in self._questions.items()
        }
