"""A vision-language model behind the OpenAI-compatible chat API as a judge.

"accept" is one word, Accept or Reject (AIF, 3.3). Every other dimension is a reason and one of
Good, Normal and Poor (the pointwise form of IPO's critic).
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vidpref.rewards.chat import ChatModel, encode_image
from vidpref.typing import Array, Float, UInt8

_VERDICTS = {"accept": 1.0, "reject": 0.0}
_GRADES = {"good": 1.0, "normal": 0.5, "poor": 0.0}


class JudgeError(RuntimeError):
    """Clips without a verdict; the message counts and names them with the model's words.

    Attributes:
        scores: what `RemoteJudge.score` would have returned, with nan for each missing one.
    """

    def __init__(self, message: str, scores: dict[str, Float[Array, " b"]]):
        super().__init__(message)
        self.scores = scores


class RemoteJudge:
    """Shows a model some frames and the prompt, and asks one question a dimension.

    A clip without a clear answer is an error, never a score.

    Args:
        base_url: e.g. "http://127.0.0.1:8000/v1"; `ChatModel` says which servers will do.
        model: name of the model on that server.
        template: the question of "accept", with `{prompt}` and, if it likes, `{frames}`.
        api_key_env: environment variable that holds the key; unset or empty sends none.
        dimensions: what `score` returns, each for one request a clip.
        graded_template: the question of all other dimensions, with `{description}` besides and,
            if it likes, `{dimension}`, the name in words.
        descriptions: of each dimension but "accept", what is looked at and what the grades mean.
        frames: shown, evenly spaced from first to last.
        concurrency: requests at a time; those about one clip follow each other.
        retries: further tries of a question after an error of the server or an unclear answer.
        timeout: seconds for one answer.
        pause: seconds before the first retry, doubled for each further one.
        min_size: frames are enlarged by whole factors to at least this height and width.

    Raises:
        ValueError: an empty address or model, a template without its places, or a dimension
            without a description.
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
    ):
        for name, value in (("base_url", base_url), ("model", model)):
            if not value:
                raise ValueError(
                    f"the remote judge needs config.reward.remote_judge.{name}, "
                    "e.g. base_url=http://127.0.0.1:8000/v1 of a vLLM server"
                )
        if frames < 1 or concurrency < 1:
            raise ValueError(f"frames={frames} and concurrency={concurrency} must be positive")
        self.dimensions = tuple(dimensions)
        self._questions = {
            name: _question(name, template, graded_template, descriptions or {})
            for name in self.dimensions
        }
        self._chat = ChatModel(
            base_url, model, api_key_env, retries=retries, timeout=timeout, pause=pause
        )
        self._frames, self._concurrency, self._min_size = frames, concurrency, min_size
        self.last_rationales: list[str] = []

    def score(
        self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]
    ) -> dict[str, Float[Array, " b"]]:
        """Returns one number a clip and dimension: "accept" 0 or 1, the others 0, 0.5 or 1.

        `last_rationales` keeps the model's words, a text for each clip: the raw answer or, of
        several dimensions, all of them under their names.

        Raises:
            JudgeError: clips got no verdict after all retries; every other one was scored.
            ValueError: not as many prompts as clips.
        """
        if len(clips) != len(prompts):
            raise ValueError(f"{len(clips)} clips and {len(prompts)} prompts")
        with ThreadPoolExecutor(self._concurrency) as pool:
            judged = list(pool.map(self._judge, np.asarray(clips), prompts))
        self.last_rationales = [_rationale(answers) for answers in judged]
        scores = {
            name: np.array([answers[name][0] for answers in judged], np.float32)  # None: nan
            for name in self.dimensions
        }
        if any(np.isnan(score).any() for score in scores.values()):
            raise JudgeError(self._complaint(judged, prompts), scores)
        return scores

    def explain(self, clip: UInt8[Array, "t h w c"], prompt: str) -> str:
        """Asks about one clip and returns the model's words as `last_rationales` has them."""
        return _rationale(self._judge(np.asarray(clip), prompt))

    def _judge(self, clip: np.ndarray, prompt: str) -> dict[str, tuple[float | None, str]]:
        """(score, raw answer) of each dimension, or (None, what went wrong)."""
        shown = np.round(np.linspace(0, len(clip) - 1, min(self._frames, len(clip)))).astype(int)
        factor = max(1, -(-self._min_size // min(clip.shape[1:3])))
        enlarged = clip[shown].repeat(factor, axis=1).repeat(factor, axis=2)
        images = [encode_image(image) for image in enlarged]
        answers = {}
        for name, question in self._questions.items():
            # no str.format: prompts and templates may hold other braces
            text = question.replace("{frames}", str(len(shown))).replace("{prompt}", prompt)
            read = parse_verdict if name == "accept" else parse_grade
            answers[name] = self._chat.ask(text, images, read)
        return answers

    def _complaint(
        self, judged: Sequence[dict[str, tuple[float | None, str]]], prompts: Sequence[str]
    ) -> str:
        lost = [
            (clip, name, words)
            for clip, answers in enumerate(judged)
            for name, (score, words) in answers.items()
            if score is None
        ]
        most, times = Counter(words for *_, words in lost).most_common(1)[0]
        lines = [f"  clip {clip}, {prompts[clip]!r}, {name}: {words}" for clip, name, words in lost]
        return (
            f"{len({clip for clip, *_ in lost})} of {len(judged)} clips got no verdict from "
            f"{self._chat.model} at {self._chat.url} in {self._chat.retries + 1} tries each "
            f"({times} times: {most}):\n" + "\n".join(lines)
        )


def parse_verdict(answer: str) -> float:
    """Reads Accept (1.0) or Reject (0.0) out of an answer.

    Raises:
        ValueError: it is not clear which.
    """
    # "accepted" and "rejecting" count, "unacceptable" does not
    words = set(re.findall(r"\b(accept|reject)(?:s|ed|ing)?\b", answer.lower()))
    negated = re.search(r"\b(not|never|cannot)\b|n['’]t\b", answer.lower())
    if negated or len(words) != 1:
        raise ValueError(f"neither Accept nor Reject: {answer[:200]!r}")
    return _VERDICTS[words.pop()]


def parse_grade(answer: str) -> float:
    """Reads the Good (1.0), Normal (0.5) or Poor (0.0) that an answer ends in.

    The word must stand for itself, after the end of a line or sentence or a colon: a reason may
    well end in "is not good".

    Raises:
        ValueError: the answer ends otherwise.
    """
    found = re.search(r"(?:^|[\n.!?:;])[^\w\n]*(good|normal|poor)\W*$", answer.strip().lower())
    if found is None:
        raise ValueError(f"does not end in Good, Normal or Poor: {answer[-200:]!r}")
    return _GRADES[found.group(1)]


def _question(
    dimension: str, template: str, graded_template: str, descriptions: Mapping[str, str]
) -> str:
    if dimension == "accept":
        text = template
    elif dimension not in descriptions:
        near = difflib.get_close_matches(dimension, descriptions, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        known = ", ".join(["accept", *sorted(descriptions)])
        raise ValueError(f"the remote judge has no dimension {dimension!r}{hint} It has {known}")
    else:
        text = graded_template.replace("{dimension}", dimension.replace("_", " "))
        if "{description}" not in text:
            raise ValueError("the judge's template of graded dimensions has no {description}")
        text = text.replace("{description}", descriptions[dimension].strip())
    if "{prompt}" not in text:
        raise ValueError(f"the judge's template of {dimension} has no {{prompt}}")
    return text


def _rationale(answers: Mapping[str, tuple[float | None, str]]) -> str:
    if len(answers) == 1:
        return next(iter(answers.values()))[1]
    return "\n\n".join(f"{name}: {words.strip()}" for name, (_, words) in answers.items())
