"""Clips that a person calls wrong and the judge once accepted: seeded makers of each kind."""

import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable

import numpy as np

from vidpref.datasets.miniworld import CAMERA_PROMPTS, PROMPTS, render_batch, scene
from vidpref.datasets.miniworld.actions import ACTIONS, EXTENT, FRAMES, SIZE, STEADY
from vidpref.datasets.miniworld.rendering import BACKGROUND
from vidpref.datasets.miniworld.vocabulary import COLOURS, SHAPES
from vidpref.datasets.miniworld.world import Scene, Sprite

FIRST_SEED = 11_000_000
_DARK = np.float32(BACKGROUND)
_TURNS = np.where(np.arange(FRAMES) % 2, 1, -1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Case:
    """What one clip is made of."""

    prompt: object
    seed: int
    rng: np.random.Generator

    def right(self, progress=None) -> Scene:
        return scene(self.prompt, self.seed, progress=progress)

    @property
    def timing(self) -> np.ndarray:
        return ACTIONS[self.prompt.action].timing

    def colour(self) -> np.ndarray:
        """One that no object of the prompt has."""
        taken = {colour for colour, _ in self.prompt.objects}
        others = [value for name, value in COLOURS.items() if name not in taken]
        return np.float32(others[self.rng.integers(len(others))])


@dataclasses.dataclass(frozen=True)
class Hole:
    """One kind of wrong clip.

    Attributes:
        before: per cent accepted by version 1 of the judge; nan where nobody measured.
        most: per cent that may be accepted now.
        scene: the scene of a case.
        spoil: pixels [t, h, w, 3] of [0, 1] -> pixels.
        of: which prompts can have it.
        scale: of the clips; 2 for those that are wrong at 32x32 only.
        given: the scene whose first frame the clip was to begin with; None: nothing was given.
    """

    before: float
    most: float
    scene: Callable[[Case], Scene] = Case.right
    spoil: Callable[[Case, np.ndarray], np.ndarray] | None = None
    of: Callable[[object], bool] = lambda prompt: True
    scale: int = 1
    given: Callable[[Case], Scene] | None = None


def cases(name: str, hole: Hole, count: int) -> list[Case]:
    """Prompts that can have the hole, in turn; each with a seed and random numbers of its own."""
    pool = [prompt for prompt in (*PROMPTS, *CAMERA_PROMPTS) if hole.of(prompt)]
    order = np.random.default_rng(zlib.crc32(name.encode())).permutation(len(pool))
    chosen = itertools.islice(itertools.cycle(order), count)
    return [
        Case(pool[i], FIRST_SEED + n, np.random.default_rng([zlib.crc32(name.encode()), n]))
        for n, i in enumerate(chosen)
    ]


def make(name: str, count: int) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Clips of a kind, their prompts, and the first frames that were given where there are any."""
    hole = HOLES[name]
    made = cases(name, hole, count)
    clips = render_batch([hole.scene(case) for case in made], scale=hole.scale)
    if hole.spoil is not None:
        spoiled = [
            hole.spoil(case, clip / np.float32(255)) for case, clip in zip(made, clips, strict=True)
        ]
        clips = np.rint(255 * np.clip(spoiled, 0, 1)).astype(np.uint8)
    given = None
    if hole.given is not None:
        given = render_batch([hole.given(case) for case in made])[:, 0]
    return clips, [case.prompt.text for case in made], given


def category(*names: str):
    return lambda prompt: prompt.category in names


def action(*names: str):
    return lambda prompt: prompt.action in names


def _move(scene: Scene, by: np.ndarray, only: int | None = None) -> Scene:
    """Boxes moved by [t, 4]: all sprites', or those of one."""
    sprites = (
        dataclasses.replace(sprite, box=(sprite.box + by).astype(np.float32))
        if only in (None, i)
        else sprite
        for i, sprite in enumerate(scene.sprites)
    )
    return dataclasses.replace(scene, sprites=tuple(sprites))


def _along(x=0.0, y=0.0):
    return np.outer(STEADY, (x, y, 0, 0))


def frames(*order: int):
    return lambda case, clip: clip[list(order)]


def _swapped(case: Case, clip: np.ndarray) -> np.ndarray:
    at = int(case.rng.integers(1, 5))
    order = np.arange(FRAMES)
    order[[at, at + 1]] = at + 1, at
    return clip[order]


def progress(*values: float):
    return lambda case: case.right(np.float64(values))


def up_to(most: float):
    return lambda case: case.right(np.minimum(case.timing, most))


def _goes_back(case: Case) -> Scene:
    reached = case.timing.copy()
    reached[-1] -= case.rng.uniform(0.17, 0.3)
    return case.right(reached)


def _late(case: Case) -> Scene:
    return case.right(np.concatenate([[0, 0], case.timing[:-2]]))


def shakes(by: float):
    def make(case: Case) -> Scene:
        axis = 1 if case.prompt.action == "hide_behind_wall" else 0
        shake = np.zeros((FRAMES, 4))
        shake[1:, axis] = by * _TURNS[1:]
        return _move(case.right(), shake)

    return make


def moved(x=0.0, y=0.0, only=0):
    return lambda case: _move(case.right(), _along(x, y), only)


def sized(*factor: float):
    def make(case: Case) -> Scene:
        scale = np.ones((FRAMES, 4), np.float32)
        scale[:, 2:] = np.resize(factor, FRAMES)[:, None]
        right = case.right()
        sprites = (dataclasses.replace(s, box=s.box * scale) for s in right.sprites)
        return dataclasses.replace(right, sprites=tuple(sprites))

    return make


def painted(change: Callable[[Case, Sprite], Sprite]):
    def make(case: Case) -> Scene:
        right = case.right()
        sprites = tuple(change(case, sprite) for sprite in right.sprites)
        return dataclasses.replace(right, sprites=sprites)

    return make


def faded(opacity: float):
    return painted(lambda case, s: dataclasses.replace(s, opacity=opacity * s.opacity))


def mixed(share: float):
    return painted(
        lambda case, s: dataclasses.replace(s, colour=s.colour + share * (case.colour() - s.colour))
    )


def _crossing(case: Case, colour: np.ndarray, opacity: float, size: float) -> Sprite:
    kind = int(case.rng.integers(len(SHAPES)))
    width, height = size * np.float32(EXTENT[SHAPES[kind]])
    x = np.linspace(2, 14, FRAMES)[:: case.rng.choice([-1, 1])]
    box = np.stack(np.broadcast_arrays(x, case.rng.uniform(5, 13), width, height), -1)
    return Sprite(
        box=box.astype(np.float32),
        shape=np.full(FRAMES, kind),
        colour=np.tile(np.float32(colour), (FRAMES, 1)),
        opacity=np.full(FRAMES, opacity, np.float32),
    )


def third(opacity=1.0, size=1.0):
    def make(case: Case) -> Scene:
        right = case.right()
        extra = _crossing(case, case.colour(), opacity, size)
        return dataclasses.replace(right, sprites=(extra, *right.sprites))

    return make


def _unseen_third(case: Case) -> Scene:
    """At 0.22 from the background, at a right angle to all that the unmixing looks for."""
    right = case.right()
    known = np.float32([COLOURS[colour] for colour, _ in case.prompt.objects]) - _DARK
    known = np.linalg.qr(known.T)[0]
    direction = case.rng.normal(size=3)
    direction -= known @ (known.T @ direction)
    direction *= np.sign(direction.sum()) / np.linalg.norm(direction)
    extra = _crossing(case, np.clip(_DARK + 0.22 * 255 * direction, 0, 255), 1, 1)
    return dataclasses.replace(right, sprites=(extra, *right.sprites))


def ghost(opacity: float):
    """A faint copy at rest, where it is farthest from all that moves."""

    def make(case: Case) -> Scene:
        right = case.right()
        first = right.sprites[0]
        taken = np.concatenate([sprite.box for sprite in right.sprites])
        spots = np.float32([(x, y) for x in (3.2, 8, 12.8) for y in (4, 7.5, 11)])
        middles = np.stack([taken[:, 0], taken[:, 1] - taken[:, 3] / 2], 1)
        apart = np.linalg.norm(spots[:, None] - middles, axis=-1).min(1)
        box = first.box[0].copy()
        box[:2] = spots[apart.argmax()] + (0, box[3] / 2)
        copy = dataclasses.replace(
            first,
            box=np.tile(box, (FRAMES, 1)),
            opacity=np.full(FRAMES, opacity, np.float32),
            side=0,
            behind_wall=False,
        )
        return dataclasses.replace(right, sprites=(copy, *right.sprites))

    return make


def pixels(count: int, still: bool):
    """Pixels of colours that belong to nothing, each in its place or each frame elsewhere."""

    def spoil(case: Case, clip: np.ndarray) -> np.ndarray:
        for _ in range(count):
            place = case.rng.integers(0, SIZE, (1 if still else FRAMES, 2))
            rows, columns = np.broadcast_to(place, (FRAMES, 2)).T
            clip[np.arange(FRAMES), rows, columns] = case.colour() / 255
        return clip

    return spoil


def _spot(case: Case, clip: np.ndarray) -> np.ndarray:
    """The middle pixel of the object is of another colour."""
    colour = case.colour() / 255
    for frame, (x, bottom, _, height) in enumerate(case.right().sprites[0].box):
        row, column = int(bottom - height / 2), int(x)
        if 0 <= row < SIZE and clip[frame, row, column].max() > 0.3:
            clip[frame, row, column] = colour
    return clip


_PARTS = {
    ("table", "legs"): [(12, 14, 0, 16)],
    ("table", "top"): [(11, 12, 0, 16)],
    ("high table", "legs"): [(10, 14, 0, 16)],
    ("high table", "top"): [(9, 10, 0, 16)],
    ("box", "legs"): [(9, 14, 3, 4), (9, 14, 12, 13)],
    ("box", "top"): [(13, 14, 4, 12)],
}


def loses(part: str):
    """Furniture of which a part is gone from the middle of the clip on."""

    def spoil(case: Case, clip: np.ndarray) -> np.ndarray:
        right = case.right()
        bare = render_batch([dataclasses.replace(right, furniture="none")])[0] / np.float32(255)
        for top, bottom, left, end in _PARTS[right.furniture, part]:
            where = slice(4, None), slice(top, bottom), slice(left, end)
            clip[where] = bare[where]
        return clip

    return spoil


def _furnished(*materials: str):
    return lambda prompt: (
        ACTIONS[prompt.action].furniture in ("table", "high table", "box")
        and prompt.material in materials
    )


def _direction(case: Case) -> np.ndarray:
    direction = case.rng.normal(size=3)
    return (direction / np.linalg.norm(direction)).astype(np.float32)


def tinted(by: float):
    return lambda case, clip: clip + by * _direction(case)


def _flashing(case: Case, clip: np.ndarray) -> np.ndarray:
    brown_and_navy = np.float32([1, 0, -1]) / np.sqrt(np.float32(2))
    return clip + 0.15 * _TURNS[:, None, None, None] * brown_and_navy


def noisy(by: float):
    return lambda case, clip: clip + by * case.rng.standard_normal(clip.shape)


def _screen_door(case: Case, clip: np.ndarray) -> np.ndarray:
    """All the light of 2x2 pixels in one of them, as far as it holds any."""
    t, h, w, c = clip.shape
    total = clip.reshape(t, h // 2, 2, w // 2, 2, c).sum((2, 4))
    door = np.zeros_like(clip)
    for row, column in ((0, 0), (1, 1), (0, 1), (1, 0)):
        held = np.minimum(total, 1)
        door[:, row::2, column::2] = held
        total = total - held
    return door


def _another_seed(case: Case) -> Scene:
    return scene(case.prompt, case.seed + 1)


def _one_aside(case: Case) -> Scene:
    """The first object stands one pixel to a side; furniture and other objects do not."""
    side = float(case.rng.choice([-1, 1]))
    right = case.right()
    sprites = [s for s in range(len(right.sprites)) if right.sprites[s].side]
    for only in sprites or [0]:
        right = _move(right, np.float32([side, 0, 0, 0]), only)
    return right


def chain(*spoils):
    def spoil(case: Case, clip: np.ndarray) -> np.ndarray:
        for one in spoils:
            clip = one(case, clip)
        return clip

    return spoil


_BACKWARDS = frames(0, 2, 1, 4, 3, 6, 5, 7)
_PAIR = category("MO")
HOLES = {
    "every second step backwards": Hole(100, 2, spoil=_BACKWARDS),
    "two neighbours swapped": Hole(100, 4, spoil=_swapped),
    "stutter": Hole(100, 12, spoil=frames(0, 0, 2, 2, 4, 4, 6, 6)),
    "half of the way in one step": Hole(
        100, 4, progress(*np.float64([0, 1, 2, 3, 9, 10, 11, 12]) / 12)
    ),
    "shakes by 0.7": Hole(87, 8, shakes(0.7), of=category("OR")),
    "shakes by 1.2": Hole(83, 2, shakes(1.2), of=category("OR")),
    "goes back at the end": Hole(73, 9, _goes_back),
    "frozen at 5/6": Hole(73, 43, up_to(5 / 6)),
    "stops at 80 %": Hole(60, 24, up_to(0.8)),
    "stops at 75 %": Hole(31, 4, up_to(0.75)),
    "held, then catches up": Hole(69, 2, progress(*np.float64([0, 1, 2, 2, 2, 5, 6, 6]) / 6)),
    "two frames late": Hole(55, 2, _late),
    "falls at constant speed": Hole(
        100, 2, lambda case: case.right(STEADY), of=action("drop_on_table", "drop_in_box")
    ),
    "put on, hovers by 1.2": Hole(100, 2, moved(y=-1.2), of=action("put_on")),
    "bystander drifts by 0.8": Hole(100, 6, moved(x=0.8, only=1), of=_PAIR),
    "dropped 0.9 into the table": Hole(86, 36, moved(y=0.9), of=action("drop_on_table")),
    "pushed 1.2 into the other": Hole(53, 20, moved(x=1.2), of=action("move_to")),
    "stops 1.2 short of the other": Hole(25, 2, moved(x=-1.2), of=action("move_to")),
    "one pixel of another colour": Hole(97, 6, spoil=pixels(1, still=True)),
    "one pixel of another colour, jumping": Hole(94, 2, spoil=pixels(1, still=False)),
    "four pixels of another colour": Hole(73, 2, spoil=pixels(4, still=True)),
    "third object in an unseen colour": Hole(51, 7, _unseen_third),
    "third object, opacity 0.2": Hole(74, 63, third(0.2)),
    "third object, opacity 0.3": Hole(30, 7, third(0.3)),
    "third object, 0.35 of the size": Hole(43, 14, third(size=0.35)),
    "ghost of opacity 0.15": Hole(89, 33, ghost(0.15)),
    "ghost of opacity 0.2": Hole(33, 6, ghost(0.2)),
    "ghost of opacity 0.3": Hole(4.5, 2, ghost(0.3)),
    "grey furniture loses legs or sides": Hole(75, 2, spoil=loses("legs"), of=_furnished("grey")),
    "brown furniture loses legs or sides": Hole(85, 2, spoil=loses("legs"), of=_furnished("brown")),
    "grey furniture loses its top": Hole(58, 2, spoil=loses("top"), of=_furnished("grey")),
    "brown furniture loses its top": Hole(75, 2, spoil=loses("top"), of=_furnished("brown")),
    "white furniture loses its top": Hole(0, 2, spoil=loses("top"), of=_furnished("white")),
    "tint of 0.1": Hole(96, 2, spoil=tinted(0.1)),
    "tint of 0.15": Hole(91, 2, spoil=tinted(0.15)),
    "tint of 0.18": Hole(71, 2, spoil=tinted(0.18)),
    "background flashes by 0.15": Hole(57, 2, spoil=_flashing),
    "objects 15 % larger": Hole(65, 2, sized(1.15)),
    "objects 15 % smaller": Hole(56, 2, sized(1 / 1.15)),
    "objects pulse by 15 %": Hole(50, 2, sized(1, 1.15)),
    "objects faded to 0.8": Hole(85, 2, faded(0.8)),
    "20 % of another colour": Hole(78, 57, mixed(0.2)),
    "30 % of another colour": Hole(33, 12, mixed(0.3)),
    "one pixel of the object is wrong": Hole(99, 9, spoil=_spot),
    "pixel noise of 0.08": Hole(88, 98, spoil=noisy(0.08)),
    "pixel noise of 0.1": Hole(62, 2, spoil=noisy(0.1)),
    "first frame of another seed": Hole(96, 90, given=_another_seed),
    "screen door at 32x32": Hole(100, 2, spoil=_screen_door, scale=2),
    "first frame one pixel aside": Hole(math.nan, 2, given=_one_aside),
    "several together": Hole(
        78, 2, spoil=chain(_BACKWARDS, pixels(1, still=False), tinted(0.08), noisy(0.03))
    ),
}
