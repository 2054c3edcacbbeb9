"""Rows without clips: scenes, which the policy draws for before the step that learns from them."""

from collections.abc import Sequence

import numpy as np

from vidpref.datasets.scenes import Scene
from vidpref.generation.scene_conditions import SceneConditions


class SceneRows:
    """A grain source whose row is what a generator sees of a scene, and the scene's number.

    Args:
        scenes: the scenes, in a fixed order.
        seen: what the generator sees of them.
    """

    shapes = None  # all rows have one shape

    def __init__(self, scenes: Sequence[Scene], seen: SceneConditions):
        self.scenes, self._seen = tuple(scenes), seen

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self._seen(self.scenes[index]) | {"scene": np.int32(index)}
