"""A vision-language model behind the OpenAI-compatible chat API as a judge.

"accept" is one word, Accept or Reject (AIF, 3.3). Every other dimension is a reason and one of
Good, Normal and Poor (the pointwise form of IPO's critic).
"""

import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vidpref.datasets.pictures import enlarge
from vidpref.rewards.chat import ChatModel, encode_image
from vidpref.rewards.questions import (
    grade_question,
    judgement_of,
    shown_frames,
    verdict_question,
)
from vidpref.rewards.reward import Judgement
from vidpref.typing import Array, UInt8


class RemoteJudge:
    """Shows a model some frames and the prompt, and asks one question a dimension.

    A clip without a clear answer in every dimension is a failure, never a score.

    Args:
        base_url: address, e.g. "http://127.0.0.1:8000/v1"; `ChatModel` says which servers will do.
        model: name of the model on that server.
        template: the question of "accept", with `{prompt}` and, if it likes, `{frames}`.
        api_key_env: environment variable that holds the key; unset or empty sends none.
        dimensions: names of what is scored, each for one request a clip.
        graded_template: the question of all other dimensions, with `{description}` besides and,
            if it likes, `{dimension}`, the name in words.
        descriptions: for each dimension but "accept", what is looked at and what the grades mean.
        frames: number of frames shown, evenly spaced from first to last.
        concurrency: requests at a time; those about one clip follow each other.
        retries: further tries of a question after an error of the server or an unclear answer.
        timeout: seconds for one answer.
        pause: seconds before the first retry, doubled for each further one.
        max_tokens: longest answer; 0 leaves that to the server.
        min_size: least height and width in pixels; smaller frames are enlarged by a whole factor.

    Raises:
        ValueError: an empty address or model, a template without its places, a dimension without
            a description, or a number out of its range.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        template: str,
        api_key_env: str = "",
        *,
        dimensions: Sequence[str] = ("accept",),
        graded_template: str = "",
        descriptions: Mapping[str, str] | None = None,
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
        self.dimensions = tuple(dimensions)
        self._questions = {
            name: verdict_question(template)
            if name == "accept"
            else grade_question(name, graded_template, descriptions or {})
            for name in self.dimensions
        }
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
        """Returns one number a clip and dimension: "accept" 0 or 1, the others 0, 0.5 or 1.

        The reasons are the model's words: the raw answer or, of several dimensions, all of them
        under their names. A clip without a clear answer after all retries is a failure; its other
        dimensions keep their scores.

        Raises:
            ValueError: not as many prompts as clips.
        """
        if len(clips) != len(prompts):
            raise ValueError(f"{len(clips)} clips and {len(prompts)} prompts")
        with ThreadPoolExecutor(self._concurrency) as pool:
            answers = list(pool.map(self._judge, np.asarray(clips), prompts))
        return judgement_of(self.dimensions, answers)

    def _judge(self, clip: np.ndarray, prompt: str) -> dict[str, tuple[float | None, str]]:
        """(score, raw answer) of each dimension, or (None, what went wrong)."""
        shown = shown_frames(len(clip), self._frames)
        enlarged = enlarge(clip[shown], min_side=self._min_size)
        images = [encode_image(image) for image in enlarged]
        return {
            name: self._chat.ask(question.about(prompt, len(shown)), images, question.read)
            for name, question in self._questions.items()
        }
