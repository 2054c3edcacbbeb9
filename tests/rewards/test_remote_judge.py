"""The remote judge against a local server that speaks the chat API, errors included."""

import base64
import email.utils
import gc
import io
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from tests.stages.sampled_clips import write_sampled
from vidpref.config import schema
from vidpref.config.fields import build
from vidpref.datasets.scenes import Scene
from vidpref.rewards.questions import (
    checklist,
    grade_question,
    parse_grade,
    parse_verdict,
    verdict_question,
)
from vidpref.rewards.remote_judge import RemoteJudge
from vidpref.rewards.reward import JudgeError, Reward, complaint
from vidpref.stages import label

TEMPLATES = Path(__file__).parents[2] / "data" / "judge_templates"
GRADED = {
    "dimensions": ("accept", "visual_quality", "camera_motion"),
    "graded_template": "Grade the {dimension} ({description}) of {prompt} in {frames}.",
    "descriptions": {"visual_quality": "as a {picture}\n", "camera_motion": "how much"},
}


class Server:
    """Answers by `reply(prompt text, how often that text was asked) -> (status, headers, body)`."""

    def __init__(self):
        self.requests = []
        self.active = self.most_active = 0
        self.lock = threading.Lock()
        self.barrier = None
        self.reply = lambda text, times: verdict("Accept")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = body["messages"][0]["content"][0]["text"]
                with outer.lock:
                    outer.active += 1
                    outer.most_active = max(outer.most_active, outer.active)
                    outer.requests.append((self.path, self.headers, body))
                    times = sum(
                        r["messages"][0]["content"][0]["text"] == text for *_, r in outer.requests
                    )
                if outer.barrier is not None:
                    outer.barrier.wait(timeout=20)
                status, headers, answer = outer.reply(text, times)
                with outer.lock:
                    outer.active -= 1
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                try:
                    self.send_response(status)
                    self.answer(headers, data)
                except OSError:
                    pass  # the client has hung up

            def answer(self, headers, data):
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()


def verdict(text, finish_reason="stop"):
    message = {"role": "assistant", "content": text}
    return 200, {}, {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def questions(
    template="Is this {prompt}? ({frames})",
    dimensions=("accept",),
    graded_template="",
    descriptions=None,
):
    return {
        name: [
            verdict_question(template)
            if name == "accept"
            else grade_question(name, graded_template, descriptions or {})
        ]
        for name in dimensions
    }


def judge(server, **options):
    asked = {name: options.pop(name) for name in list(options) if name in ("template", *GRADED)}
    fields = {"questions": questions(**asked), "pause": 0.01, "min_size": 1}
    return RemoteJudge(server.url, "judge-1", **(fields | options))


def section(server, dimension, **fields):
    """The config's section of a judge that scores two dimensions."""
    remote = schema.RemoteJudge(base_url=server.url, model="judge-1", min_size=1, **fields)
    dimensions = ("accept", "camera_motion")
    return build(schema.Reward(dimension=dimension, dimensions=dimensions, remote_judge=remote))


def clips(count=1, frames=8):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, frames, 6, 5, 3), np.uint8)


def test_it_is_a_reward(server):
    assert isinstance(judge(server), Reward)


def test_scores_follow_the_answers_in_order(server):
    server.reply = lambda text, times: verdict("Accept" if "good" in text else "Reject.")
    prompts = ["good a", "bad b", "bad c", "good d", "bad e"]
    scorer = judge(server, concurrency=3)
    found = scorer.score(clips(5), prompts)
    assert found.scores.keys() == {"accept"}
    assert found.scores["accept"].dtype == np.float32
    assert found.scores["accept"].tolist() == [1, 0, 0, 1, 0]
    assert found.reasons == ["Accept", "Reject.", "Reject.", "Accept", "Reject."]
    assert not found.failures


