"""What a generator sees of a scene: the embedded prompt and the first frame, as arrays."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from vidpref.datasets.clip_rows import IMAGE_FIELDS, Records
from vidpref.datasets.scenes import Scene
from vidpref.datasets.text import TextCache


@dataclasses.dataclass(frozen=True)
class SceneConditions:
    """The row of a batch that a scene's clips are drawn from.

    Attributes:
        texts: cached embeddings of every prompt.
        null_prompt: text of the unconditional branch of guidance, where it has one.
        clips: records that scenes are conditioned on, for a generator that takes `IMAGE_FIELDS`.
        beside: what a judge reads of a scene, for one that scores within the training step.
    """

    texts: TextCache
    null_prompt: str | None = None
    clips: Records | None = None
    beside: Callable[[Scene], Mapping[str, np.ndarray]] | None = None

    def __call__(self, scene: Scene) -> dict[str, np.ndarray]:
        """Returns the arrays of a scene by their names in a batch."""
        text, mask = self.texts[scene.text]
        found = {"text": text, "text_mask": mask}
        if self.null_prompt is not None:
            found["null_text"], found["null_text_mask"] = self.texts[self.null_prompt]
        if self.clips is not None:
            record = self.clips[scene.record]
            found |= {name: record[name] for name in IMAGE_FIELDS if name in record}
        elif scene.first_frame is not None:
            found["first_frame"] = scene.first_frame
        return found if self.beside is None else {**found, **self.beside(scene)}
