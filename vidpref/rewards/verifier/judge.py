"""The judge: fit the pieces, draw what was fitted, and score path and pixels."""

from collections.abc import Iterator, Sequence

import numpy as np

from vidpref.config.nearest import nearest
from vidpref.datasets.miniworld.actions import FRAMES, SIZE
from vidpref.datasets.miniworld.vocabulary import parse
from vidpref.rewards.reward import Judgement
from vidpref.rewards.verifier import dimensions as scales
from vidpref.rewards.verifier import rules
from vidpref.rewards.verifier.fitting import Fit, fit
from vidpref.typing import Array, Int, UInt8

_CHUNK = 64  # clips judged at once: the working set stays in the cache

RULES = rules.RULES
DIMENSIONS = (
    "accept",
    "visual_quality",
    "motion_quality",
    "object_motion",
    "camera_motion",
    "text_alignment",
)


def _to_native(clips: np.ndarray) -> np.ndarray:
    b, t, h, w, c = clips.shape
    if clips.dtype != np.uint8:
        raise ValueError(f"clips must be uint8, not {clips.dtype}")
    if t != FRAMES or c != 3 or h != w or h % SIZE:
        raise ValueError(
            f"clips must be [b, {FRAMES}, {SIZE}, {SIZE}, 3] or a multiple of that size, "
            f"not {list(clips.shape)}"
        )
    scaled = clips.astype(np.float32) / 255
    if h == SIZE:
        return scaled
    return scaled.reshape(b, t, SIZE, h // SIZE, SIZE, w // SIZE, c).mean((3, 5))


def _fits(
    clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]
) -> Iterator[tuple[list[int], Fit]]:
    """Indices and fit of clips of one action at a time."""
    if len(prompts) != len(clips):
        raise ValueError(f"{len(clips)} clips but {len(prompts)} prompts")
    meanings = [parse(text) for text in prompts]
    native = _to_native(np.asarray(clips))
    of_action: dict[str, list[int]] = {}
    for i, meaning in enumerate(meanings):
        of_action.setdefault(meaning.action, []).append(i)
    for action, members in of_action.items():
        for start in range(0, len(members), _CHUNK):
            at = members[start : start + _CHUNK]
            yield at, fit(action, native[at], [meanings[i] for i in at])


class Verifier:
    """Judges clips of the mini world from pixels and prompt alone.

    "accept" is 0 or 1, whether a clip does what its prompt says: all `RULES` hold. The others are
    graded, of [0, 1]; `verifier.dimensions` has their formulas:

    - "visual_quality": how much of every frame the objects and the furniture explain.
    - "motion_quality": how smooth all paths are, 1 for a clip without motion.
    - "object_motion": how far objects move in the world, of what the prompt's action takes.
    - "camera_motion": how far the picture moves as a whole, of what a pan takes.
    - "text_alignment": how much of the prompt's action is done, less what else moves.

    Args:
        dimensions: what `score` returns. "accept" alone takes the least time.

    Raises:
        ValueError: no such dimension.
    """

    def __init__(self, dimensions: Sequence[str] = DIMENSIONS):
        for name in dimensions:
            if name not in DIMENSIONS:
                raise ValueError(f"no dimension {name!r}; {nearest(name, DIMENSIONS)}")
        self.dimensions = tuple(dimensions)

    def score(self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]) -> Judgement:
        """One number of [0, 1] a clip and dimension; the reason is the first rule that it breaks.

        Args:
            clips: [b, 8, 16, 16, 3], or larger by a whole factor (averaged down).
            prompts: one sentence a clip.

        Raises:
            ValueError: a prompt is no sentence of the mini world, or clips of another size.
        """
        scores = {name: np.zeros(len(clips), np.float32) for name in self.dimensions}
        verdicts = np.zeros(len(clips), np.int64)
        for at, found in _fits(clips, prompts):
            verdicts[at] = rules.first_failure(rules.weigh(found))
            measured = {"accept": verdicts[at] == 0}
            if self.dimensions != ("accept",):
                measured |= scales.measure(found)
            for name, score in scores.items():
                score[at] = measured[name]
        return Judgement(scores, reasons=[RULES[i] for i in verdicts])

    def verdicts(
        self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]
    ) -> Int[Array, " b"]:
        """Index into `RULES` of the first rule that failed, 0 where none did."""
        verdicts = np.zeros(len(clips), np.int64)
        for at, found in _fits(clips, prompts):
            verdicts[at] = rules.first_failure(rules.weigh(found))
        return verdicts
