"""The judge's continuous scores: what each of them sees, and what it leaves to the others."""

import dataclasses
import functools
import itertools

import numpy as np
import pandas as pd
import pytest

from vidpref.datasets.miniworld import (
    CAMERA_PROMPTS,
    DEFECTS,
    PROMPTS,
    defective_scene,
    render_batch,
    scene,
)
from vidpref.datasets.miniworld.actions import ACTIONS, EXTENT
from vidpref.datasets.miniworld.defects import possible
from vidpref.datasets.miniworld.rendering import coverage, panorama
from vidpref.datasets.miniworld.vocabulary import MATERIALS, SHAPES
from vidpref.rewards.verifier import DIMENSIONS, Verifier
from vidpref.rewards.verifier.panning import measure_shift
from vidpref.rewards.verifier.tracking import free_boxes

CLIPS = 160
FIRST_SEED = 9_000_000
WORLDS = {"base": PROMPTS, "camera": CAMERA_PROMPTS}


def _cases(pool, count=CLIPS):
    order = np.random.default_rng(321).permutation(len(pool))
    chosen = itertools.islice(itertools.cycle(order), count)
    return [(pool[i], FIRST_SEED + n) for n, i in enumerate(chosen)]


def _jittered(right, seed):
    """Places in the picture that jump by half a pixel from frame to frame."""
    rng = np.random.default_rng(seed)
    jump = rng.normal(0, 0.5, (8, 4)).astype(np.float32) * np.float32([1, 1, 0, 0])
    jump[0] = 0
    sprites = (dataclasses.replace(s, box=s.box + jump) for s in right.sprites)
    return dataclasses.replace(right, sprites=tuple(sprites))


def _scores(scenes, cases):
    scored = Verifier().score(render_batch(scenes), [p.text for p, _ in cases]).scores
    assert tuple(scored) == DIMENSIONS
    for values in scored.values():
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() <= 1
    return scored


@functools.cache
def _table(world):
    """Mean score of every dimension (columns) over true, jittered and defective clips (rows)."""
    rows = {}
    for kind in ("true", "jittered", *DEFECTS):
        pool = [p for p in WORLDS[world] if kind not in DEFECTS or possible(kind, p)]
        if not pool:
            continue
        cases = _cases(pool)
        if kind in DEFECTS:
            scenes = [defective_scene(p, seed, kind) for p, seed in cases]
        else:
            scenes = [scene(p, seed) for p, seed in cases]
            if kind == "jittered":
                scenes = [_jittered(s, seed) for s, (_, seed) in zip(scenes, cases, strict=True)]
        rows[kind] = {name: float(v.mean()) for name, v in _scores(scenes, cases).items()}
    table = pd.DataFrame(rows).T
    print(f"\n{world}\n{table.round(3).to_string()}")
    return table


@pytest.mark.parametrize("world", WORLDS)
def test_true_clips_score_high(world):
    true = _table(world).loc["true"]
    assert true.accept >= 0.995
    assert true.visual_quality > 0.98
    assert true.motion_quality > 0.98
    assert true.text_alignment > 0.93
    moving, still = ("object_motion", "camera_motion")[:: 1 if world == "base" else -1]
    assert true[moving] > 0.95
    assert true[still] < 0.03


@pytest.mark.parametrize("world", WORLDS)
def test_static_clips_are_smooth_and_do_nothing(world):
    """The trade-off of McSc: whoever rewards quality alone rewards standing still."""
    table = _table(world)
    static = table.loc["static"]
    assert static.visual_quality >= table.loc["true"].visual_quality - 0.01
    assert static.motion_quality >= table.loc["true"].motion_quality
    assert static[["accept", "object_motion", "camera_motion", "text_alignment"]].max() < 0.01


@pytest.mark.parametrize("world", WORLDS)
def test_visual_quality_falls_with_spoiled_pixels_and_not_with_motion(world):
    quality = _table(world).visual_quality
    for defect in ("ghost", "shape", "colour", "blur", "noise", "flicker", "vanish"):
        assert quality[defect] < quality["true"] - 0.2, defect
    smooth_and_wrong = {"base": ["wrong_object"], "camera": ["wrong_pan", "carried"]}[world]
    for kind in ("static", "partial", "jittered", *smooth_and_wrong):
        assert quality[kind] > quality["true"] - 0.05, kind


@pytest.mark.parametrize("world", WORLDS)
def test_motion_quality_falls_with_jumps_and_flicker_only(world):
    quality = _table(world).motion_quality
    for kind in ("jittered", "flicker", "vanish"):
        assert quality[kind] < quality["true"] - 0.5, kind
    for kind in ("static", "partial", "wrong_action"):
        assert quality[kind] > quality["true"] - 0.05, kind


def test_motion_scores_tell_objects_from_the_camera():
    table = _table("camera")
    for kind in ("true", "wrong_pan", "carried"):
        assert table.camera_motion[kind] > 0.95, kind
    assert table.camera_motion["static_camera"] < 0.01
    for kind in ("true", "wrong_pan"):  # in the world the object is at rest
        assert table.object_motion[kind] < 0.03, kind
    for kind in ("static_camera", "carried"):
        assert table.object_motion[kind] > 0.9, kind
    base = _table("base")
    assert base.object_motion["wrong_object"] > 0.9
    assert base.camera_motion[["true", "static", "wrong_action", "wrong_object"]].max() < 0.01


