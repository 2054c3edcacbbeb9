"""Which first frame a prompt of one's own gets."""

import numpy as np
import pytest

from vidpref.datasets.scenes import Data, Scene
from vidpref.runs.prompt_scenes import (
    borrow_first_frames,
    nearest_scene,
    own_scenes,
    scene_by_id,
)


def scene(id_, text, split="test", record=None):
    frame = None if record is not None else np.full((2, 2, 3), len(id_), np.uint8)
    return Scene(id_, text, "OR", split, frame, record)


def data(*scenes):
    return Data([], tuple(scenes), tuple(s.text for s in scenes))


WORLD = data(
    scene("train-1", "a red ball rolls to the left", "train"),
    scene("test-1", "a blue cube rises"),
    scene("test-2", "a red ball falls"),
    scene("test-3", "a red ball falls"),
    scene("test-4", "the falls"),
)


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a blue cube rises", "test-1"),
        ("A RED ball, rolls to the left!", "test-2"),  # that of the train scene is not held out
        ("falls", "test-4"),  # half of its words against a quarter
        ("", "test-1"),  # nothing in common with any
    ],
)
def test_the_held_out_scene_with_the_most_words_in_common(prompt, wanted):
    assert nearest_scene(WORLD, prompt).id == wanted


def test_of_equal_words_letters_decide_and_then_the_order():
    texts = ["cubes fall", "balls roll", "balls rolls"]
    world = data(*(scene(f"test-{i}", text) for i, text in enumerate(texts)))
    assert nearest_scene(world, "ball rolls").id == "test-2"  # shares a word
    assert nearest_scene(world, "ball roll").id == "test-1"
    assert nearest_scene(world, "ball rol").id == "test-1"  # no word in common, most letters


def test_data_without_held_out_scenes_gives_any():
    assert nearest_scene(data(WORLD.all_scenes[0]), "a green cone").id == "train-1"


def test_a_scene_is_found_by_its_id_in_every_split():
    assert scene_by_id(WORLD, "train-1").split == "train"
    with pytest.raises(ValueError, match=r"no scene 'test1'; did you mean test-1"):
        scene_by_id(WORLD, "test1")


def test_a_borrowed_first_frame_changes_no_noise_and_no_prompt():
    """The noise of a clip depends on its scene's id."""
    own = own_scenes(["one", "two"])
    latents = scene("test-5", "three", record=7)
    borrowed = borrow_first_frames(["one", "two"], [WORLD.all_scenes[2], latents])
    assert [s.id for s in borrowed] == [s.id for s in own] == ["prompt-0", "prompt-1"]
    assert [s.text for s in borrowed] == ["one", "two"]
    assert (borrowed[0].first_frame == WORLD.all_scenes[2].first_frame).all()
    assert (borrowed[1].first_frame, borrowed[1].record) == (None, 7)
    image = np.zeros((2, 2, 3), np.uint8)
    assert all(s.first_frame is image for s in own_scenes(["one", "two"], image))
