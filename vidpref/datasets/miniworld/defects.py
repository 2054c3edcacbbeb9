"""Clips that do not do what their prompt says: one deliberate, plainly visible defect each."""

import dataclasses
import zlib
from collections.abc import Callable

import numpy as np

from vidpref.datasets.miniworld import world
from vidpref.datasets.miniworld.actions import (
    ACTIONS,
    DEFORMATIONS,
    EXTENT,
    FLOOR,
    FRAMES,
    GAP,
    SHIFTS,
    SIZE,
    STEADY,
)
from vidpref.datasets.miniworld.vocabulary import CAMERA_CATEGORY, COLOURS, SENTENCES, SHAPES
from vidpref.datasets.miniworld.world import Scene, Sprite, WorldPrompt

DEFECTIVE_FRACTION = 0.25

# Motions from the same first frame, and the actions they would be right for.
_RIGHT_FOR = {
    "left": ("left", "move_away"),
    "right": ("right", "move_to", "hide_behind_wall"),
    "up": ("up", "lift_off_table", "lift_out_of_box"),
    "down": ("down", "drop_on_table", "drop_in_box"),
    "squash": ("squash",),
    "stretch": ("stretch",),
    "tear": ("tear",),
}


@dataclasses.dataclass(frozen=True)
class _Case:
    prompt: WorldPrompt
    seed: int
    rng: np.random.Generator

    @property
    def right(self) -> Scene:
        return world.scene(self.prompt, self.seed)

    @property
    def leaves(self) -> bool:
        """Whether the object goes out of sight, from the fourth frame on."""
        return SENTENCES[self.prompt.action].category == "OR"

    def start(self, latest: int) -> int:
        """The first bad frame: early enough that the object is still in sight."""
        return int(self.rng.integers(1, 3 if self.leaves else latest + 1))


def _change(scene: Scene, change: Callable[[Sprite], Sprite], only: set[int] | None = None):
    sprites = [
        change(sprite) if only is None or i in only else sprite
        for i, sprite in enumerate(scene.sprites)
    ]
    return dataclasses.replace(scene, sprites=tuple(sprites))


def _one_object(case: _Case, scene: Scene) -> set[int]:
    """Indices of the sprites of one object (both halves of a torn one)."""
    if SENTENCES[case.prompt.action].pair:
        return {int(case.rng.integers(len(scene.sprites)))}
    return set(range(len(scene.sprites)))


def _since(frame: int, array: np.ndarray, value) -> np.ndarray:
    changed = array.copy()
    changed[frame:] = value
    return changed


def _static(case: _Case) -> Scene:
    return world.scene(case.prompt, case.seed, progress=np.zeros(FRAMES))


def _partial(case: _Case) -> Scene:
    reached = case.rng.uniform(0.3, 0.6)
    progress = np.minimum(ACTIONS[case.prompt.action].timing, reached)
    return world.scene(case.prompt, case.seed, progress=progress)


def _wrong_action(case: _Case) -> Scene:
    action = case.prompt.action
    motion = case.rng.choice([m for m, right in _RIGHT_FOR.items() if action not in right])
    still = _static(case)
    first, *others = still.sprites
    if action == "tear":  # two halves to begin with
        first, others = dataclasses.replace(first, side=0), []
    width, height = DEFORMATIONS.get(motion, (1, 1))
    dx, dy = SHIFTS.get(motion, (0, 0))
    box = first.box + np.outer(STEADY, (dx, dy, 0, 0)).astype(np.float32)
    box[:, 2:] *= 1 + np.outer(STEADY, (width - 1, height - 1)).astype(np.float32)
    moved = [dataclasses.replace(first, box=box)]
    if motion == "tear":
        apart = np.outer(STEADY, (GAP, 0, 0, 0)).astype(np.float32)
        moved = [dataclasses.replace(first, box=box + s * apart, side=s) for s in (-1, 1)]
    return dataclasses.replace(still, sprites=(*moved, *others))


def _vanish(case: _Case) -> Scene:
    scene, start = case.right, case.start(5)
    gone = _one_object(case, scene)
    return _change(
        scene, lambda s: dataclasses.replace(s, opacity=_since(start, s.opacity, 0)), gone
    )


