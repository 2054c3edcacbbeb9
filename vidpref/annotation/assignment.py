"""What each annotator is shown, in which order, and on which side.

All of it follows from the task's seed and the annotator's name, so that a server that was killed
goes on where it was, and two annotators see different orders and sides.

After every few items comes an attention check, of two kinds in turn. A twin is one clip on both
sides: people who look call it a tie. A repeat is a pair of before with its sides swapped (of single
clips, a clip of before): people who judge what they see say the same again. Checks are no records.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from vidpref.annotation.task import Item, Task
from vidpref.seeds import fold_seed

Check = Literal["", "twin", "repeat"]


@dataclasses.dataclass(frozen=True)
class Showing:
    """An item as one annotator sees it.

    Attributes:
        key: its name in this annotator's order.
        item: what is asked.
        clips: the clips from left to right; of a twin one clip twice.
        check: kind of the attention check; "" where it is none.
    """

    key: str
    item: Item
    clips: tuple[str, ...]
    check: Check = ""


def showings(task: Task, annotator: str) -> tuple[Showing, ...]:
    """Returns everything that an annotator may be shown, in order.

    New items of a task that grows come between the others, which keep their sides.
    """
    order = sorted(task.items, key=lambda item: fold_seed(task.seed, "order", annotator, item.id))
    shown = [_showing(task, annotator, item) for item in order]
    every = round(1 / task.checks) if task.checks else 0
    found: list[Showing] = []
    for number, showing in enumerate(shown, start=1):
        found.append(showing)
        if every and number % every == 0:
            found.append(_check(shown[number - every], twin=_is_twin(task, number // every)))
    return tuple(found)


def _showing(task: Task, annotator: str, item: Item) -> Showing:
    swapped = fold_seed(task.seed, "side", annotator, item.id) % 2
    return Showing(item.id, item, item.clips[::-1] if swapped else item.clips)


def _is_twin(task: Task, number: int) -> bool:
    return task.kind == "compare" and number % 2 == 1


def _check(of: Showing, *, twin: bool) -> Showing:
    if twin:
        return Showing(f"twin-{of.item.id}", of.item, (of.clips[0], of.clips[0]), "twin")
    return Showing(f"repeat-{of.item.id}", of.item, of.clips[::-1], "repeat")


def left_to_do(order: tuple[Showing, ...], answered: set[str], full: set[str]) -> Iterator[Showing]:
    """Yields what is left for an annotator, in order; checks are of items that he is shown.

    Args:
        order: of `showings`.
        answered: keys of what this annotator has answered.
        full: ids of items that enough people have answered.
    """
    for showing in order:
        left_to_others = showing.item.id in full and showing.item.id not in answered
        if showing.key not in answered and not left_to_others:
            yield showing
