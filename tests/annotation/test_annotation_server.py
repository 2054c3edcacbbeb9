"""The page's server as a program speaks to it: what it answers, and what it refuses."""

import http.client
import json
import socket

import pytest
from annotation_examples import ANSWER, served, task, write_videos

from vidpref.annotation import server as servers
from vidpref.annotation.answers import Answers
from vidpref.annotation.journal import JOURNAL, Journal, read_journal
from vidpref.annotation.server import AnnotationServer
from vidpref.annotation.videos import RangeError, byte_range

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder)
    with served(folder, task(3)) as server:
        yield server


def ask(server, path, body=None, headers=None, method=None):
    """(status, headers, bytes) of a request; None for a header leaves it out."""
    connection = http.client.HTTPConnection(*server.server_address, timeout=10)
    port = server.server_address[1]
    sent = {"Host": f"127.0.0.1:{port}"} | (JSON if body is not None else {}) | (headers or {})
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    connection.putrequest(method or ("GET" if body is None else "POST"), path, skip_host=True)
    if data is not None and "Content-Length" not in sent:
        sent["Content-Length"] = str(len(data))
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(data)
    reply = connection.getresponse()
    found = reply.status, dict(reply.getheaders()), reply.read()
    connection.close()
    return found


def state(server, annotator):
    status, _, data = ask(server, f"/api/state?annotator={annotator}")
    assert status == 200, data
    return json.loads(data)


def test_it_listens_on_the_loopback_address_alone(running):
    assert running.server_address[0] == "127.0.0.1"
    assert running.address == f"http://127.0.0.1:{running.server_address[1]}/"


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/playing.js", "/report.css"])
def test_every_file_of_the_page_is_there(running, path):
    status, headers, data = ask(running, path)
    assert status == 200
    assert len(data) > 500
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert ask(running, path, method="HEAD")[2] == b""


def test_a_state_tells_nothing_of_sources_and_answers_move_on(running):
    before = state(running, "cy")
    assert (before["done"], before["left"], before["last"]) == (0, 3, None)
    assert not {"old", "new", "mp4"} & set(json.dumps(before["next"]).replace("/", '"').split('"'))
    body = {"annotator": "cy", "key": before["next"][0]["key"], "answer": ANSWER, "seconds": 1}
    status, _, data = ask(running, "/api/answer", body)
    after = json.loads(data)
    assert (status, after["done"], after["last"]) == (200, 1, body["key"])
    assert after["next"][0] == before["next"][1]
    assert json.loads(ask(running, "/api/answer", body)[2]) == after  # sent again
    other = body | {"answer": ANSWER | {"visual_quality": "right"}}
    status, _, data = ask(running, "/api/answer", other)
    assert (status, "another window" in json.loads(data)["error"]) == (409, True)
    undone = json.loads(ask(running, "/api/undo", {"annotator": "CY", "key": body["key"]})[2])
    assert undone["annotator"] == "cy"
    assert undone["before"] == {"answer": ANSWER, "note": ""}
    assert undone["next"][0] == before["next"][0]


def test_a_clip_comes_whole_or_in_parts(running):
    token = state(running, "ann")["next"][0]["clips"][0]["token"]
    data = running.by_token[token].path.read_bytes()
    size = len(data)
    status, headers, found = ask(running, f"/clip/{token}")
    assert (status, found, headers["Accept-Ranges"]) == (200, data, "bytes")
    assert headers["Content-Type"] == "video/mp4"
    for text, part in {
        "bytes=0-": data,
        "bytes=10-19": data[10:20],
        "bytes=-7": data[-7:],
        f"bytes=5-{size + 99}": data[5:],
        f"bytes=-{size + 99}": data,
    }.items():
        status, headers, found = ask(running, f"/clip/{token}", headers={"Range": text})
        assert (status, found) == (206, part), text
        first = data.index(part) if len(part) < size else 0
        assert headers["Content-Range"] == f"bytes {first}-{first + len(part) - 1}/{size}"
    for text in (f"bytes={size}-", "bytes=20-10", "bytes=-0"):
        assert ask(running, f"/clip/{token}", headers={"Range": text})[0] == 416
    for text in ("bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=a-b"):
        assert ask(running, f"/clip/{token}", headers={"Range": text})[0] == 200
    assert ask(running, f"/clip/{token}", method="HEAD")[2] == b""


def test_ranges():
    assert byte_range(None, 10) is None
    assert byte_range("bytes=2-", 10) == range(2, 10)
    with pytest.raises(RangeError, match="the file has 0 bytes"):
        byte_range("bytes=0-", 0)