def _free_spot(case: _Case, scene: Scene, size: np.ndarray) -> np.ndarray | None:
    width, height = size
    boxes = np.concatenate([sprite.box for sprite in scene.sprites])
    for _ in range(200):
        x = case.rng.uniform(width / 2, SIZE - width / 2)
        bottom = case.rng.uniform(height, FLOOR)
        apart = (np.abs(boxes[:, 0] - x) > (boxes[:, 2] + width) / 2) | (
            np.abs(boxes[:, 1] - boxes[:, 3] / 2 - bottom + height / 2) > (boxes[:, 3] + height) / 2
        )
        if apart.all():
            return np.float32([x, bottom, width, height])
    return None


def _ghost(case: _Case) -> Scene:
    """A second, perhaps faded, copy: left behind where the object began, or somewhere else."""
    scene, start = case.right, case.start(4)
    first = scene.sprites[0]
    moved = np.abs(first.box[-1, :2] - first.box[0, :2]).max() > 3
    spot = first.box[0] if moved and case.rng.random() < 0.5 else None
    if spot is None:
        spot = _free_spot(case, scene, first.box[0, 2:])
    if spot is None:
        spot = first.box[0]
    copy = dataclasses.replace(
        first,
        box=np.tile(spot, (FRAMES, 1)),
        opacity=_since(start, np.zeros(FRAMES, np.float32), case.rng.uniform(0.4, 1)),
        side=0,
        behind_wall=False,
    )
    return dataclasses.replace(scene, sprites=(copy, *scene.sprites))


def _shape(case: _Case) -> Scene:
    """Another shape from some frame on, or a faint blob of twice the area."""
    scene, start = case.right, case.start(4)
    only = _one_object(case, scene)
    pick = int(case.rng.integers(len(SHAPES)))

    def change(sprite: Sprite) -> Sprite:
        old = int(sprite.shape[0])
        blob = pick == old
        new = 0 if blob else pick
        scale = np.array(EXTENT[SHAPES[new]]) / EXTENT[SHAPES[old]] * (1.45 if blob else 1)
        box = sprite.box.copy()
        box[start:, 2:] *= scale
        if blob:  # it grows about its centre
            box[start:, 1] += (box[start:, 3] - sprite.box[start:, 3]) / 2
        return dataclasses.replace(
            sprite,
            box=box,
            shape=_since(start, sprite.shape, new),
            opacity=_since(start, sprite.opacity, 0.5 if blob else 1),
        )

    return _change(scene, change, only)


def _colour(case: _Case) -> Scene:
    scene, start = case.right, case.start(4)
    only = _one_object(case, scene)
    old = tuple(int(v) for v in scene.sprites[min(only)].colour[0])
    new = case.rng.choice([colour for colour in COLOURS.values() if colour != old])
    return _change(
        scene, lambda s: dataclasses.replace(s, colour=_since(start, s.colour, new)), only
    )


def _blur(case: _Case) -> Scene:
    width = case.rng.uniform(4, 6)
    return dataclasses.replace(
        case.right, blur=_since(case.start(3), np.zeros(FRAMES, np.float32), width)
    )


def _noise(case: _Case) -> Scene:
    return dataclasses.replace(
        case.right,
        noise=np.full(FRAMES, case.rng.uniform(0.15, 0.25), np.float32),
        noise_seed=int(case.rng.integers(2**31)),
    )


def _flicker(case: _Case) -> Scene:
    """The object fades in at least two of the frames in which it is in sight."""
    scene = case.right
    sight = np.arange(1, 3 if case.leaves else FRAMES)
    faded = case.rng.choice(sight, case.rng.integers(2, max(3, len(sight) - 2)), replace=False)
    opacity = np.ones(FRAMES, np.float32)
    opacity[faded] = case.rng.uniform(0.15, 0.5, len(faded))
    only = _one_object(case, scene)
    return _change(scene, lambda s: dataclasses.replace(s, opacity=opacity), only)


def _wrong_object(case: _Case) -> Scene:
    """The second object acts and the first one stays."""
    scene = _static(case)
    a, b = scene.sprites
    box = b.box.copy()
    if case.prompt.action == "put_on":
        box[:, 0] += STEADY * (a.box[0, 0] - b.box[0, 0])
        box[:, 1] -= STEADY * a.box[0, 3] + 10 * STEADY * (1 - STEADY)
    elif case.prompt.action == "move_to":
        box[:, 0] += STEADY * (a.box[0, 0] + (a.box[0, 2] + b.box[0, 2]) / 2 - b.box[0, 0])
    else:  # no room to the right: upwards
        box[:, 1] -= STEADY * 4
    return dataclasses.replace(scene, sprites=(a, dataclasses.replace(b, box=box)))


