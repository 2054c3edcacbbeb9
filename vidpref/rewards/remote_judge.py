"""A vision-language model behind the OpenAI-compatible chat API as a judge.

"accept" is one word, Accept or Reject (AIF, 3.3). Every other dimension is a reason and one of
Good, Normal and Poor (the pointwise form of IPO's critic).
"""

import re
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vidpref.config.nearest import nearest
from vidpref.datasets.pictures import enlarge
from vidpref.rewards.chat import ChatModel, encode_image
from vidpref.rewards.reward import Judgement
from vidpref.typing import Array, UInt8

_VERDICTS = {"accept": 1.0, "reject": 0.0}
_GRADES = {"good": 1.0, "normal": 0.5, "poor": 0.0}


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
            name: _question(name, template, graded_template, descriptions or {})
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
            judged = list(pool.map(self._judge, np.asarray(clips), prompts))
        lost = {
            row: "; ".join(
                f"{name}: {words}" for name, (score, words) in answers.items() if score is None
            )
            for row, answers in enumerate(judged)
        }
        return Judgement(
            scores={
                name: np.array([answers[name][0] for answers in judged], np.float32)  # None: nan
                for name in self.dimensions
            },
            reasons=[_rationale(answers) for answers in judged],
            failures={row: words for row, words in lost.items() if words},
        )

    def _judge(self, clip: np.ndarray, prompt: str) -> dict[str, tuple[float | None, str]]:
        """(score, raw answer) of each dimension, or (None, what went wrong)."""
        shown = np.round(np.linspace(0, len(clip) - 1, min(self._frames, len(clip)))).astype(int)
        enlarged = enlarge(clip[shown], min_side=self._min_size)
        images = [encode_image(image) for image in enlarged]
        answers = {}
        for name, question in self._questions.items():
            # no str.format: prompts and templates may hold other braces
            text = question.replace("{frames}", str(len(shown))).replace("{prompt}", prompt)
            read = parse_verdict if name == "accept" else parse_grade
            answers[name] = self._chat.ask(text, images, read)
        return answers


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
        hint = nearest(dimension, ["accept", *sorted(descriptions)])
        raise ValueError(f"the remote judge has no dimension {dimension!r}; {hint}")
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
