"""The page in a real browser, by keyboard alone, at the sizes of a desk and of a phone."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from annotation_examples import ANSWER, DIMENSIONS, items, served, task, write_video, write_videos

from tests.browsers import chromium, until
from vidpref.annotation.answers import Standing
from vidpref.annotation.journal import JOURNAL, read_journal
from vidpref.annotation.task import Item, Task

PLAYS = "[...document.querySelectorAll('#clips video')].every(v => v.currentTime > 0.2)"
TIMES = "[...document.querySelectorAll('#clips video')].map(v => v.currentTime)"
COUNT = "n => document.getElementById('count').textContent.startsWith(`${n} of`)"
DONE = "!document.getElementById('done').hidden"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser):
    """Opens the page of a server and begins as somebody; what goes wrong ends up in `page.seen`."""
    pages = []

    def begin(server, name, width=1280, scheme="light", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        page = context.new_page()
        page.emulate_media(color_scheme=scheme)
        page.seen = []
        page.on("console", lambda m: page.seen.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: page.seen.append(f"error: {e}"))
        pages.append(context)
        page.goto(server.address)
        until(page, "document.activeElement.id === 'name'")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        until(page, f"!document.getElementById('ask').hidden || {DONE}")
        return page

    yield begin
    for context in pages:
        context.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder)
    return folder


@pytest.fixture
def server(folder):
    (folder / JOURNAL).unlink(missing_ok=True)
    with served(folder, task(3, checks=0.5)) as server:
        yield server


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def answers_of(folder, name):
    standing = Standing(read_journal(folder / JOURNAL).entries)
    return list(standing.by_annotator[name].values())


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_everything_is_done_by_keyboard_alone(opened, server, folder, width, scheme):
    page = opened(server, "ann", width, scheme)
    until(page, PLAYS)
    keys = [("1", "t"), ("ArrowRight", "2"), ("a", "x"), ("b", "3")]
    for number, (first, second) in enumerate(keys):
        until(page, COUNT, number)
        press(page, first, "Enter")  # too early: says what is missing
        assert "Answer motion quality first." in page.text_content("#said")
        press(page, second)
        if number == 1:
            press(page, "n")
            page.keyboard.type("the 1st jumps, xu")
            press(page, "Escape")
        press(page, "Enter")
    until(page, DONE)
    found = answers_of(folder, "ann")
    assert [tuple(e["answer"][d] for d in DIMENSIONS) for e in found] == [
        ("left", "tie"),
        ("right", "tie"),
        ("left", "invalid"),
        ("right", "right"),
    ]
    assert [e["note"] for e in found] == ["", "the 1st jumps, xu", "", ""]
    assert all(0 < e["seconds"] < 60 for e in found)
    press(page, "u")
    until(page, f"!({DONE})")
    until(page, "document.querySelectorAll('#answers input:checked').length === 2")
    press(page, "ArrowUp", "ArrowUp", "2", "Enter")
    until(page, DONE)
    again = answers_of(folder, "ann")[-1]
    assert again["key"] == found[-1]["key"]
    assert again["answer"] == {"visual_quality": "tie", "motion_quality": "right"}
    assert page.seen == []


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("kind", ["compare", "grade"])
def test_nothing_is_cut_off_or_without_a_name(opened, folder, width, kind, tmp_path):
    prompt = "a very long prompt " * 30 + "w" * 90
    one = items(1, ("old", "new") if kind == "compare" else ("old",))[0]
    wanted = Task(kind, (Item(prompt, one.clips, one.sources),), DIMENSIONS)
    (folder / JOURNAL).unlink(missing_ok=True)
    with served(folder, wanted) as server:
        page = opened(server, "ann", width)
        press(page, "?")
        until(page, "document.getElementById('help').open")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = """[...document.querySelectorAll("main *")].filter(e =>
            e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"""
        assert page.evaluate(wide) == []
        small = """[...document.querySelectorAll(".choices label, #save, #undo")].filter(e =>
            e.getBoundingClientRect().height < 32).length"""
        assert page.evaluate(small) == 0
        tree = page.locator("main").aria_snapshot()
        for name in (
            "progressbar",
            'group "visual quality How good',
            "Save and go on",
            'textbox "Note',
        ):
            assert name in tree, tree
        assert tree.count("- radio") == len(DIMENSIONS) * (4 if kind == "compare" else 6)
        unnamed = re.findall(r"- (?:radio|button|textbox|slider|img)(?::|$)", tree, re.MULTILINE)
        assert not unnamed, tree


def test_two_clips_play_in_step_and_begin_again_together(opened, folder):
    write_video(folder / "new" / "long.mp4", frames=20)
    write_video(folder / "old" / "long.mp4", frames=12)
    one = items(1)[0]
    wanted = Task("compare", (Item("p", ("old/long.mp4", "new/long.mp4"), one.sources),), ("a",))
    (folder / JOURNAL).unlink(missing_ok=True)
    with served(folder, wanted) as server:
        page = opened(server, "ann")
        until(page, PLAYS)
        watch = """() => new Promise(done => { const seen = []; const id = setInterval(() => {
            const v = [...document.querySelectorAll('#clips video')];
            seen.push(v.map(x => [x.currentTime, x.ended || x.seeking, x.duration])); }, 20);
            setTimeout(() => { clearInterval(id); done(seen) }, 6000) })"""
        seen = page.evaluate(watch)
        together = [abs(a[0] - b[0]) for a, b in seen if not a[1] and not b[1]]
        assert len(together) > 20
        assert np.median(together) < 0.06, together  # half a frame of eight a second
        times = [max(a[0], b[0]) for a, b in seen]
        assert max(times) > 2.2  # the longer one plays to its end
        assert sum(y < x - 1 for x, y in itertools.pairwise(times)) >= 1  # and again
        press(page, " ")
        until(page, "[...document.querySelectorAll('#clips video')].every(v => v.paused)")
        first = page.evaluate(TIMES)
        page.wait_for_timeout(300)
        assert page.evaluate(TIMES) == first
        press(page, "r")
        until(page, "document.querySelector('#clips video').currentTime > 0.1")
        press(page, " ", ".", ".", ",")
        until(page, "[...document.querySelectorAll('#clips video')].every(v => !v.seeking)")
        one, other = page.evaluate(TIMES)
        assert one == pytest.approx(other, abs=0.07)
        assert (one * 8) % 1 == pytest.approx(0.5, abs=0.01)  # the middle of a frame


def test_readers_who_want_no_motion_start_the_clips_themselves(opened, server):
    page = opened(server, "ann", reduced_motion="reduce")
    page.wait_for_timeout(400)
    assert page.evaluate(TIMES) == [0, 0]
    press(page, " ")
    until(page, PLAYS)


def test_nobody_sees_what_made_a_clip(opened, server):
    page = opened(server, "ann")
    until(page, PLAYS)
    addresses = page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    assert sum("/clip/" in address for address in addresses) >= 2
    for text in (page.content(), *addresses):
        assert not re.search(r"\bold\b|\bnew\b|\.mp4", text)


def test_a_browser_that_dies_keeps_what_was_not_yet_saved(opened, server):
    page = opened(server, "ann")
    press(page, "1", "n")
    page.keyboard.type("half")
    again = page.context.new_page()
    page.close(run_before_unload=False)
    again.goto(server.address)
    until(again, "!document.getElementById('ask').hidden")
    assert again.evaluate("document.querySelectorAll('#answers input:checked').length") == 1
    assert again.input_value("#note") == "half"
    press(again, "2", "Enter")
    until(again, COUNT, 1)
    assert again.evaluate("document.querySelectorAll('#answers input:checked').length") == 0


def test_a_second_window_that_says_otherwise_is_told(opened, server, folder):
    page = opened(server, "ann")
    key = server.answers.state("ann")["next"][0].key
    server.answers.answer("ann", key, ANSWER)
    press(page, "3", "3", "Enter")
    until(page, "!document.getElementById('trouble').hidden")
    assert "another window" in page.inner_text("#trouble")
    until(page, COUNT, 1)
    assert [e["answer"] for e in answers_of(folder, "ann")] == [ANSWER]


def test_a_clip_that_does_not_play_is_named_with_what_to_do(opened, folder, capsys):
    write_video(folder / "old" / "odd.avi", codec="mpeg4")
    odd = Item("p", ("old/odd.avi", "new/0.mp4"), ("old", "new"))
    wanted = Task("compare", (odd,), ("a",))
    (folder / JOURNAL).unlink(missing_ok=True)
    with served(folder, wanted) as server:
        page = opened(server, "ann")
        until(page, "/mpeg4/.test(document.body.innerText)")
        said = page.inner_text(".unplayable")
        assert "mpeg4 in .avi: browsers play H.264 in .mp4" in said
        assert "answer “invalid”" in said
        assert "odd" not in said
        until(page, "[...document.querySelectorAll('#clips video')].some(v => v.currentTime > 0.2)")
        press(page, "x", "Enter")
        until(page, DONE)
    assert f"did not play: {folder / 'old' / 'odd.avi'}" in capsys.readouterr().err
    assert answers_of(folder, "ann")[0]["answer"] == {"a": "invalid"}


def test_by_pointer_and_by_tab_it_works_too(opened, server, folder):
    page = opened(server, "ann")
    page.get_by_label("Tie").first.check()
    page.get_by_role("radio", name="B").last.focus()
    press(page, "ArrowLeft", " ")  # a group's own keys
    assert page.evaluate("document.activeElement.value") == "tie"
    page.get_by_role("button", name="Save and go on").click()
    until(page, COUNT, 1)
    assert answers_of(folder, "ann")[0]["answer"] == dict.fromkeys(DIMENSIONS, "tie")
    page.get_by_role("button", name="Undo").click()
    until(page, COUNT, 0)
    page.get_by_role("button", name="Not you?").click()
    until(page, "document.activeElement.id === 'name'")
    page.keyboard.type("../../etc")
    press(page, "Enter")
    until(page, "!document.getElementById('trouble').hidden")
    assert "a name has 1 to 40 letters" in page.inner_text("#trouble")


def test_texts_are_shown_as_they_are(opened, folder):
    one = items(1)[0]
    prompt = "<img src=x onerror=alert(1)> & “a”"
    wanted = Task("compare", (Item(prompt, one.clips, one.sources),), ("<b>dim</b>",))
    (folder / JOURNAL).unlink(missing_ok=True)
    with served(folder, wanted) as server:
        page = opened(server, "ann")
        assert page.inner_text("#prompt") == prompt
        assert "<b>dim</b>" in page.inner_text("legend")
        press(page, "1", "Enter")
        until(page, DONE)
        assert page.seen == []
    (found,) = answers_of(folder, "ann")
    assert json.loads(json.dumps(found["answer"])) == {"<b>dim</b>": "left"}


def test_the_benchmark_counts_what_it_answers(browser, server, folder):
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "annotation.py"
    given = [f"--address={server.address}", "--dimensions=2", "--answers=2", "--name=fast"]
    command = [sys.executable, str(script), *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.match(r"2 answers, 6 keys: \d+ answers and \d+ actions a minute", done.stdout)
    assert len(answers_of(folder, "fast")) == 2