@pytest.mark.parametrize(
    "path",
    [
        *("/../setup.py", "/..%2f..%2fsetup.py", "//etc/passwd", "/clip/../page.js", "/clip/"),
        *("/clip/..%2F..%2Fetc%2Fpasswd", "/old/0.mp4", "/page.html", "/annotations.journal"),
        *("/api", "/api/nothing", "/clip/%00", "/" + "a" * 5000),
    ],
)
def test_nothing_else_can_be_had(running, path):
    assert ask(running, path)[0] == 404
    assert ask(running, path, {"annotator": "ann"})[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_other_names_of_this_machine_are_refused(running, host):
    for path in ("/", "/api/task"):
        assert ask(running, path, headers={"Host": host})[0] == 403
    assert ask(running, "/api/undo", {"annotator": "a", "key": "k"}, {"Host": host})[0] == 403
    assert ask(running, "/", headers={"Host": None})[0] == 403


def test_through_a_tunnel_it_may_have_another_port(running):
    for host in ("localhost", "localhost:9000", "127.0.0.1:1", "[::1]:8765"):
        assert ask(running, "/api/task", headers={"Host": host})[0] == 200
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert ask(running, "/api/undo", {"annotator": "a", "key": "k"}, headers)[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 403),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 403),
        ({"Content-Length": "99999999"}, 413),
        ({"Content-Length": None}, 413),
        ({"Content-Length": "-1"}, 413),
    ],
)
def test_pages_of_others_cannot_answer(running, headers, status):
    assert ask(running, "/api/undo", {"annotator": "a", "key": "k"}, headers)[0] == status


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "the request is no object"),
        (b"\xff", "utf-8"),
        (b'{"annotator": "\\ud800"}', "no character"),
        ({}, "a name has 1 to 40"),
        ({"annotator": "a/b"}, "a name has 1 to 40"),
        ({"annotator": "a" * 41}, "a name has 1 to 40"),
        ({"annotator": 3}, "a name has 1 to 40"),
        ({"annotator": "a", "key": 3}, "key is no text"),
        ({"annotator": "a", "key": "k", "answer": "left"}, "answer is no object"),
        ({"annotator": "a", "key": "k", "answer": {}, "seconds": "1"}, "seconds is no number"),
        ({"annotator": "a", "key": "k", "answer": {}, "note": "n" * 2001}, "note is no text"),
        ({"annotator": "a", "key": "k", "answer": ANSWER}, "nothing called 'k' is asked"),
        ({"annotator": "a", "key": "KEY", "answer": {"visual_quality": "left"}}, "answer all of"),
    ],
)
def test_nonsense_is_refused_in_words(running, body, message):
    if isinstance(body, dict) and body.get("key") == "KEY":
        body = body | {"key": state(running, "a")["next"][0]["key"]}
    status, _, data = ask(running, "/api/answer", body)
    assert (status, message in json.loads(data)["error"]) == (400, True), data
    assert state(running, "a")["done"] == 0


def test_a_full_disk_is_said_and_the_server_lives_on(running, monkeypatch, capsys):
    shown = state(running, "dee")["next"][0]
    body = {"annotator": "dee", "key": shown["key"], "answer": ANSWER}

    def full(self, line):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", full)
        status, _, data = ask(running, "/api/answer", body)
    assert (status, json.loads(data)["error"]) == (507, "not saved: No space left on device")
    assert "No space left" in capsys.readouterr().err
    assert ask(running, "/api/answer", body)[0] == 200


def test_a_clip_that_does_not_play_is_named_once_to_whoever_serves(running, capsys):
    token = state(running, "ann")["next"][0]["clips"][0]["token"]
    for _ in range(2):
        status, _, data = ask(
            running, "/api/unplayable", {"annotator": "ann", "token": token, "why": "no decoder"}
        )
        assert status == 200
    assert "h264 in .mp4" in json.loads(data)["advice"]
    assert str(running.by_token[token].path) not in json.loads(data)["advice"]
    said = capsys.readouterr().err
    assert said.count("did not play") == 1
    assert f"{running.by_token[token].path} (no decoder)" in said


def test_a_clip_that_is_gone_is_said(tmp_path, capsys):
    write_videos(tmp_path, 1)
    with served(tmp_path, task(1)) as server:
        token = state(server, "ann")["next"][0]["clips"][0]["token"]
        server.by_token[token].path.unlink()
        assert ask(server, f"/clip/{token}")[0] == 404
    assert "cannot be read" in capsys.readouterr().err


def test_a_port_in_use_is_refused_by_name(tmp_path):
    answers = Answers(task(1), Journal(tmp_path / JOURNAL, task(1)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--port={port} is in use: give another, or --port=0"):
            AnnotationServer(port, answers, {}, lambda: True)


def test_many_annotators_at_once(tmp_path):
    import concurrent.futures

    write_videos(tmp_path, 3)
    people = [f"person {n}" for n in range(8)]
    with served(tmp_path, task(3)) as server:

        def work(name):
            while shown := state(server, name.replace(" ", "%20"))["next"]:
                body = {"annotator": name, "key": shown[0]["key"], "answer": ANSWER}
                assert ask(server, "/api/answer", body)[0] == 200

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(work, people))
    entries = read_journal(tmp_path / JOURNAL).entries
    assert len({(e["annotator"], e["key"]) for e in entries}) == len(entries) == 3 * 8


def test_the_room_of_a_name_is_what_the_page_allows():
    html = (servers._PAGE / "page.html").read_text()
    assert f'maxlength="{servers._LONGEST_NAME}"' in html
    assert f'maxlength="{servers._LONGEST_NOTE}"' in html
