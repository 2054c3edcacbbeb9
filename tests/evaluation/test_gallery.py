"""Clips side by side on a page, as a picture and as files."""

import re

import numpy as np
import PIL.Image
from report_examples import moving_square

from tests.probing import probe
from vidpref.evaluation.gallery import write_gallery, write_sheet, write_videos
from vidpref.evaluation.report import ClipRow


def row(clips, *, judged=True, prompt="a <red> square"):
    accepted = {name: name == "dpo" for name in clips} if judged else None
    reasons = {"pretrained": "it rests"} if judged else {}
    return ClipRow(prompt, "DM", "test", clips, accepted, reasons, name="scene-0")


def grey(value, *, frames=5, height=16, width=16):
    return np.full((frames, height, width, 3), value, np.uint8)


def test_small_clips_are_inside_the_page_with_verdict_and_reason(tmp_path):
    page = tmp_path / "clips.html"
    small = row({"pretrained": moving_square((200, 0, 0)), "dpo": moving_square((0, 0, 200))})
    assert write_gallery(page, [small], heading="A run", about="2 of 2 clips", fps=8) is None
    html = page.read_text()
    assert html.count('<video src="data:video/webm') == 2
    assert html.index("✗ rejected") < html.index("it rests") < html.index("✓ accepted")
    for text in ("A run", "2 of 2 clips", "directional movement", "a &lt;red&gt; square"):
        assert text in html
    assert [path.name for path in tmp_path.iterdir()] == ["clips.html"]


def test_large_clips_lie_beside_the_page_and_get_its_whole_width(tmp_path):
    page = tmp_path / "my clips.html"
    large = row({"wan": grey(100, frames=9, height=480, width=832)}, judged=False)
    folder = write_gallery(page, [large], heading="A run", about="", fps=16)
    (video,) = folder.rglob("*.mp4")
    assert (probe(video).frames, probe(video).width, probe(video).fps) == (9, 832, 16.0)
    html = page.read_text()
    assert '<video src="my%20clips-videos/wan/scene-0.mp4"' in html
    assert 'class="cards large"' in html
    assert not re.search("(accepted|rejected)</span>", html)


def test_a_picture_has_frames_of_each_clip_in_a_line(tmp_path):
    clips = {"pretrained": grey(90), "dpo": grey(170, frames=30, height=320, width=640)}
    write_sheet(tmp_path / "sheet.png", [row(clips, prompt="日本 " * 200)])
    sheet = np.asarray(PIL.Image.open(tmp_path / "sheet.png"))
    count = {value: int((sheet == value).all(axis=-1).sum()) for value in (90, 170)}
    assert count[90] == 5 * 64 * 64  # enlarged fourfold
    assert count[170] == 8 * 160 * 320  # eight frames of thirty, half the size
    assert sheet.shape[1] == 8 * 320 + 16


def test_frames_of_a_picture_are_from_all_over_the_clip(tmp_path):
    clip = np.stack([grey(10 * t, frames=1)[0] for t in range(22)])
    write_sheet(tmp_path / "sheet.png", [row({"dpo": clip})])
    line = np.asarray(PIL.Image.open(tmp_path / "sheet.png"))[-40, 8 + 32 : 8 + 64 * 8 : 64, 0]
    assert line.tolist() == [10 * t for t in (0, 3, 6, 9, 12, 15, 18, 21)]


def test_videos_are_named_by_policy_prompt_and_noise(tmp_path):
    rows = [row({"pretrained": grey(90), "dpo": grey(170, height=32, width=48)})]
    paths = write_videos(tmp_path / "new", rows, fps=8)
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert names == ["new/pretrained/scene-0.mp4", "new/dpo/scene-0.mp4"]
    assert (probe(paths[1]).height, probe(paths[1]).width) == (32, 48)
