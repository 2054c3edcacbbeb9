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
from vidpref.rewards.verifier.motion import Paths, motion_quality, paths_of
from vidpref.typing import Array, Float, Int, UInt8

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


def _averaged(clips: Float[Array, "b t h w c"], size: int) -> Float[Array, "b t size size c"]:
    b, t, h, w, c = clips.shape
    if h == size:
        return clips
    return clips.reshape(b, t, size, h // size, size, w // size, c).mean((3, 5))


def _of_unit(clips: np.ndarray) -> np.ndarray:
    """Of [0, 1], at 16x16 or at 32x32."""
    _, t, h, w, c = clips.shape
    if clips.dtype != np.uint8:
        raise ValueError(f"clips must be uint8, not {clips.dtype}")
    if t != FRAMES or c != 3 or h != w or (h != SIZE and h % (2 * SIZE)):
        raise ValueError(
            f"clips must be [b, {FRAMES}, {SIZE}, {SIZE}, 3], or a multiple of {2 * SIZE} pixels "
            f"high and wide, not {list(clips.shape)}"
        )
    return _averaged(clips.astype(np.float32) / 255, min(h, 2 * SIZE))


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

    def score(
        self,
        clips: UInt8[Array, "b t h w c"],
        prompts: Sequence[str],
        first_frames: UInt8[Array, "b h2 w2 c"] | None = None,
    ) -> Judgement:
        """One number of [0, 1] a clip and dimension; the reason is the first rule that it breaks.

        Args:
            clips: [b, 8, 16, 16, 3] or [b, 8, 32, 32, 3]; larger multiples of 32 are averaged down.
            prompts: one sentence a clip.
            first_frames: the frame that each clip was to begin with, of its size or 16x16; None
                where the generator was given none.

        Raises:
            ValueError: a prompt is no sentence of the mini world, or clips of another size.
        """
        scores = {name: np.zeros(len(clips), np.float32) for name in self.dimensions}
        verdicts = np.zeros(len(clips), np.int64)
        for at, verdict, found, paths in _judged(clips, prompts, first_frames):
            verdicts[at] = verdict
            measured = {"accept": verdict == 0}
            if self.dimensions != ("accept",):
                measured |= scales.measure(found, *paths)
            for name, score in scores.items():
                score[at] = measured[name]
        return Judgement(scores, reasons=[RULES[i] for i in verdicts])

    def verdicts(
        self,
        clips: UInt8[Array, "b t h w c"],
        prompts: Sequence[str],
        first_frames: UInt8[Array, "b h2 w2 c"] | None = None,
    ) -> Int[Array, " b"]:
        """Index into `RULES` of the first rule that failed, 0 where none did."""
        verdicts = np.zeros(len(clips), np.int64)
        for at, verdict, _, _ in _judged(clips, prompts, first_frames):
            verdicts[at] = verdict
        return verdicts


def _judged(
    clips: np.ndarray, prompts: Sequence[str], first_frames: np.ndarray | None
) -> Iterator[tuple[list[int], np.ndarray, Fit, tuple[Paths, Paths]]]:
    """Indices, verdicts, fit and paths of clips of one action at a time."""
    if len(prompts) != len(clips):
        raise ValueError(f"{len(clips)} clips but {len(prompts)} prompts")
    meanings = [parse(text) for text in prompts]
    own = _of_unit(np.asarray(clips))
    native, given = _averaged(own, SIZE), None
    if first_frames is not None:
        given = _averaged(np.asarray(first_frames, np.float32)[:, None] / 255, SIZE)[:, 0]
    of_action: dict[str, list[int]] = {}
    for i, meaning in enumerate(meanings):
        of_action.setdefault(meaning.action, []).append(i)
    for action, members in of_action.items():
        for start in range(0, len(members), _CHUNK):
            at = members[start : start + _CHUNK]
            found = fit(action, native[at], [meanings[i] for i in at])
            paths = paths_of(found)
            evidence = rules.weigh(
                found,
                motion_quality(*paths, found),
                given=None if given is None else given[at],
                large=None if own is native else own[at],
            )
            yield at, rules.first_failure(evidence), found, paths