def test_the_request_holds_prompt_frames_and_key(server, monkeypatch):
    monkeypatch.setenv("JUDGE_TEST_KEY", "abc")
    clip = clips(frames=15)[0]
    judge(server, api_key_env="JUDGE_TEST_KEY").score(clip[None], ["a {b} c"])
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer abc"
    assert body["model"] == "judge-1"
    assert body["temperature"] == 0
    text, *images = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "Is this a {b} c? (8)"}
    assert [image["type"] for image in images] == ["image_url"] * 8
    for image, number in zip(images, range(0, 15, 2), strict=True):
        kind, data = image["image_url"]["url"].split(",")
        assert kind == "data:image/png;base64"
        with av.open(io.BytesIO(base64.b64decode(data)), format="png_pipe") as file:
            decoded = next(file.decode(video=0)).to_ndarray(format="rgb24")
        np.testing.assert_array_equal(decoded, clip[number])


def test_no_key_sends_no_key_and_short_clips_send_all_frames(server):
    judge(server, api_key_env="JUDGE_TEST_UNSET").score(clips(frames=3), ["x"])
    _, headers, body = server.requests[0]
    assert "Authorization" not in headers
    assert len(body["messages"][0]["content"]) == 1 + 3


def test_each_dimension_is_a_request_of_its_own(server):
    scorer = judge(server, **GRADED)
    server.reply = lambda text, times: verdict(
        {"Is": "Accept"}.get(text[:2], "Sharp.\nGood" if "visual" in text else "It rests.\nPoor")
    )
    judgement = scorer.score(clips(2), ["a", "b"])
    scores = judgement.scores
    assert {name: score.tolist() for name, score in scores.items()} == {
        "accept": [1, 1],
        "visual_quality": [1, 1],
        "camera_motion": [0, 0],
    }
    assert all(score.dtype == np.float32 for score in scores.values())
    assert scorer.dimensions == tuple(scores)
    asked = [r[2]["messages"][0]["content"] for r in server.requests]
    assert sorted(content[0]["text"] for content in asked) == [
        "Grade the camera motion (how much) of a in 8.",
        "Grade the camera motion (how much) of b in 8.",
        "Grade the visual quality (as a {picture}) of a in 8.",
        "Grade the visual quality (as a {picture}) of b in 8.",
        "Is this a? (8)",
        "Is this b? (8)",
    ]
    assert all(len(content) == 1 + 8 for content in asked)
    words = "accept: Accept\n\nvisual_quality: Sharp.\nGood\n\ncamera_motion: It rests.\nPoor"
    assert judgement.reasons == [words] * 2


def test_a_lost_dimension_is_named_and_the_others_are_kept(server):
    def reply(text, times):
        if text.startswith("Is"):
            return verdict("Reject" if "b" in text else "Accept")
        return verdict("Hard to say." if "visual" in text and "b" in text else "Fine.\nNormal")

    server.reply = reply
    scorer = judge(server, retries=1, **GRADED)
    found = scorer.score(clips(3), ["a", "b", "c"])
    scores = found.scores
    assert found.failures.keys() == {1}
    assert found.failures[1].startswith("visual_quality: does not end in Good, Normal or Poor: 'H")
    message = complaint(scorer, found, ["a", "b", "c"])
    assert message.startswith(f"1 of 3 clips got no verdict from judge-1 at {server.url}/chat/comp")
    assert "in 2 tries each (1 times: visual_quality: does not end" in message
    assert message.splitlines()[1:] == [f"  b: {found.failures[1]}"]
    np.testing.assert_array_equal(scores["accept"], [1, 0, 1])
    np.testing.assert_array_equal(scores["visual_quality"], [0.5, np.nan, 0.5])
    np.testing.assert_array_equal(scores["camera_motion"], [0.5, 0.5, 0.5])
    assert "visual_quality: does not end" in found.reasons[1]
    assert found.reasons[2].endswith("camera_motion: Fine.\nNormal")
    assert len(server.requests) == 3 * 3 + 1


