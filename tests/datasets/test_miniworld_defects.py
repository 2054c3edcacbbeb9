"""The deliberate defects and the mix that pre-training sees."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from vidpref.datasets.miniworld import (
    CAMERA_PROMPTS,
    DEFECTS,
    PROMPTS,
    defective_scene,
    prompts,
    render,
    render_batch,
    scene,
)
from vidpref.datasets.miniworld.actions import ACTIONS
from vidpref.datasets.miniworld.defects import CAMERA_DEFECTS, possible, pretraining_examples
from vidpref.datasets.prompts import CATEGORIES


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_a_defect_is_plain_to_see_but_not_in_the_first_frame(defect):
    base, camera = ([p for p in pool if possible(defect, p)] for pool in (PROMPTS, CAMERA_PROMPTS))
    for prompt in (*base[::37], *camera[::17]):
        right, wrong = render(scene(prompt, 9)), render(defective_scene(prompt, 9, defect))
        difference = np.abs(right.astype(int) - wrong).max(-1)
        # Some pixels change by a fifth of the range at least.
        assert (difference[1:] > 50).sum() >= 4, (prompt.text, defect)
        if defect not in ("noise", "wrong_action"):  # a wrong tear shows a faint seam
            assert difference[0].max() == 0, (prompt.text, defect)


def test_defects_are_repeatable():
    prompt = prompts("train")[0]
    one, other = (render(defective_scene(prompt, 5, "ghost")) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_a_wrong_object_takes_two():
    single = next(p for p in PROMPTS if len(p.objects) == 1)
    with pytest.raises(ValueError, match="two objects"):
        defective_scene(single, 0, "wrong_object")
    with pytest.raises(ValueError, match="a pan"):
        defective_scene(single, 0, "carried")
    with pytest.raises(ValueError, match="vanish"):
        defective_scene(single, 0, "explode")


def test_the_pretraining_mix():
    examples = pretraining_examples(4000)
    assert examples == pretraining_examples(4000)
    assert {e.prompt.split for e in examples} == {"train", "validation"}
    defects = Counter(e.defect for e in examples)
    assert set(defects) == {"", *DEFECTS} - set(CAMERA_DEFECTS)
    assert 1 - defects[""] / len(examples) == pytest.approx(0.25, abs=0.03)
    actions = Counter(e.prompt.action for e in examples)
    assert set(actions.values()) == {len(examples) // 16}
    # Not sorted by action: any part of the set has every category.
    assert {e.prompt.category for e in examples[:60]} == set(CATEGORIES)


def test_the_pretraining_mix_does_not_change_between_releases():
    lines = "\n".join(f"{e.prompt.id}|{e.seed}|{e.defect}" for e in pretraining_examples(12_000))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == "c6c3c371ecac0541"
    coarse = render_batch([e.scene() for e in pretraining_examples(600)]) >> 3
    assert hashlib.sha256(coarse.tobytes()).hexdigest()[:16] == "2901d8b64d9c327c"


def test_the_pretraining_mix_with_a_moving_camera():
    examples = pretraining_examples(3600, camera=True)
    actions = Counter(e.prompt.action for e in examples)
    assert actions == dict.fromkeys(ACTIONS, 200)
    assert {e.defect for e in examples} == {"", *DEFECTS}
    assert {e.prompt.split for e in examples} == {"train", "validation"}