@pytest.mark.parametrize("world", WORLDS)
def test_text_alignment_orders_true_partial_and_static(world):
    alignment = _table(world).text_alignment
    assert alignment["true"] - 0.3 > alignment["partial"] > alignment["static"] + 0.2
    wrong = {"base": ["wrong_object"], "camera": ["wrong_pan", "static_camera", "carried"]}[world]
    assert alignment[["static", "wrong_action", *wrong]].max() < 0.05


def test_scores_grow_with_progress():
    """Every clip, not only their mean: half of the way is half of the motion."""
    for pool, moving in ((PROMPTS[::9], "object_motion"), (CAMERA_PROMPTS, "camera_motion")):
        cases = [(p, FIRST_SEED) for p in pool if p.category != "OR"]  # there, sight ends early
        reached = []
        for fraction in (0, 0.25, 0.5, 0.75, 1.0):
            progress = [fraction * ACTIONS[p.action].timing for p, _ in cases]
            scenes = [scene(p, s, progress=q) for (p, s), q in zip(cases, progress, strict=True)]
            reached.append(_scores(scenes, cases))
        alignment = np.stack([scored["text_alignment"] for scored in reached])
        assert (np.diff(alignment[:-1], axis=0) > 0.05).all()
        assert (alignment[-1] > alignment[-2] - 0.02).all()
        # Of the nominal way: jitter is 8 % at most, an arc and a fall are not in proportion.
        straight = [i for i, (p, _) in enumerate(cases) if p.category in ("DM", "CM")]
        np.testing.assert_allclose(reached[2][moving][straight], 0.5, atol=0.06)


def test_scores_are_continuous():
    """One level more or less in every pixel changes little, whatever the clip.

    Not everywhere: an object so faint that it is just in sight may go out of it.
    """
    cases = _cases((*PROMPTS, *CAMERA_PROMPTS), 200)
    scenes = [
        defective_scene(p, seed, kind) if possible(kind, p) else scene(p, seed)
        for (p, seed), kind in zip(cases, itertools.cycle(DEFECTS))
    ]
    clips = render_batch(scenes)
    step = np.random.default_rng(1).integers(-1, 2, clips.shape)
    near = np.clip(clips + step, 0, 255).astype(np.uint8)
    texts = [p.text for p, _ in cases]
    one, other = (Verifier().score(shown, texts).scores for shown in (clips, near))
    for name in DIMENSIONS[1:]:
        changes = np.abs(one[name] - other[name])
        assert np.quantile(changes, 0.96) < 0.03, name


def test_garbage_has_bounded_scores_and_does_not_warn():
    texts = [p.text for p in (*PROMPTS, *CAMERA_PROMPTS)[::11]]
    rng = np.random.default_rng(0)
    shape = (len(texts), 8, 16, 16, 3)
    for clips in (
        np.zeros(shape, np.uint8),
        np.full(shape, 255, np.uint8),
        rng.integers(0, 256, shape, np.uint8),
    ):
        with np.errstate(all="raise", under="ignore"):
            scored = Verifier().score(clips, texts).scores
        assert scored["visual_quality"].max() < 0.3
        for values in scored.values():
            assert np.isfinite(values).all()
            assert values.min() >= 0
            assert values.max() <= 1


def test_dimensions_can_be_chosen():
    cases = _cases((*PROMPTS, *CAMERA_PROMPTS), 60)
    clips = render_batch([scene(p, seed) for p, seed in cases])
    texts = [p.text for p, _ in cases]
    everything = Verifier().score(clips, texts).scores
    assert Verifier().dimensions == DIMENSIONS
    for chosen in (("accept",), ("camera_motion", "accept")):
        some = Verifier(chosen)
        assert some.dimensions == chosen
        scored = some.score(clips, texts).scores
        assert tuple(scored) == chosen
        for name in chosen:
            np.testing.assert_array_equal(scored[name], everything[name])
    with pytest.raises(ValueError, match="did you mean camera_motion"):
        Verifier(("camera_motoin",))


@pytest.mark.parametrize("noise", [0.0, 0.06])
@pytest.mark.parametrize("furniture", ["hall", "table", "high table", "box", "wall"])
def test_the_shift_of_the_picture_is_found(furniture, noise):
    rng = np.random.default_rng(3)
    materials = [m for m in MATERIALS for _ in range(20)]
    shift = rng.uniform(-4.6, 4.6, (len(materials), 8)).astype(np.float32)
    clips = panorama(furniture, materials, shift) / np.float32(255)
    clips += noise * rng.standard_normal(clips.shape, np.float32)
    error = np.abs(measure_shift(clips, furniture, materials) - shift)
    # A high table has one upright edge and a leg, and the leg may leave the picture.
    limit = {"hall": 0.2, "high table": 2.0}.get(furniture, 0.5)
    assert np.quantile(error, 0.95) < limit
    still = panorama(furniture, materials, np.zeros_like(shift)) / np.float32(255)
    still += noise * rng.standard_normal(still.shape, np.float32)
    assert np.abs(measure_shift(still, furniture, materials)).max() < 0.3


def test_free_boxes_have_place_and_size():
    rng = np.random.default_rng(4)
    for kind, name in enumerate(SHAPES):
        extent = np.float32(EXTENT[name])
        size = extent * rng.uniform(0.7, 1.4, (100, 2)).astype(np.float32)
        x, bottom = rng.uniform(6, 10, (2, 100)).astype(np.float32) + np.float32([[0], [5]])
        box = np.concatenate([np.stack([x, bottom], 1), size], 1)
        share = coverage(box, np.full(100, kind), np.zeros(100, int))
        found = free_boxes(share[:, None, None], np.full((100, 1), kind))[:, 0, 0]
        np.testing.assert_allclose(found, box, atol=0.35)