def test_the_label_stage_keeps_what_was_scored_before_a_failure(server, tmp_path):
    write_sampled(tmp_path, clips(4, frames=2))
    reward = section(server, "accept", retries=0)
    broken = {"prompt 1": "Hm.", "prompt 2": "Hm."}

    def reply(text, times):
        prompt = text.split("\n")[2]
        if "one word, Accept" in text:
            return verdict("Reject" if prompt == "prompt 2" else "Accept")
        return verdict(broken.get(prompt, f"Words on {prompt}.\nNormal"))

    server.reply = reply
    with pytest.raises(JudgeError, match="2 of 4 clips") as caught:
        label.label_clips(tmp_path, tmp_path, reward, name="label")
    message = str(caught.value)
    assert "clip scene/1, 'prompt 1': camera_motion: does not end in Good" in message
    assert "The labels of 2 of these 4 clips are kept in" in message
    assert message.endswith("the same command asks for the others.")
    assert len(server.requests) == 4 * 2
    del broken["prompt 1"]
    with pytest.raises(JudgeError, match="1 of 2 clips"):
        label.label_clips(tmp_path, tmp_path, reward, name="label")
    assert not (tmp_path / "labels.parquet").exists()
    broken.clear()
    label.label_clips(tmp_path, tmp_path, reward, name="label")
    assert len(server.requests) == (4 + 2 + 1) * 2  # nothing is asked twice that was answered
    labels = label.read_labels(tmp_path)
    assert labels.index.tolist() == [0, 1, 2, 3]
    assert labels.clip_id.tolist() == [f"scene/{i}" for i in range(4)]
    assert labels.score.tolist() == labels.accept.tolist() == [1, 1, 0, 1]
    assert labels.camera_motion.tolist() == [0.5] * 4
    assert labels.rationale[2] == "accept: Reject\n\ncamera_motion: Words on prompt 2.\nNormal"
    assert not list(tmp_path.glob("scored-*"))


def test_fresh_clips_are_asked_about_in_the_chosen_dimension_alone(server):
    reward = section(server, "camera_motion")
    server.reply = lambda text, times: verdict("Good" if "\na\n" in text else "Normal")
    rows = [(Scene(p, p, "c", "train", np.zeros((4, 4, 3), np.uint8)), 0) for p in "ab"]
    base = np.zeros((2, 2, 4, 4, 3), np.uint8)
    drawn = [(rows, {"video": base, "video_high": clips(2)}), ([], {})]
    assert label.mean_score(drawn, reward) == {"camera_motion": 0.75}
    assert len(server.requests) == 2
    shown = server.requests[0][2]["messages"][0]["content"][1:]
    assert len(shown) == 8  # as the last resolution has
    server.reply = lambda text, times: (400, {}, b"no pictures")
    with pytest.raises(JudgeError, match=r"2 of 2 clips(.|\n)*clip a/0, 'a': .*: HTTP 400: no pic"):
        label.mean_score(drawn, reward)


def test_small_frames_are_enlarged(server):
    judge(server, min_size=20, frames=1).score(clips(), ["x"])
    data = server.requests[0][2]["messages"][0]["content"][1]["image_url"]["url"].split(",")[1]
    with av.open(io.BytesIO(base64.b64decode(data)), format="png_pipe") as file:
        decoded = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert decoded.shape == (24, 20, 3)
    np.testing.assert_array_equal(decoded[::4, ::4], clips()[0, 0])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_servers_are_asked_again(server, status):
    server.reply = lambda text, times: (
        (status, {"Retry-After": "0.05"}, b"busy") if times < 3 else verdict("accept")
    )
    assert judge(server).score(clips(), ["x"]).scores["accept"].tolist() == [1]
    assert len(server.requests) == 3


