"""The report as text, and in a real browser."""

import dataclasses
import re

import numpy as np
import pytest
from report_examples import CATEGORIES, RATES, clip_table, moving_square, report_data

from tests.browsers import chromium
from vidpref.evaluation.clips import Videos
from vidpref.evaluation.report import ClipRow, duration, headlines, write_report
from vidpref.evaluation.statistics import evaluation_json

_VIDEOS = """[...document.querySelectorAll("video")].map(v => (
    {time: v.currentTime, width: v.videoWidth, shown: v.clientWidth, ready: v.readyState,
     error: v.error && v.error.message, label: v.getAttribute("aria-label")}))"""
# The colour of one point of a clip, as the browser shows it.
_SQUARE = """v => { const c = document.createElement("canvas"); c.width = c.height = 128;
    const g = c.getContext("2d"); g.drawImage(v, 0, 0, 128, 128);
    return [...g.getImageData(28, 68, 1, 1).data]; }"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, report_data())
    return path


@pytest.fixture
def page(browser):
    """A page whose console messages, failures and requests end up in `page.seen`."""
    page = browser.new_page()
    page.seen = []
    page.on("console", lambda m: page.seen.append(f"console: {m.text}"))
    page.on("pageerror", lambda e: page.seen.append(f"error: {e}"))
    page.on("request", lambda r: page.seen.append(f"request: {r.url}"))
    yield page
    page.close()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_without_errors_requests_or_overflow(page, report, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.title() == "dpo_aif:mini · vidpref report"
    assert "more clips accepted" in page.inner_text(".headline")
    assert re.search(r"44\.2\s%\s*→\s*61\.3\s%", page.inner_text(".headline .change"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = """[...document.querySelectorAll("body *")].filter(e =>
        e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll")).length"""
    assert page.evaluate(wide) == 0
    small = """Math.min(...[...document.querySelectorAll("svg text")].map(t =>
        t.getBoundingClientRect().height))"""
    assert page.evaluate(small) >= 9
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (np.mean([int(x) for x in re.findall(r"\d+", ground)]) < 128) == (scheme == "dark")
    outside = [s for s in page.seen if not s.startswith("request: data:")]
    assert outside == [f"request: {report.as_uri()}"]


def test_numbers_are_read_on_a_phone_without_scrolling_sideways(page, report):
    page.set_viewport_size({"width": 400, "height": 900})
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    scrolling = """[...document.querySelectorAll(".scroll:has(table)")].filter(e =>
        e.scrollWidth > e.clientWidth + 1).map(e => e.getAttribute("aria-label"))"""
    assert page.evaluate(scrolling) == []
    cell = page.locator("#numbers td[data-column='Against pretrained']").nth(1)
    box = cell.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 400
    assert re.search(r"\+17\.\d", cell.inner_text())
    assert "Against pretrained" in cell.evaluate("e => getComputedStyle(e, '::before').content")
    difference = page.locator(".headline .difference").bounding_box()
    assert difference["y"] + difference["height"] < 900  # and without scrolling down


def test_every_clip_plays_when_it_is_seen(page, report):
    page.goto(report.as_uri())
    count = page.locator("video").count()
    assert count == 6 * 2 + 6
    for i in range(count):
        video = page.locator("video").nth(i)
        video.scroll_into_view_if_needed()
        moves = "v => new Promise(r => { const t = v.currentTime; const id = setInterval(() => {"
        moves += "if (v.currentTime > t) { clearInterval(id); r(true) } }, 10);"
        moves += "setTimeout(() => r(false), 15000) })"
        assert video.evaluate(moves), video.get_attribute("aria-label")
    for video in page.evaluate(_VIDEOS):
        assert video["error"] is None
        assert (video["width"], video["ready"] >= 2) == (128, True), video
        assert video["shown"] >= 100
        assert "accepted" in video["label"].lower() or "rejected" in video["label"].lower()


def test_clips_loop_and_show_their_own_colours(page, report):
    page.goto(report.as_uri())
    first = page.locator("video").first
    wraps = (
        "v => new Promise(r => { v.currentTime = 1.2; let t = 1.2; const id = setInterval(() => {"
    )
    wraps += "if (v.currentTime < t) { clearInterval(id); r(true) } t = v.currentTime }, 20);"
    wraps += "setTimeout(() => r(false), 15000) })"
    assert first.evaluate(wraps)
    np.testing.assert_allclose(first.evaluate(_SQUARE)[:3], (214, 60, 48), atol=6)


def test_a_reader_can_stop_all_clips(page, report):
    page.goto(report.as_uri())
    paused = "[...document.querySelectorAll('video')].every(v => v.paused)"
    page.wait_for_function(f"!({paused})")
    page.get_by_role("button", name="Pause all clips").click()
    page.wait_for_function(paused)
    page.get_by_role("button", name="Play all clips").click()
    page.wait_for_function(f"!({paused})")


def test_readers_who_want_no_motion_get_none(page, report):
    page.emulate_media(reduced_motion="reduce")
    page.goto(report.as_uri())
    page.get_by_role("button", name="Play all clips").wait_for()
    page.wait_for_timeout(300)
    assert page.evaluate("[...document.querySelectorAll('video')].every(v => v.paused)")


def test_verdicts_are_told_by_words_and_texts_are_escaped(report):
    html = report.read_text()
    assert html.count("✓ accepted") + html.count("✗ rejected") == 18
    assert "<b>not markup</b>" not in html
    assert "&lt;b&gt;not markup&lt;/b&gt;" in html
    assert "pixels &lt;right&gt;" in html
    assert "reused from an earlier run" in html
    assert "--config.align.beta=500" in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', html)
    assert not re.findall(r"url\((?!#)", html)


def test_a_reason_stands_under_each_badge(page, report):
    page.goto(report.as_uri())
    said = page.locator("#clips figcaption").all_inner_texts()
    assert len(said) == 6 * 2
    for text in said:
        policy = "pretrained" if "pretrained" in text else "dpo"
        assert ("rejected" in text) == (f"the square of {policy} rests" in text)


def test_where_the_verdict_changed_is_counted_and_shown_apart(tmp_path):
    data = report_data(rows=3)
    frame = clip_table({k: RATES[k] for k in ("pretrained", "dpo")})
    wide = frame[frame["split"] == "test"].pivot(
        index=["prompt", "sample"], columns="policy", values="accept"
    )
    gained = int((wide["dpo"] > wide["pretrained"]).sum())
    lost = int((wide["dpo"] < wide["pretrained"]).sum())
    changed = dataclasses.replace(data.before_after[0], note="DPO: now accepted")
    write_report(tmp_path / "report.html", dataclasses.replace(data, changed=[changed]))
    html = (tmp_path / "report.html").read_text()
    section = html[html.index('<section id="changed">') : html.index('<section id="numbers">')]
    words = " ".join(re.sub("<[^>]+>", "", section).split())
    assert f"of {len(wide)} clips of held-out prompts, {gained} rejected before are" in words
    assert f"{lost} accepted before are rejected now" in words
    assert "DPO: now accepted" in words
    assert "whatever came out" in html[: html.index('<section id="changed">')]
    assert "Rejected, now accepted" in words  # the table of all policies and prompts


def test_a_report_without_a_judge_shows_all_the_rest(tmp_path):
    data = report_data(rows=2)
    rows = [dataclasses.replace(r, accepted=None, reasons={}) for r in data.before_after]
    bare = dataclasses.replace(data, evaluation=None, changes=(), judged=(), before_after=rows)
    videos = Videos(tmp_path / "run" / "samples", fps=8, embed=0)
    (tmp_path / "run").mkdir()
    for page in (tmp_path / "report.html", tmp_path / "run" / "report.html"):
        write_report(page, bare, videos)
        html = page.read_text()
        assert "No judge was configured" in html
        assert "accepted</span>" not in html
        for text in ("pairs that train", "591", "Loss", "3 min 21 s", "--config.align.beta=500"):
            assert text in html
        sources = re.findall(r'<video src="([^"]*)"', html)
        assert len(sources) == 4
        assert all((page.parent / source).is_file() for source in sources)
    assert len(list(tmp_path.rglob("*.mp4"))) == 4


def test_sixty_clips_stay_below_five_megabytes(tmp_path):
    data = report_data(rows=20)  # 20 x 2 before and after, 20 judged
    write_report(tmp_path / "report.html", data)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_rounds_are_told_when_there_are_several(tmp_path):
    write_report(tmp_path / "report.html", report_data(rows=1, policies=RATES))
    html = (tmp_path / "report.html").read_text()
    assert "Acceptance against rounds" in html
    assert "Rounds, held-out prompts" in html
    assert html.count('<section class="headline') == 3


def test_a_report_without_clips_or_methods(tmp_path):
    evaluation = evaluation_json(clip_table({"pretrained": 0.4}), best_of=None)
    bare = dataclasses.replace(
        report_data(rows=1),
        evaluation=evaluation,
        before_after=(),
        judged=(),
        curves={},
        timings=(),
    )
    write_report(tmp_path / "report.html", bare)
    html = (tmp_path / "report.html").read_text()
    assert "nothing is compared" in html
    assert "<video" not in html


def _evaluation(diff: float, low: float, high: float) -> dict:
    entry = {"ci": [0.3, 0.5], "n": 10, "prompts": 5, "categories": {}}
    return {
        "policies": {
            "pretrained": {"test": entry | {"accept": 0.4}},
            "dpo": {"test": entry | {"accept": 0.4 + diff}},
        },
        "paired": {"dpo": {"test": {"diff": diff, "ci": [low, high]}}},
    }


@pytest.mark.parametrize(
    ("interval", "kind", "words"),
    [
        ((0.1, 0.02, 0.18), "better", "more clips"),
        ((-0.1, -0.18, -0.02), "worse", "fewer clips"),
        ((0.1, -0.01, 0.21), "unclear", "includes 0"),
        ((0.1, 0.0, 0.2), "unclear", "includes 0"),
    ],
)
def test_the_headline_claims_no_more_than_the_interval(interval, kind, words):
    (line,) = headlines(_evaluation(*interval))
    assert line.kind == kind
    assert words in line.verdict
    assert (line.before.value, line.difference.value) == (0.4, interval[0])
    assert line.prompts == "held-out prompts"


def test_clips_need_verdicts():
    with pytest.raises(ValueError, match=r"clips of \['dpo'\] but verdicts of \[\]"):
        ClipRow("a prompt", CATEGORIES[0], "test", {"dpo": moving_square((0, 0, 0))}, {})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.34, "8.3 s"), (59.96, "60.0 s"), (185.2, "3 min 05 s"), (7440.0, "2 h 04 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
