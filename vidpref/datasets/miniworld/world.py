"""Prompts of the mini world, their splits, and the scene of a prompt and a seed."""

import dataclasses
import functools
import itertools
import zlib

import numpy as np

from vidpref.datasets.miniworld.actions import ACTIONS, FRAMES, JITTER, pan, tracks
from vidpref.datasets.miniworld.vocabulary import (
    COLOURS,
    MATERIALS,
    SENTENCES,
    SHAPES,
    Meaning,
)
from vidpref.datasets.prompts import CATEGORIES, SPLITS
from vidpref.typing import Array, Float, Int

_PAIRS = 114  # of the 270 ordered pairs in two colours, so that MO is a third of all prompts
# Per action: held-out (colour, shape) of the 18, or held-out pairs. No material of a held-out
# combination is in another split.
_SINGLES_IN = {"test": 4, "validation": 2}
_PAIRS_IN = {"test": 19, "validation": 8}


@dataclasses.dataclass(frozen=True)
class WorldPrompt:
    """A sentence and what it means; `category` and `split` as in the record of the data set."""

    id: str
    text: str
    category: str
    split: str
    meaning: Meaning

    @property
    def action(self) -> str:
        return self.meaning.action

    @property
    def objects(self) -> tuple[tuple[str, str], ...]:
        return self.meaning.objects

    @property
    def material(self) -> str:
        return self.meaning.material


@dataclasses.dataclass(frozen=True)
class Sprite:
    """One piece to draw.

    Attributes:
        box: [t, 4] centre x, bottom y, width, height in pixels of the 16x16 picture.
        shape: [t] index into `SHAPES`.
        colour: [t, 3] of 255.
        opacity: [t] in [0, 1].
        side: -1 or 1 for half a shape, 0 for the whole.
        behind_wall: hidden by the wall where there is one.
    """

    box: Float[Array, "t 4"]
    shape: Int[Array, " t"]
    colour: Float[Array, "t 3"]
    opacity: Float[Array, " t"]
    side: int = 0
    behind_wall: bool = False


@dataclasses.dataclass(frozen=True)
class Scene:
    """All that a clip shows; rendering adds no randomness of its own.

    Attributes:
        furniture: a key of `rendering.FURNITURE`.
        material: material of the furniture, "" where the prompt names none.
        sprites: drawn in this order.
        blur: [t] width of a box filter in pixels, 0 for none.
        noise: [t] standard deviation of pixel noise in [0, 1], drawn from `noise_seed`.
        pan: [t] pixels that the furniture has moved to the right; sprites stand where they are.
    """

    furniture: str
    material: str
    sprites: tuple[Sprite, ...]
    blur: Float[Array, " t"] | None = None
    noise: Float[Array, " t"] | None = None
    noise_seed: int = 0
    pan: Float[Array, " t"] | None = None


def _order(key: str, n: int) -> list[int]:
    return np.random.default_rng(zlib.crc32(key.encode())).permutation(n).tolist()


def _split_of_rank(rank: int, counts: dict[str, int]) -> str:
    for split, count in counts.items():
        if rank < count:
            return split
        rank -= count
    return "train"


def _singles(action: str) -> list[tuple[Meaning, str]]:
    # Ranked along a shifted diagonal, the first six have six different colours and every shape
    # twice: no colour or shape of an action is held out as a whole.
    colours = [list(COLOURS)[i] for i in _order(action + "/colours", len(COLOURS))]
    shapes = [SHAPES[i] for i in _order(action + "/shapes", len(SHAPES))]
    found = []
    for lap, (rank, colour) in itertools.product(range(len(shapes)), enumerate(colours)):
        split = _split_of_rank(lap * len(colours) + rank, _SINGLES_IN)
        shape = shapes[(rank + lap) % len(shapes)]
        found += [(Meaning(action, ((colour, shape),), material), split) for material in MATERIALS]
    return found


def _pairs(action: str) -> list[tuple[Meaning, str]]:
    things = list(itertools.product(COLOURS, SHAPES))
    pairs = [(a, b) for a, b in itertools.product(things, things) if a[0] != b[0]]
    chosen = [pairs[i] for i in _order(action + "/pairs", len(pairs))[:_PAIRS]]
    return [
        (Meaning(action, pair), _split_of_rank(rank, _PAIRS_IN)) for rank, pair in enumerate(chosen)
    ]


def _all_prompts() -> tuple[WorldPrompt, ...]:
    found = []
    for action, sentence in SENTENCES.items():
        for meaning, split in _pairs(action) if sentence.pair else _singles(action):
            words = [action, *itertools.chain(*meaning.objects), meaning.material]
            name = "-".join(word for word in words if word)
            found.append(WorldPrompt(name, meaning.text, sentence.category, split, meaning))
    return tuple(found)


_ALL = _all_prompts()
PROMPTS = tuple(prompt for prompt in _ALL if prompt.category in CATEGORIES)
CAMERA_PROMPTS = tuple(prompt for prompt in _ALL if prompt.category not in CATEGORIES)


@functools.cache
def prompts(split: str, *, camera: bool = False) -> tuple[WorldPrompt, ...]:
    """The prompts of "train", "validation" or "test", in a fixed order.

    Args:
        split: one of `SPLITS`.
        camera: whether prompts for the camera follow those of AIF's categories.

    Raises:
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r} of the mini world; there are {', '.join(SPLITS)}")
    world = (*PROMPTS, *CAMERA_PROMPTS) if camera else PROMPTS
    return tuple(prompt for prompt in world if prompt.split == split)


def scene_rng(prompt: WorldPrompt, seed: int) -> np.random.Generator:
    """The random numbers of a prompt and a seed, the same on every machine."""
    return np.random.default_rng([zlib.crc32(prompt.id.encode()), seed])


def scene(prompt: WorldPrompt, seed: int, *, progress: Float[Array, " t"] | None = None) -> Scene:
    """The scene of a prompt: what it says, done right.

    Args:
        prompt: one of `PROMPTS` or `CAMERA_PROMPTS`, or one with a meaning of its own.
        seed: non-negative; prompt and seed decide every jitter.
        progress: [t] how far the action is in every frame; the action's own timing if None.
    """
    jitter = scene_rng(prompt, seed).uniform(-1, 1, JITTER)
    action = ACTIONS[prompt.action]
    shapes = tuple(shape for _, shape in prompt.objects)
    sprites = []
    for track in tracks(prompt.action, shapes, jitter, progress):
        colour, shape = prompt.objects[track.owner]
        sprites.append(
            Sprite(
                box=track.box,
                shape=np.full(FRAMES, SHAPES.index(shape)),
                colour=np.tile(np.float32(COLOURS[colour]), (FRAMES, 1)),
                opacity=np.ones(FRAMES, np.float32),
                side=track.side,
                behind_wall=action.behind_wall,
            )
        )
    moved = pan(prompt.action, jitter, progress)
    return Scene(action.furniture, prompt.material, tuple(sprites), pan=moved)