def test_the_server_says_how_long_to_wait(server, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    asked = ["7", "1.5", soon, "3600", "later", ""]
    server.reply = lambda text, times: (
        (429, {"Retry-After": asked[times - 1]}, b"busy") if times <= 6 else verdict("Accept")
    )
    assert judge(server, retries=6).score(clips(), ["x"]).scores["accept"].tolist() == [1]
    assert waits[:2] == [7.0, 1.5]
    assert 20 < waits[2] <= 30
    assert waits[3] == 60.0  # no longer than that
    assert all(wait < 1 for wait in waits[4:])  # pause, doubled each time


def test_the_length_of_answers_is_limited(server):
    judge(server).score(clips(), ["x"])
    judge(server, max_tokens=77).score(clips(), ["x"])
    judge(server, max_tokens=0).score(clips(), ["x"])
    assert [body.get("max_tokens") for *_, body in server.requests] == [1024, 77, None]
    server.reply = lambda text, times: verdict("The hand", finish_reason="length")
    found = judge(server, max_tokens=2, retries=0).score(clips(), ["x"])
    assert found.failures[0].endswith("'The hand' (the answer was cut off at max_tokens=2)")


def test_a_proxy_of_the_environment_is_used(server, monkeypatch):
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    remote = RemoteJudge("http://judge.invalid/v1", "judge-1", questions(), min_size=1)
    assert remote.score(clips(), ["x"]).scores["accept"].tolist() == [1]
    assert server.requests[0][0] == "http://judge.invalid/v1/chat/completions"


def test_a_judge_that_is_dropped_or_closed_leaves_no_connection(server, recwarn):
    scorer = judge(server)
    scorer.score(clips(), ["x"])
    client = scorer._chat._client
    del scorer
    gc.collect()
    assert client.is_closed()
    scorer = judge(server)
    scorer.close()
    scorer.close()
    assert scorer._chat._client.is_closed()
    assert not [w for w in recwarn if issubclass(w.category, ResourceWarning)]


@pytest.mark.parametrize(
    "answer",
    [b"no json", {"choices": []}, {"choices": [{"message": {"content": None}}]}, {"error": "x"}],
)
def test_malformed_answers_are_asked_again(server, answer):
    server.reply = lambda text, times: (200, {}, answer) if times == 1 else verdict("Reject")
    assert judge(server).score(clips(), ["x"]).scores["accept"].tolist() == [0]


def test_unclear_answers_are_retried_then_named(server):
    def reply(text, times):
        if "never" in text:
            return verdict("It depends.")
        return verdict("Hm." if times < 3 else "Accept")

    server.reply = reply
    scorer = judge(server, retries=2)
    assert scorer.score(clips(), ["later"]).scores["accept"].tolist() == [1]
    prompts = ["never one", "later two", "never three"]
    found = scorer.score(clips(3), prompts)
    assert found.failures == dict.fromkeys(
        (0, 2), "accept: neither Accept nor Reject: 'It depends.'"
    )
    message = complaint(scorer, found, prompts)
    assert message.startswith("2 of 3 clips got no verdict from judge-1")
    assert "(2 times: accept: neither" in message
    asked = [r[2] for r in server.requests if "never one" in str(r[2]["messages"])]
    # greedy first; asked greedily again, the model would only repeat itself
    assert [r["temperature"] for r in asked] == [0.0, 0.7, 0.7]


def test_a_wrong_key_is_not_retried(server):
    server.reply = lambda text, times: (401, {}, {"error": {"message": "invalid key"}})
    assert re.match(
        "accept: HTTP 401: .*invalid key", judge(server).score(clips(), "x").failures[0]
    )
    assert len(server.requests) == 1


def test_no_server_and_slow_servers_end_with_an_error(server):
    release = threading.Event()

    def reply(text, times):
        release.wait(10)
        return verdict("Accept")

    server.reply = reply
    try:
        begun = time.monotonic()
        found = judge(server, timeout=0.2, retries=1).score(clips(), ["x"])
        assert 0.4 <= time.monotonic() - begun < 5
        assert "timed out" in found.failures[0]
        assert np.isnan(found.scores["accept"][0])
    finally:
        release.set()
    assert len(server.requests) == 2
    url = server.url
    server.close()
    nobody = RemoteJudge(url, "m", questions(), retries=1, pause=0.01)
    assert "refused" in nobody.score(clips(), ["x"]).failures[0]


def test_requests_run_side_by_side_up_to_the_limit(server):
    server.barrier = threading.Barrier(4)  # nobody is answered before four have asked
    judge(server, concurrency=4).score(clips(8), [f"p{i}" for i in range(8)])
    assert server.most_active == 4


def test_settings_are_checked():
    for fields, message in (
        ({"base_url": ""}, "remote_judge.base_url"),
        ({"model": ""}, "remote_judge.model"),
        ({"base_url": "localhost:8000"}, "must start with http"),
        ({"frames": 0}, "frames=0"),
        ({"retries": -1}, "retries=-1"),
        ({"max_tokens": -1}, "max_tokens=-1"),
        ({"timeout": 0}, "timeout=0"),
    ):
        good = {"base_url": "http://x/v1", "model": "m", "questions": questions()}
        with pytest.raises(ValueError, match=message):
            RemoteJudge(**(good | fields))


def test_templates_are_checked():
    for fields, message in (
        ({"template": "no place"}, r"no \{prompt\}"),
        (GRADED | {"dimensions": ("visual_qality",)}, "'visual_qality'; did you mean visual_qual"),
        (GRADED | {"dimensions": ("hue",)}, "'hue'; known: accept, camera_motion, visual"),
        (GRADED | {"graded_template": "{prompt}"}, r"no \{description\}"),
        (GRADED | {"graded_template": "{description}"}, r"visual_quality has no \{prompt\}"),
    ):
        with pytest.raises(ValueError, match=message):
            questions(**fields)


def test_a_checklist_is_a_request_a_question(server):
    """Three of four questions are answered by yes: the score is their mean."""
    server.reply = lambda text, times: verdict("No." if "third" in text else "Yes")
    lines = "first?\nsecond?\nthird?\nfourth?\n"
    asked = checklist("motion_quality", "{prompt}: {question}", {"motion_quality": lines})
    found = judge(server, questions={"motion_quality": asked}).score(clips(), ["a cat"])
    assert found.scores["motion_quality"].tolist() == [0.75]
    assert found.reasons == ["Yes\nYes\nNo.\nYes"]
    assert len(server.requests) == 4
    server.reply = lambda text, times: verdict("maybe" if "second" in text else "Yes")
    found = judge(server, questions={"motion_quality": asked}, retries=0).score(clips(), ["a"])
    assert np.isnan(found.scores["motion_quality"][0])
    assert found.failures[0].startswith("motion_quality: 1 of 4 questions: ")


def test_as_many_prompts_as_clips(server):
    with pytest.raises(ValueError, match="2 clips and 1 prompts"):
        judge(server).score(clips(2), ["x"])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("Accept", 1.0), ("**REJECT**", 0.0), ("accepted.\n", 1.0), ("Verdict: Reject", 0.0)],
)
def test_verdicts(answer, expected):
    assert parse_verdict(answer) == expected


