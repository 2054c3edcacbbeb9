"""The page's server: on the loopback address, for this machine alone (or through an SSH tunnel).

A request is answered only if its Host is a name of the loopback address, so that no page of the
web reaches it under a name of its own; it may change something only as JSON, from no other origin.
Files are looked up by name in a table, never by path.
"""

import errno
import json
import re
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vidpref.annotation.answers import AnsweredOtherwise, Answers
from vidpref.annotation.assignment import Showing
from vidpref.annotation.task import ASKED, SAID
from vidpref.annotation.videos import RangeError, Video, byte_range
from vidpref.evaluation.pages import fill
from vidpref.json_text import parse_json

LOOPBACK = "127.0.0.1"
_HOSTS = frozenset({LOOPBACK, "localhost", "[::1]"})
_PAGE = Path(__file__).parent / "page"
_FILES = MappingProxyType(
    {
        "/": ("page.html", "text/html"),
        "/page.css": ("page.css", "text/css"),
        "/page.js": ("page.js", "text/javascript"),
        "/playing.js": ("playing.js", "text/javascript"),
    }
)
_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; media-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)
_NAME = re.compile(r"[\w.@-]+(?: [\w.@-]+)*")
_LONGEST_NAME, _LONGEST_NOTE, _LONGEST_BODY = 40, 2000, 2**16  # letters, letters, bytes
_TAKEN = MappingProxyType({errno.EADDRINUSE: "in use", errno.EACCES: "for the system alone"})
_PART = 2**16  # bytes of a video that are sent at once


