"""Prompts, scenes and pixels of the mini world."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from vidpref.datasets.miniworld import (
    CAMERA_PROMPTS,
    PROMPTS,
    WORDS,
    prompts,
    render,
    render_batch,
    scene,
)
from vidpref.datasets.miniworld.actions import ACTIONS, EXTENT, FRAMES
from vidpref.datasets.miniworld.rendering import BACKGROUND, backdrop, coverage, panorama
from vidpref.datasets.miniworld.vocabulary import COLOURS, SENTENCES, SHAPES, Meaning, parse
from vidpref.datasets.prompts import CATEGORIES


def test_prompt_counts_and_words():
    assert {split: len(prompts(split)) for split in ("train", "validation", "test")} == {
        "train": 729,
        "validation": 102,
        "test": 213,
    }
    assert len(WORDS) == 40
    assert set(SENTENCES) == set(ACTIONS)
    assert len({p.action for p in PROMPTS}) == 16
    assert {word for p in PROMPTS for word in p.text.split()} == set(WORDS)
    assert max(len(p.text.split()) for p in PROMPTS) == 9
    for field in ("id", "text"):
        assert len({getattr(p, field) for p in PROMPTS}) == len(PROMPTS)


def test_prompts_do_not_change_between_releases():
    lines = "\n".join("|".join((p.id, p.text, p.category, p.split)) for p in PROMPTS)
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == "f299ea4a008a327e"


def test_prompts_for_the_camera_come_on_request():
    for split, extra in (("train", 72), ("validation", 12), ("test", 24)):
        world = prompts(split, camera=True)
        assert world[:-extra] == prompts(split)
        assert {p.category for p in world[-extra:]} == {"CM"}
        assert set(world[-extra:]) <= set(CAMERA_PROMPTS)
    assert {p.action for p in CAMERA_PROMPTS} == {"pan_left", "pan_right"}
    assert {word for p in CAMERA_PROMPTS for word in p.text.split()} - set(WORDS) == {"pan", "past"}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_category_has_its_share(split):
    counts = Counter(p.category for p in prompts(split))
    assert set(counts) == set(CATEGORIES)
    assert min(counts.values()) >= 0.1 * len(prompts(split))


def test_held_out_combinations_are_in_no_other_split():
    where = {}
    for prompt in (*PROMPTS, *CAMERA_PROMPTS):
        where.setdefault((prompt.action, prompt.objects), set()).add(prompt.split)
    assert all(len(splits) == 1 for splits in where.values())


def test_no_colour_or_shape_of_an_action_is_held_out_as_a_whole():
    for action in ACTIONS:
        seen = [p.objects[0] for p in prompts("train", camera=True) if p.action == action]
        assert {colour for colour, _ in seen} == set(COLOURS)
        assert {shape for _, shape in seen} == set(SHAPES)


def test_unknown_split():
    with pytest.raises(ValueError, match="train, validation, test"):
        prompts("dev")


def test_parse_is_the_inverse_of_the_sentence():
    for prompt in (*PROMPTS, *CAMERA_PROMPTS):
        assert parse(prompt.text) == prompt.meaning
    assert parse("  Squash the red ball  on the white floor") == Meaning(
        "squash", (("red", "ball"),), "white"
    )
    with pytest.raises(ValueError, match="'eat the red ball'"):
        parse("eat the red ball")


def test_a_scene_is_decided_by_prompt_and_seed():
    prompt = prompts("test")[0]
    np.testing.assert_array_equal(render(scene(prompt, 3)), render(scene(prompt, 3)))
    assert (render(scene(prompt, 3)) != render(scene(prompt, 4))).any()


DIGEST = "6d37050447cdf403"


def test_pixels_do_not_change_between_releases():
    """A rendered clip is part of the data: a change of this digest needs a new builder version."""
    clips = render_batch([scene(p, 7) for p in PROMPTS[::29]])
    coarse = (clips >> 3).tobytes()  # one rounding of a sqrt must not matter
    assert hashlib.sha256(coarse).hexdigest()[:16] == DIGEST


def test_twice_the_size_averages_to_the_size():
    scenes = [scene(p, 11) for p in (*PROMPTS[::17], *CAMERA_PROMPTS[::17])]
    small, large = render_batch(scenes), render_batch(scenes, scale=2)
    assert large.shape == (*small.shape[:2], 32, 32, 3)
    mean = large.reshape(*small.shape[:2], 16, 2, 16, 2, 3).mean((3, 5))
    # Four roundings of at most 1/2 in the mean, one in the small clip.
    assert np.abs(mean - small).max() <= 1.0
    with pytest.raises(ValueError, match="scale"):
        render(scenes[0], scale=3)


def test_batch_and_single_rendering_agree():
    scenes = [scene(p, 5) for p in PROMPTS[::83]]
    np.testing.assert_array_equal(render_batch(scenes), np.stack([render(s) for s in scenes]))


def test_coverage_has_the_area_of_the_shape():
    rng = np.random.default_rng(0)
    exact = {"ball": np.pi / 4, "brick": 1.0, "cone": 0.5}
    for i, shape in enumerate(SHAPES):
        width, height = EXTENT[shape]
        centre = rng.uniform(5, 11, (50, 2))
        box = np.float32([(x, y + height / 2, width, height) for x, y in centre])
        kinds, whole = np.full(50, i), np.zeros(50, int)
        cover = coverage(box, kinds, whole)
        assert cover.min() >= 0
        assert cover.max() <= 1 + 1e-5
        np.testing.assert_allclose(cover.sum((1, 2)), exact[shape] * width * height, rtol=0.02)
        halves = coverage(box, kinds, whole - 1) + coverage(box, kinds, whole + 1)
        np.testing.assert_allclose(halves, cover, atol=1e-5)


def test_coverage_is_antialiased_like_a_dense_sampling():
    box = np.float32([[8.3, 10.7, 5.4, 6.2]])
    ((x, bottom, width, height),) = box
    n = 64
    points = (np.arange(16 * n) + 0.5) / n
    down = 1 - (bottom - points) / height
    inside = (np.abs(points[None] - x) <= (down * width / 2)[:, None]) & (
        (down >= 0) & (down <= 1)
    )[:, None]
    dense = inside.reshape(16, n, 16, n).mean((1, 3))
    cover = coverage(box, np.array([2]), np.array([0]), rows=4)[0]
    np.testing.assert_allclose(cover, dense, atol=0.04)


def test_the_first_frame_shows_every_object():
    for prompt in (*PROMPTS, *CAMERA_PROMPTS)[::5]:
        first = render(scene(prompt, 2))[0].astype(float)
        empty = backdrop(ACTIONS[prompt.action].furniture, prompt.material)
        for colour, _ in prompt.objects:
            alike = np.abs(first - np.array(COLOURS[colour])).max(-1) < 25
            assert (alike & (np.abs(first - empty).max(-1) > 40)).sum() >= 6, prompt.text


def test_removed_objects_are_gone_at_the_end():
    for prompt in [p for p in PROMPTS if p.category == "OR"][::7]:
        last = render(scene(prompt, 1))[FRAMES - 1]
        empty = backdrop(ACTIONS[prompt.action].furniture, prompt.material)
        assert np.abs(last - np.rint(empty)).max() <= 1


def test_colours_are_far_apart():
    palette = np.array([*COLOURS.values(), BACKGROUND], float)
    distance = np.linalg.norm(palette[:, None] - palette[None], axis=-1)
    assert distance[np.triu_indices(len(palette), 1)].min() > 127


def test_a_pan_moves_everything_and_nothing_in_the_first_frame():
    """What the camera turns away from goes out of the picture on the other side."""
    for prompt in CAMERA_PROMPTS[::7]:
        stretched = panorama("hall", [prompt.material], np.float32([[0, 4, -4]]))[0]
        np.testing.assert_array_equal(stretched[0], backdrop("hall", prompt.material))
        np.testing.assert_array_equal(stretched[1, :, 4:], stretched[0, :, :-4])
        np.testing.assert_array_equal(stretched[2, :, :-4], stretched[0, :, 4:])
        right = scene(prompt, 3)
        start, end = right.sprites[0].box[0, 0], right.sprites[0].box[-1, 0]
        assert right.pan[0] == 0
        assert end - start == pytest.approx(right.pan[-1], abs=1e-5)
        assert np.sign(right.pan[-1]) == (1 if prompt.action == "pan_left" else -1)
        assert abs(right.pan[-1]) > 3.9
        # The direction is not in the first frame: it is that of the same scene at rest.
        still = scene(prompt, 3, progress=np.zeros(FRAMES))
        np.testing.assert_array_equal(render(right)[0], render(still)[0])


def test_first_frames_of_both_pans_are_alike():
    """The mean first frame over scenes is the same for both directions."""
    means = []
    for action in ("pan_left", "pan_right"):
        pool = [p for p in CAMERA_PROMPTS if p.action == action]
        clips = render_batch([scene(p, seed) for p in pool for seed in range(4)])
        means.append(clips[:, 0].mean(0))
    # The jitter of 216 scenes each: 0.23 pixels (one s.d.) of 200 levels, times sqrt(2 / 216),
    # is 4.4; an object that began half a pixel aside would make 100.
    assert np.abs(means[0] - means[1]).max() < 20