@pytest.mark.parametrize(
    "answer",
    ["Unacceptable", "Accept or reject?", "", "yes", "I do not accept it", "I can't accept it"],
)
def test_unclear_verdicts(answer):
    with pytest.raises(ValueError, match="neither Accept nor Reject"):
        parse_verdict(answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Good", 1.0),
        ("The hand melts, which is not good.\n\n**Poor**\n", 0.0),
        ("Poor light, but all is sharp. Normal.", 0.5),
        ("Motion is good until frame 5.\nGrade: NORMAL", 0.5),
        ('{"reason": "poor", "grade": "good"}', 1.0),
    ],
)
def test_grades(answer, expected):
    assert parse_grade(answer) == expected


@pytest.mark.parametrize(
    "answer",
    ["", "The motion is not good", "Good/Normal/Poor", "Goodness", "Good, as all is sharp.", "OK"],
)
def test_unclear_grades(answer):
    with pytest.raises(ValueError, match="does not end in Good, Normal or Poor"):
        parse_grade(answer)


def test_the_templates_ask_for_their_words():
    text = (TEMPLATES / "accept_reject.txt").read_text()
    assert "{prompt}" in text
    assert "{frames}" in text
    assert text.strip().endswith("Answer with one word, Accept or Reject.")
    for word in ("coherence", "physics", "task", "consistency"):
        assert word in text.lower()
    graded = (TEMPLATES / "good_normal_poor.txt").read_text()
    for place in ("{prompt}", "{frames}", "{dimension}", "{description}"):
        assert graded.count(place) == 1
    assert graded.strip().endswith("one word: Good, Normal or Poor.")
    for path in (TEMPLATES / "dimensions").glob("*.txt"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith(path.stem.replace("_", " ").capitalize() + " is ")
        assert [line.split(":")[0] for line in lines[1:]] == ["Good", "Normal", "Poor"]