class Refused(ValueError):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        text: what is wrong.
    """

    def __init__(self, status: HTTPStatus, text: str):
        self.status = status
        super().__init__(text)


class AnnotationServer(ThreadingHTTPServer):
    """Serves a task's page.

    Args:
        port: 0 takes one that is free.
        answers: task and journal.
        videos: the clips, by their names in the records.
        changed: is called, in the thread that serves, while there are answers that it has not dealt
            with; says whether it has now.

    Raises:
        ValueError: the port cannot be had.
    """

    daemon_threads = True

    def __init__(
        self,
        port: int,
        answers: Answers,
        videos: Mapping[str, Video],
        changed: Callable[[], bool],
    ):
        self.answers, self.videos, self._changed = answers, videos, changed
        self.by_token = {video.token: video for video in videos.values()}
        self.files = {where: (_PAGE / name).read_bytes() for where, (name, _) in _FILES.items()}
        self.files["/report.css"] = fill("report.css", {}).encode()
        self._seen, self._told, self._telling = 0, set(), threading.Lock()
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            raise ValueError(
                f"--port={port} is {_TAKEN[error.errno]}: give another, or --port=0 for one that "
                "is free"
            ) from error

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def service_actions(self) -> None:
        """Between requests: says that there are new answers."""
        changes = self.answers.changes
        if changes != self._seen and self._changed():
            self._seen = changes

    def tell(self, video: Video, why: str) -> None:
        """Says once, to whoever started this, that a clip did not play."""
        with self._telling:
            if video.token in self._told:
                return
            self._told.add(video.token)
        print(f"did not play: {video.path} ({why}): {video.advice}", file=sys.stderr, flush=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves while a video is sent is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: AnnotationServer
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a connection may be idle

    def do_GET(self) -> None:
        self._answer(self._get)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what counts is in the journal."""

    def _answer(self, method: Callable[[], None]) -> None:
        try:
            self._check_host()
            method()
        except Refused as error:
            self._json({"error": str(error)}, error.status)
        except AnsweredOtherwise as error:
            self._json({"error": str(error)}, HTTPStatus.CONFLICT)
        except RangeError as error:
            self._json({"error": str(error)}, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        except ValueError as error:
            self._json({"error": str(error)}, HTTPStatus.BAD_REQUEST)

    def _check_host(self) -> None:
        host = self.headers.get("Host", "")
        if re.sub(r":\d+$", "", host) not in _HOSTS:
            self.close_connection = True
            raise Refused(HTTPStatus.FORBIDDEN, "open this page as http://127.0.0.1 or localhost")

    def _get(self) -> None:
        where = urlsplit(self.path)
        if where.path == "/api/task":
            self._json(self._task())
        elif where.path == "/api/state":
            asked = parse_qs(where.query)
            self._json(self._state(self._annotator(asked.get("annotator", [""])[0])))
        elif where.path.startswith("/clip/"):
            self._clip(where.path.removeprefix("/clip/"))
        elif where.path in self.server.files:
            kind = _FILES.get(where.path, ("", "text/css"))[1]
            self._send(self.server.files[where.path], f"{kind}; charset=utf-8")
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self) -> None:
        body = self._body()
        annotator = self._annotator(body.get("annotator"))
        where = urlsplit(self.path).path
        if where not in ("/api/answer", "/api/undo", "/api/unplayable"):
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here")
        if where == "/api/unplayable":
            video = self._video(_text(body, "token", 64))
            self.server.tell(video, _text(body, "why", 200))
            self._json({"advice": video.advice})
            return
        try:
            if where == "/api/answer":
                self._take(annotator, body)
            else:
                self.server.answers.undo(annotator, _text(body, "key", 64))
        except OSError as error:  # as on a full disk
            print(f"not saved: {error}", file=sys.stderr, flush=True)
            said = f"not saved: {error.strerror or error}"
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, said) from error
        self._json(self._state(annotator))

    def _take(self, annotator: str, body: Mapping[str, Any]) -> None:
        key, note = _text(body, "key", 64), _text(body, "note", _LONGEST_NOTE).strip()
        answer, seconds = body.get("answer"), body.get("seconds", 0.0)
        if not isinstance(answer, dict):
            raise ValueError("answer is no object")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ValueError("seconds is no number")
        self.server.answers.answer(annotator, key, answer, note=note, seconds=seconds)

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LONGEST_BODY:
            self.close_connection = True
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long, or of unknown length")
        data = self.rfile.read(int(length))
        origin, kind = self.headers.get("Origin"), self.headers.get_content_type()
        if origin not in (None, f"http://{self.headers['Host']}") or kind != "application/json":
            raise Refused(HTTPStatus.FORBIDDEN, "answers come as JSON, from this page")
        body = parse_json(data.decode(), "the request")
        if not isinstance(body, dict):
            raise ValueError("the request is no object")
        return body

    def _annotator(self, name: object) -> str:
        name = " ".join(name.split()) if isinstance(name, str) else ""
        if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
            raise ValueError(
                f"a name has 1 to {_LONGEST_NAME} letters, digits, spaces, or any of . _ - @"
            )
        return self.server.answers.known_as(name)

    def _task(self) -> dict[str, Any]:
        task = self.server.answers.task
        dimensions = [
            {"name": name, "title": name.replace("_", " "), "asked": ASKED.get(name, "")}
            for name in task.dimensions
        ]
        return {"kind": task.kind, "dimensions": dimensions, "said": SAID[task.kind]}

    def _state(self, annotator: str) -> dict[str, Any]:
        state = self.server.answers.state(annotator)
        before = state["before"]
        kept = None if before is None else {k: before[k] for k in ("answer", "note")}
        shown = [self._shown(showing) for showing in state["next"]]
        return state | {"annotator": annotator, "next": shown, "before": kept}

    def _shown(self, showing: Showing) -> dict[str, Any]:
        videos = [self.server.videos[name] for name in showing.clips]
        clips = [{"token": v.token, "fps": v.fps, "width": v.width} for v in videos]
        return {"key": showing.key, "prompt": showing.item.prompt, "clips": clips}

    def _video(self, token: str) -> Video:
        if token not in self.server.by_token:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such clip")
        return self.server.by_token[token]

    def _clip(self, token: str) -> None:
        video = self._video(token)
        try:
            file = video.path.open("rb")
        except OSError as error:
            said = f"cannot be read: {video.path}: {error.strerror}"
            print(said, file=sys.stderr, flush=True)
            raise Refused(HTTPStatus.NOT_FOUND, "this clip cannot be read any more") from error
        with file:
            size = file.seek(0, 2)
            part = byte_range(self.headers.get("Range"), size)
            sent = range(size) if part is None else part
            self.send_response(HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT)
            headers = {
                "Content-Type": video.type,
                "Content-Length": str(len(sent)),
                "Accept-Ranges": "bytes",
                "Cache-Control": "private, max-age=3600",
            }
            if part is not None:
                headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
            self._end_headers(headers)
            file.seek(sent.start)
            left = 0 if self.command == "HEAD" else len(sent)
            while left and (data := file.read(min(left, _PART))):
                self.wfile.write(data)
                left -= len(data)
            self.close_connection |= bool(left and self.command != "HEAD")  # it became shorter

    def _json(self, value: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        size = {"Content-Type": kind, "Content-Length": str(len(data))}
        self._end_headers(size | {"Cache-Control": "no-store"})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _end_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in (dict(headers) | dict(_HEADERS)).items():
            self.send_header(name, value)
        self.end_headers()


def _text(body: Mapping[str, Any], name: str, longest: int) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{name} is no text of at most {longest} letters")
    return value
