"""The verdict: fit the pieces, draw what was fitted, and compare path and pixels."""

from collections.abc import Sequence

import numpy as np

from vidpref.datasets.miniworld.actions import ACTIONS, FRAMES, SIZE
from vidpref.datasets.miniworld.rendering import BACKGROUND, backdrop, coverage, wall_mask
from vidpref.datasets.miniworld.vocabulary import COLOURS, SHAPES, Meaning, parse
from vidpref.rewards.verifier import rules
from vidpref.rewards.verifier.tracking import Tracked, track
from vidpref.rewards.verifier.unmixing import ignore_soft_furniture, unmix
from vidpref.typing import Array, Float, Int, UInt8

_CHUNK = 64  # clips judged at once: the working set stays in the cache

RULES = rules.RULES


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


def _stages(meanings: Sequence[Meaning]) -> np.ndarray:
    furniture = ACTIONS[meanings[0].action].furniture
    return np.stack([backdrop(furniture, m.material) for m in meanings]) / np.float32(255)


def _draw(stage: np.ndarray, tracked: Tracked, colours: np.ndarray, behind_wall: bool):
    """What the clip would be if the fitted pieces were all of it."""
    n, pieces, frames, _ = tracked.box.shape
    shape = np.broadcast_to(tracked.shape[:, :, None], (n, pieces, frames))
    side = np.broadcast_to(tracked.side[None, :, None], (n, pieces, frames))
    cover = coverage(tracked.box.reshape(-1, 4), shape.ravel(), side.ravel(), rows=2)
    cover = cover.reshape(n, pieces, frames, SIZE, SIZE)
    if behind_wall:
        cover *= 1 - wall_mask()
    picture = np.repeat(stage[:, None], frames, 1)
    for piece in range(pieces):
        owner = min(piece, colours.shape[1] - 1)
        colour = colours[:, owner, None, None, None]
        picture += cover[:, piece, ..., None] * (colour - picture)
    return picture


def _judge(action: str, clips: np.ndarray, meanings: Sequence[Meaning]) -> rules.Evidence:
    spec = ACTIONS[action]
    stage = _stages(meanings)
    colours = np.float32([[COLOURS[c] for c, _ in m.objects] for m in meanings]) / 255
    shape = np.array([[SHAPES.index(s) for _, s in m.objects] for m in meanings])
    share = unmix(
        *ignore_soft_furniture(
            clips - stage[:, None],
            colours[:, :, None, None] - stage[:, None],
            spec.furniture,
            [m.material for m in meanings],
        )
    )
    if spec.behind_wall:
        share *= wall_mask() < 1
    tracked = track(action, share, shape)
    expected = _draw(stage, tracked, colours, spec.behind_wall)
    contrast = np.linalg.norm(colours - np.float32(BACKGROUND) / 255, axis=-1).min(1)
    return rules.weigh(action, shape, share, tracked, clips - expected, contrast)


class Verifier:
    """Whether a clip of the mini world does what its prompt says, from pixels and text alone."""

    dimensions = ("accept",)

    def score(
        self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]
    ) -> dict[str, Float[Array, " b"]]:
        """1 for every clip that passes all rules, 0 for the others.

        Args:
            clips: [b, 8, 16, 16, 3], or larger by a whole factor (averaged down).
            prompts: one sentence a clip.

        Raises:
            ValueError: a prompt is no sentence of the mini world, or clips of another size.
        """
        return {"accept": (self.verdicts(clips, prompts) == 0).astype(np.float32)}

    def verdicts(
        self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]
    ) -> Int[Array, " b"]:
        """Index into `RULES` of the first rule that failed, 0 where none did."""
        if len(prompts) != len(clips):
            raise ValueError(f"{len(clips)} clips but {len(prompts)} prompts")
        meanings = [parse(text) for text in prompts]
        native = _to_native(np.asarray(clips))
        verdicts = np.zeros(len(clips), np.int64)
        of_action: dict[str, list[int]] = {}
        for i, meaning in enumerate(meanings):
            of_action.setdefault(meaning.action, []).append(i)
        for action, members in of_action.items():
            for start in range(0, len(members), _CHUNK):
                at = members[start : start + _CHUNK]
                evidence = _judge(action, native[at], [meanings[i] for i in at])
                verdicts[at] = rules.first_failure(evidence)
        return verdicts

    def explain(self, clip: UInt8[Array, "t h w c"], prompt: str) -> str:
        """The first rule that the clip breaks, or "accepted"."""
        return RULES[int(self.verdicts(np.asarray(clip)[None], [prompt])[0])]
