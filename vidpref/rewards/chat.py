"""Questions with pictures to a model behind the OpenAI-compatible chat API."""

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
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from vidpref.typing import Array, UInt8

_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LONGEST_PAUSE = 60.0  # seconds


class ChatModel:
    """Asks one model until its answer can be read; safe to use from several threads.

    Works with any server of `POST <base_url>/chat/completions` that takes images: vLLM, SGLang,
    OpenAI, Gemini's compatible endpoint.

    Args:
        base_url: e.g. "http://127.0.0.1:8000/v1".
        model: name of the model on that server.
        api_key_env: environment variable that holds the key; unset or empty sends none.
        retries: further tries after an error of the server or an unclear answer.
        timeout: seconds for one answer.
        pause: seconds before the first retry, doubled for each further one.

    Raises:
        ValueError: an address that is none.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "",
        *,
        retries: int = 4,
        timeout: float | int = 120.0,
        pause: float | int = 1.0,
    ):
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url={base_url!r} must start with http:// or https://")
        if retries < 0:
            raise ValueError(f"retries={retries} must not be negative")
        self.model, self.url = model, base_url.rstrip("/") + "/chat/completions"
        self.retries, self._timeout, self._pause = retries, timeout, pause
        self._key = os.environ.get(api_key_env, "") if api_key_env else ""

    def ask(
        self, text: str, images: Sequence[str], read: Callable[[str], float]
    ) -> tuple[float | None, str]:
        """Asks one question.

        Args:
            text: the question.
            images: as `encode_image` returns them.
            read: what an answer is worth; raises ValueError where that is not clear.

        Returns:
            (what `read` returned, the answer), or (None, what went wrong in the last try).
        """
        shown = [{"type": "image_url", "image_url": {"url": image}} for image in images]
        content = [{"type": "text", "text": text}, *shown]
        message = {"role": "user", "content": content}
        request = {"model": self.model, "messages": [message], "temperature": 0.0}
        problem = ""
        for attempt in range(self.retries + 1):
            wait = self._pause * 2.0**attempt * random.uniform(0.5, 1.5)
            try:
                answer = _answer(self._post(json.dumps(request).encode()))
                try:
                    return read(answer), answer
                except ValueError as error:
                    problem = str(error)
                    request["temperature"] = 0.7  # at 0 the same answer would come again
                    wait = 0.0
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code}: {_error_text(error)}"
                if error.code not in _TRY_AGAIN:
                    break  # a wrong key, model or request stays wrong
                wait = max(wait, _asked_pause(error))
            except (OSError, ValueError, LookupError, TypeError) as error:
                problem = f"{type(error).__name__}: {error}"
            if attempt < self.retries:
                logging.log_every_n_seconds(logging.WARNING, "remote judge: %s", 10, problem)
                time.sleep(min(wait, _LONGEST_PAUSE))
        return None, problem

    def _post(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, body, headers)
        with urllib.request.urlopen(request, timeout=self._timeout) as response:
            return json.loads(response.read())


def encode_image(image: UInt8[Array, "h w 3"]) -> str:
    """Encodes an rgb image as the data URL that the chat API takes."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"


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