def _wrong_pan(case: _Case) -> Scene:
    """The camera turns the other way."""
    scene = case.right

    def mirror(sprite: Sprite) -> Sprite:
        box = sprite.box.copy()
        box[:, 0] = 2 * box[0, 0] - box[:, 0]
        return dataclasses.replace(sprite, box=box)

    return dataclasses.replace(_change(scene, mirror), pan=-scene.pan)


def _static_camera(case: _Case) -> Scene:
    """The object crosses the picture by itself."""
    return dataclasses.replace(case.right, pan=np.zeros(FRAMES, np.float32))


def _carried(case: _Case) -> Scene:
    """The background moves, the object keeps its place in the picture."""
    return dataclasses.replace(_static(case), pan=case.right.pan)


DEFECTS: dict[str, Callable[[_Case], Scene]] = {
    "wrong_action": _wrong_action,
    "static": _static,
    "partial": _partial,
    "vanish": _vanish,
    "ghost": _ghost,
    "shape": _shape,
    "colour": _colour,
    "blur": _blur,
    "noise": _noise,
    "flicker": _flicker,
    "wrong_object": _wrong_object,
    "wrong_pan": _wrong_pan,
    "static_camera": _static_camera,
    "carried": _carried,
}
CAMERA_DEFECTS = ("wrong_pan", "static_camera", "carried")


def possible(defect: str, prompt: WorldPrompt) -> bool:
    """Whether a clip of the prompt can have the defect.

    A wrong object takes two objects, a defect of the camera takes a pan.
    """
    if defect in CAMERA_DEFECTS:
        return prompt.category == CAMERA_CATEGORY
    return defect != "wrong_object" or SENTENCES[prompt.action].pair


def defective_scene(prompt: WorldPrompt, seed: int, defect: str) -> Scene:
    """The scene of `world.scene(prompt, seed)` gone wrong in one way.

    Raises:
        ValueError: no such defect, or one the prompt cannot have.
    """
    if defect not in DEFECTS:
        raise ValueError(f"no defect {defect!r}; there are {', '.join(DEFECTS)}")
    if not possible(defect, prompt):
        needed = "a pan" if defect in CAMERA_DEFECTS else "two objects"
        raise ValueError(f"{defect!r} takes {needed}, but the prompt is {prompt.text!r}")
    rng = np.random.default_rng([zlib.crc32(f"{prompt.id}/{defect}".encode()), seed])
    return DEFECTS[defect](_Case(prompt, seed, rng))


@dataclasses.dataclass(frozen=True)
class Example:
    """A clip to pre-train on; `defect` is "" for a true one."""

    prompt: WorldPrompt
    seed: int
    defect: str

    def scene(self) -> Scene:
        if self.defect:
            return defective_scene(self.prompt, self.seed, self.defect)
        return world.scene(self.prompt, self.seed)


def pretraining_examples(count: int, seed: int = 0, *, camera: bool = False) -> list[Example]:
    """Clips of train and validation prompts, every action as often, a quarter of them defective.

    With `camera` the two pans are among the actions.
    Defects make the pre-trained generator good but flawed, so that there is something to align.
    """
    rng = np.random.default_rng([zlib.crc32(b"pretraining"), seed])
    pool: dict[str, list[WorldPrompt]] = {}
    for split in ("train", "validation"):
        for prompt in world.prompts(split, camera=camera):
            pool.setdefault(prompt.action, []).append(prompt)
    actions = list(pool)
    examples = []
    for i in range(count):
        of_action = pool[actions[i % len(actions)]]
        prompt = of_action[rng.integers(len(of_action))]
        defect = ""
        if rng.random() < DEFECTIVE_FRACTION:
            defect = str(rng.choice([name for name in DEFECTS if possible(name, prompt)]))
        examples.append(Example(prompt, int(rng.integers(2**31)), defect))
    return [examples[i] for i in rng.permutation(count)]
