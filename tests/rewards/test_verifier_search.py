"""Searches for wrong clips that the judge accepts; the worst go into a picture.

`VIDPREF_PICTURES` names the folder of the pictures; without it they go where pytest puts files.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.rewards.verifier_holes import HOLES, Case, cases
from vidpref.datasets.miniworld import CAMERA_PROMPTS, PROMPTS, defective_scene, render_batch
from vidpref.datasets.miniworld.vocabulary import parse
from vidpref.rewards.verifier import Verifier, rules
from vidpref.rewards.verifier.fitting import fit
from vidpref.rewards.verifier.motion import motion_quality, paths_of

JUDGE = Verifier(("accept", "visual_quality", "motion_quality"))
DEFECTS = ("static", "partial", "ghost", "shape", "colour", "vanish")
_BUDGET = 0.08  # root mean square of a search's change to a clip, of [0, 1]


def _bytes(clips):
    return np.rint(255 * np.clip(clips, 0, 1)).astype(np.uint8)


def _worst_rule(clips, prompt):
    """How far the worst rule is over its limit, a clip; at most 1 is accepted."""
    found = fit(prompt.action, _bytes(clips) / np.float32(255), [parse(prompt.text)] * len(clips))
    evidence = rules.weigh(found, motion_quality(*paths_of(found), found))
    values = np.stack([*vars(evidence).values()], 1)
    return np.maximum(values, 0.9).max(1) + 0.01 * np.clip(values, 0.9, 20).sum(1)


def _picture(folder, name, clips, lines):
    """A row a clip, frame by frame, four times as large."""
    folder = Path(os.environ.get("VIDPREF_PICTURES") or folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [np.pad(np.concatenate(clip, 1), ((0, 1), (0, 0), (0, 0))) for clip in clips]
    sheet = Image.fromarray(np.concatenate(rows))
    sheet.resize((4 * sheet.width, 4 * sheet.height), Image.Resampling.NEAREST).save(
        folder / f"{name}.png"
    )
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def _searched(prompt, start, rng, *, steps=60, tries=16):
    """An evolution search: changes that lower the worst rule are kept, within the budget."""
    best, score = start.copy(), np.inf
    for step in range(steps):
        size = (tries, 8, *rng.choice([(2, 2), (4, 4), (16, 16)]), 3)
        change = rng.standard_normal(size, np.float32)
        if rng.random() < 0.5:
            change[:] = change[:, :1]  # the same in all frames
        change = change.repeat(16 // size[2], 2).repeat(16 // size[3], 3)
        moved = best + rng.uniform(0.01, 0.06, (tries, 1, 1, 1, 1)).astype(np.float32) * change
        away = moved - start
        norm = np.sqrt((away**2).mean((1, 2, 3, 4), keepdims=True))
        moved = np.clip(start + away * np.minimum(1, _BUDGET / norm), 0, 1)
        scores = _worst_rule(moved, prompt)
        if scores.min() < score:
            best, score = moved[scores.argmin()], scores.min()
        if step == 0:
            first = score
    return best, first, score


@pytest.mark.slow
def test_searched_pixels_do_not_make_wrong_clips_right(tmp_path):
    rng = np.random.default_rng(17)
    pool = (*PROMPTS, *CAMERA_PROMPTS)
    clips, texts, lines, gains = [], [], [], []
    for n in range(24):
        prompt, defect = pool[rng.integers(len(pool))], DEFECTS[n % len(DEFECTS)]
        wrong = render_batch([defective_scene(prompt, 41_000_000 + n, defect)])[0]
        found, first, last = _searched(prompt, wrong / np.float32(255), rng)
        clips.append(_bytes(found))
        texts.append(prompt.text)
        lines.append(f"{defect}: {prompt.text}: worst rule {first:.2f} -> {last:.2f}")
        gains.append(first - last)
    accepted = JUDGE.score(np.stack(clips), texts).scores["accept"]
    order = np.lexsort([-accepted])
    _picture(tmp_path, "searched", [clips[i] for i in order[:12]], [lines[i] for i in order[:12]])
    print("\n".join(lines), f"\naccepted after a search: {accepted.sum():.0f} of {len(clips)}")
    assert np.mean(gains) > 0  # the search does find better ones
    assert accepted.mean() <= 0.1


def _mixture(rng, number):
    """A clip of two or three kinds at once: the scene of one, the spoiled pixels of the others."""
    names = [name for name, hole in HOLES.items() if hole.scale == 1 and hole.given is None]
    scened = [n for n in names if HOLES[n].spoil is None]
    spoiled = [n for n in names if HOLES[n].spoil is not None]
    chosen = [scened[rng.integers(len(scened))]]
    hole = HOLES[chosen[0]]
    base = cases(chosen[0], hole, number + 1)[-1]
    case = Case(base.prompt, base.seed, rng)
    possible = [n for n in spoiled if HOLES[n].of(case.prompt)]
    chosen += list(rng.choice(possible, rng.integers(1, 3), replace=False))
    clip = render_batch([hole.scene(case)])[0] / np.float32(255)
    for name in chosen[1:]:
        clip = HOLES[name].spoil(case, clip)
    return _bytes(clip), case.prompt.text, " + ".join(chosen)


@pytest.mark.slow
def test_recombined_defects_are_refused(tmp_path):
    rng = np.random.default_rng(18)
    made = [_mixture(rng, number) for number in range(600)]
    clips, texts = np.stack([clip for clip, _, _ in made]), [text for _, text, _ in made]
    scores = JUDGE.score(clips, texts).scores
    accepted = np.flatnonzero(scores["accept"])
    worst = accepted[scores["visual_quality"][accepted].argsort()][:16]
    lines = [f"{made[i][2]}: {texts[i]}: {scores['visual_quality'][i]:.2f}" for i in worst]
    _picture(tmp_path, "recombined", clips[worst], lines)
    print("\n".join(lines), f"\naccepted of recombined defects: {len(accepted)} of {len(clips)}")
    assert len(accepted) / len(clips) <= 0.08
