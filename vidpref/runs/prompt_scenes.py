"""Scenes of one's own prompts: each prompt with the first frame that its clips start from."""

import dataclasses
import difflib
import re
from collections.abc import Sequence

import numpy as np

from vidpref.config.nearest import nearest
from vidpref.datasets.scenes import Data, Scene
from vidpref.datasets.video import decode_clip
from vidpref.storage.copies import here
from vidpref.typing import UInt8


def own_scenes(
    prompts: Sequence[str], image: UInt8[np.ndarray, "h w 3"] | None = None
) -> list[Scene]:
    """Returns a scene of each prompt.

    Args:
        prompts: texts of the scenes.
        image: first frame of all of them; None for clips that are drawn from the text alone.
    """
    return [Scene(f"prompt-{i}", text, "", "test", image) for i, text in enumerate(prompts)]


def first_frame(path: str, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns an image, or the first frame of a video, scaled and cropped to a size.

    Raises:
        ClipError: it cannot be read.
    """
    return decode_clip(here(path), frames=1, height=height, width=width)[0]


def borrow_first_frames(prompts: Sequence[str], scenes: Sequence[Scene]) -> list[Scene]:
    """Returns a scene of each prompt, which starts from the first frame of a scene of a data set.

    Args:
        prompts: texts of the scenes.
        scenes: for each prompt the scene whose first frame it takes.
    """
    return [
        dataclasses.replace(own, first_frame=scene.first_frame, record=scene.record)
        for own, scene in zip(own_scenes(prompts), scenes, strict=True)
    ]


def nearest_scene(data: Data, prompt: str) -> Scene:
    """Returns the held-out scene with the prompt that is most like `prompt`.

    That is the one that shares most words with it (of those in either), then most of its letters in
    their order, then the first. Of data without held-out scenes it is any scene.
    """
    scenes = data.scenes("test") if data.has("test") else data.all_scenes
    texts = list(dict.fromkeys(scene.text for scene in scenes))
    shared = [_shared_words(prompt, text) for text in texts]
    alike = [text for text, share in zip(texts, shared, strict=True) if share == max(shared)]
    best = max(alike, key=lambda text: difflib.SequenceMatcher(None, prompt, text).ratio())
    return next(scene for scene in scenes if scene.text == best)


def scene_by_id(data: Data, scene_id: str) -> Scene:
    """Returns a scene of any split.

    Raises:
        ValueError: there is none of this id; the message names the nearest.
    """
    for scene in data.all_scenes:
        if scene.id == scene_id:
            return scene
    hint = nearest(scene_id, [scene.id for scene in data.all_scenes])
    raise ValueError(f"the run's data has no scene {scene_id!r}; {hint}")


def _shared_words(first: str, second: str) -> float:
    a, b = (set(re.findall(r"\w+", text.lower())) for text in (first, second))
    return len(a & b) / max(len(a | b), 1)
