"""A vision-language model behind the OpenAI-compatible chat API as a judge (AIF, 3.3)."""

import base64
import json
import os
import random
import re
import struct
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from absl import logging

from vidpref.typing import Array, Float, UInt8

_VERDICTS = {"accept": 1.0, "reject": 0.0}
_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LONGEST_PAUSE = 60.0  # seconds


class JudgeError(RuntimeError):
    """The judge could not be asked, or gave no verdict; the message counts and names the clips."""


class RemoteJudge:
    """Shows a model some frames and the prompt, and takes its one word: Accept or Reject.

    Works with any server of `POST <base_url>/chat/completions` that takes images: vLLM, SGLang,
    OpenAI, Gemini's compatible endpoint. A clip without a verdict is an error, never a score.

    Args:
        base_url: e.g. "http://127.0.0.1:8000/v1".
        model: name of the model on that server.
        template: the question, with `{prompt}` and, if it likes, `{frames}`.
        api_key_env: environment variable that holds the key; unset or empty sends none.
        frames: shown, evenly spaced from first to last.
        concurrency: requests at a time.
        retries: further tries of a clip after an error of the server or an unclear answer.
        timeout: seconds for one answer.
        pause: seconds before the first retry, doubled for each further one.
        min_size: frames are enlarged by whole factors to at least this height and width.

    Raises:
        ValueError: an empty address or model, or a template without `{prompt}`.
    """

    dimensions = ("accept",)

    def __init__(
        self,
        base_url: str,
        model: str,
        template: str,
        api_key_env: str = "",
        *,
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
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url={base_url!r} must start with http:// or https://")
        if "{prompt}" not in template:
            raise ValueError("the judge's template has no {prompt}")
        if frames < 1 or concurrency < 1 or retries < 0:
            raise ValueError(
                f"frames={frames} and concurrency={concurrency} must be positive, "
                f"retries={retries} not negative"
            )
        self.model, self.template, self.frames = model, template, frames
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._key = os.environ.get(api_key_env, "") if api_key_env else ""
        self._concurrency, self._retries, self._timeout = concurrency, retries, timeout
        self._pause, self._min_size = pause, min_size
        self.last_rationales: list[str] = []

    def score(
        self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]
    ) -> dict[str, Float[Array, " b"]]:
        """Returns {"accept": 0 or 1 a clip}; the raw answers are kept in `last_rationales`.

        Raises:
            JudgeError: a clip got no verdict after all retries; counts and names every one.
            ValueError: not as many prompts as clips.
        """
        if len(clips) != len(prompts):
            raise ValueError(f"{len(clips)} clips and {len(prompts)} prompts")
        with ThreadPoolExecutor(self._concurrency) as pool:
            results = list(pool.map(self._verdict, np.asarray(clips), prompts))
        self.last_rationales = [answer for _, answer in results]
        lost = [i for i, (verdict, _) in enumerate(results) if verdict is None]
        if lost:
            counts = Counter(results[i][1] for i in lost)
            lines = [f"  clip {i}, {prompts[i]!r}: {results[i][1]}" for i in lost]
            most, times = counts.most_common(1)[0]
            raise JudgeError(
                f"{len(lost)} of {len(clips)} clips got no verdict from {self.model} at "
                f"{self._url} in {self._retries + 1} tries each ({times} times: {most}):\n"
                + "\n".join(lines)
            )
        return {"accept": np.array([verdict for verdict, _ in results], np.float32)}

    def explain(self, clip: UInt8[Array, "t h w c"], prompt: str) -> str:
        """Asks about one clip and returns the model's answer as it came."""
        return self._verdict(np.asarray(clip), prompt)[1]

    def _verdict(self, clip: np.ndarray, prompt: str) -> tuple[float | None, str]:
        """(score, raw answer), or (None, what went wrong in the last try)."""
        request = self._request(clip, prompt)
        problem = ""
        for attempt in range(self._retries + 1):
            wait = self._pause * 2.0**attempt * random.uniform(0.5, 1.5)
            try:
                answer = _answer(self._post(json.dumps(request).encode()))
                verdict = parse_verdict(answer)
                if verdict is not None:
                    return verdict, answer
                problem = f"neither Accept nor Reject: {answer[:200]!r}"
                request["temperature"] = 0.7  # at 0 the same answer would come again
                wait = 0.0
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code}: {_error_text(error)}"
                if error.code not in _TRY_AGAIN:
                    break  # a wrong key, model or request stays wrong
                wait = max(wait, _asked_pause(error))
            except (OSError, ValueError, LookupError, TypeError) as error:
                problem = f"{type(error).__name__}: {error}"
            if attempt < self._retries:
                logging.log_every_n_seconds(logging.WARNING, "remote judge: %s", 10, problem)
                time.sleep(min(wait, _LONGEST_PAUSE))
        return None, problem

    def _request(self, clip: np.ndarray, prompt: str) -> dict[str, Any]:
        shown = np.round(np.linspace(0, len(clip) - 1, min(self.frames, len(clip)))).astype(int)
        # no str.format: prompts and templates may hold other braces
        text = self.template.replace("{frames}", str(len(shown))).replace("{prompt}", prompt)
        factor = max(1, -(-self._min_size // min(clip.shape[1:3])))
        images = clip[shown].repeat(factor, axis=1).repeat(factor, axis=2)
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        for image in images:
            data = base64.b64encode(encode_png(image)).decode()
            url = {"url": f"data:image/png;base64,{data}"}
            content.append({"type": "image_url", "image_url": url})
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0.0,
        }

    def _post(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._url, body, headers)
        with urllib.request.urlopen(request, timeout=self._timeout) as response:
            return json.loads(response.read())


def parse_verdict(answer: str) -> float | None:
    """Reads Accept (1.0) or Reject (0.0) out of an answer; None if it is not clear which."""
    if re.search(r"\b(not|never|cannot)\b|n['’]t\b", answer.lower()):
        return None
    # "accepted" and "rejecting" count, "unacceptable" does not
    words = set(re.findall(r"\b(accept|reject)(?:s|ed|ing)?\b", answer.lower()))
    return _VERDICTS[words.pop()] if len(words) == 1 else None


def encode_png(image: UInt8[Array, "h w 3"]) -> bytes:
    """Encodes an rgb image as PNG, without loss."""
    height, width, _ = image.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row starts with filter 0
    rows[:, 1:] = np.asarray(image).reshape(height, -1)
    data = zlib.compress(rows.tobytes(), 6)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def _answer(response: dict[str, Any]) -> str:
    content = response["choices"][0]["message"]["content"]
    if not isinstance(content, str):
        raise ValueError(f"the answer holds no text: {json.dumps(response)[:200]}")
    return content


def _error_text(error: urllib.error.HTTPError) -> str:
    return error.read(2000).decode(errors="replace").strip()[:300] or error.reason


def _asked_pause(error: urllib.error.HTTPError) -> float:
    """Seconds of a Retry-After header, 0 without one."""
    value = error.headers.get("Retry-After", "")
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else 0.0
