"""Questions with pictures to a model behind the OpenAI-compatible chat API."""

import base64
import email.utils
import json
import os
import random
import re
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

from vidpref.datasets.pictures import encode_png
from vidpref.typing import Array, UInt8

_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LONGEST_PAUSE = 60.0  # seconds


class ChatModel:
    """Asks one model until its answer can be read; safe to use from several threads.

    Works with any server of `POST <base_url>/chat/completions` that takes images: vLLM, SGLang,
    OpenAI, Gemini's compatible endpoint. Connections are kept and shared by the threads, and go
    through the proxies that the environment names.

    Args:
        base_url: address, e.g. "http://127.0.0.1:8000/v1".
        model: name of the model on that server.
        api_key_env: environment variable that holds the key; unset or empty sends none.
        retries: further tries after an error of the server or an unclear answer.
        timeout: seconds for one answer.
        pause: seconds before the first retry, doubled for each further one; a longer pause that
            the server asks for (Retry-After) is kept, up to a minute.
        max_tokens: longest answer; 0 leaves that to the server.

    Raises:
        ValueError: an address that is none, or a number out of its range.
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
        max_tokens: int = 1024,
    ):
        import openai  # half a second, which only a remote judge shall cost

        _check_url(base_url)
        for name, value in (("retries", retries), ("max_tokens", max_tokens), ("pause", pause)):
            if value < 0:
                raise ValueError(f"{name}={value} must not be negative")
        if timeout <= 0:
            raise ValueError(f"timeout={timeout} must be positive")
        self.model, self.url = model, base_url.rstrip("/") + "/chat/completions"
        self.retries, self._pause, self._max_tokens = retries, pause, max_tokens
        key = os.environ.get(api_key_env, "") if api_key_env else ""
        # the client wants some key, even for a server that wants none
        self._headers = {} if key else {"Authorization": openai.Omit()}
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=key or "none",
            timeout=timeout,
            max_retries=0,  # unclear answers and errors share the tries of `ask`
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def ask(
        self, text: str, images: Sequence[str], read: Callable[[str], float]
    ) -> tuple[float | None, str]:
        """Asks one question.

        Args:
            text: the question.
            images: pictures as `encode_image` returns them.
            read: what an answer is worth; raises ValueError where that is not clear.

        Returns:
            (what `read` returned, the answer), or (None, what went wrong in the last try).
        """
        import openai

        shown = [{"type": "image_url", "image_url": {"url": image}} for image in images]
        content = [{"type": "text", "text": text}, *shown]
        message = {"role": "user", "content": content}
        request = {"model": self.model, "messages": [message], "temperature": 0.0}
        if self._max_tokens:
            request["max_tokens"] = self._max_tokens
        problem = ""
        for attempt in range(self.retries + 1):
            wait = self._pause * 2.0**attempt * random.uniform(0.5, 1.5)
            try:
                answer, cut = _answer(self._post(request))
                try:
                    return read(answer), answer
                except ValueError as error:
                    problem = f"{error}{self._cut_off() if cut else ''}"
                    request["temperature"] = 0.7  # at 0 the same answer would come again
                    wait = 0.0
            except openai.APIStatusError as error:
                words = error.response.text.strip()[:300] or error.response.reason_phrase
                problem = f"HTTP {error.status_code}: {words}"
                if error.status_code not in _TRY_AGAIN:
                    break  # a wrong key, model or request stays wrong
                wait = max(wait, _asked_pause(error.response.headers.get("Retry-After", "")))
            except openai.APIConnectionError as error:
                problem = f"{type(error).__name__}: {error.__cause__ or error}"
            except (ValueError, LookupError, TypeError) as error:
                problem = f"no chat completion: {error}"
            if attempt < self.retries:
                logging.log_every_n_seconds(logging.WARNING, "remote judge: %s", 10, problem)
                time.sleep(min(wait, _LONGEST_PAUSE))
        return None, problem

    def _post(self, request: dict[str, Any]) -> dict[str, Any]:
        # raw, as the client takes any JSON at all for a completion
        create = self._client.chat.completions.with_raw_response.create
        return json.loads(create(**request, extra_headers=self._headers).http_response.text)

    def _cut_off(self) -> str:
        limit = f"max_tokens={self._max_tokens}" if self._max_tokens else "the server's limit"
        return f" (the answer was cut off at {limit})"


def _check_url(base_url: str) -> None:
    if not base_url.startswith(("http://", "https://")):
        raise ValueError(f"base_url={base_url!r} must start with http:// or https://")
    try:
        parts = urllib.parse.urlsplit(base_url)
        port = parts.port  # looked at, and refused, only here
    except ValueError as error:
        raise ValueError(f"base_url={base_url!r} is no address: {error}") from error
    if not parts.hostname or port == 0 or re.search(r"\s", base_url):
        raise ValueError(f"base_url={base_url!r} is no address such as http://judge:8000/v1")


def encode_image(image: UInt8[Array, "h w 3"]) -> str:
    """Encodes an rgb image as the data URL that the chat API takes."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"


def _answer(response: dict[str, Any]) -> tuple[str, bool]:
    """The text, and whether it was cut off."""
    choice = response["choices"][0]
    content = choice["message"]["content"]
    if not isinstance(content, str):
        raise ValueError(f"the answer holds no text: {json.dumps(response)[:200]}")
    return content, choice.get("finish_reason") == "length"


def _asked_pause(retry_after: str) -> float:
    """Seconds of a Retry-After header, which is a number or a date; 0 for none."""
    if re.fullmatch(r"\d+(\.\d+)?", retry_after):
        return float(retry_after)
    try:
        return email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
    except ValueError:
        return 0.0
