"""The words of the mini world: colours, shapes, furniture, and one sentence per action."""

import dataclasses
import re

from vidpref.datasets.prompts import CATEGORIES

# Red, green and blue of 255. The closest two colours are half the cube's edge apart.
COLOURS = {
    "red": (225, 55, 45),
    "green": (60, 180, 60),
    "blue": (60, 80, 235),
    "yellow": (245, 215, 60),
    "pink": (235, 110, 200),
    "cyan": (60, 215, 215),
}
MATERIALS = {"white": (220, 220, 215), "grey": (125, 128, 140), "brown": (150, 100, 60)}
SHAPES = ("ball", "brick", "cone")

# A sixth category of prompts, only in worlds with a moving camera.
CAMERA_CATEGORY = "CM"


@dataclasses.dataclass(frozen=True)
class Sentence:
    """What an action is called: `{a}` and `{b}` are objects, `{m}` the material of furniture."""

    category: str
    text: str

    @property
    def pair(self) -> bool:
        return "{b}" in self.text


SENTENCES = {
    "lift_off_table": Sentence("OR", "lift the {a} off the {m} table"),
    "lift_out_of_box": Sentence("OR", "lift the {a} out of the {m} box"),
    "hide_behind_wall": Sentence("OR", "hide the {a} behind the {m} wall"),
    "put_on": Sentence("MO", "put the {a} on the {b}"),
    "move_to": Sentence("MO", "move the {a} to the {b}"),
    "move_away": Sentence("MO", "move the {a} away from the {b}"),
    "squash": Sentence("DO", "squash the {a} on the {m} floor"),
    "stretch": Sentence("DO", "stretch the {a} on the {m} floor"),
    "tear": Sentence("DO", "tear the {a} on the {m} floor"),
    "left": Sentence("DM", "move the {a} left above the {m} floor"),
    "right": Sentence("DM", "move the {a} right above the {m} floor"),
    "up": Sentence("DM", "move the {a} up above the {m} floor"),
    "down": Sentence("DM", "move the {a} down above the {m} floor"),
    "drop_on_table": Sentence("FD", "drop the {a} on the {m} table"),
    "drop_in_box": Sentence("FD", "drop the {a} in the {m} box"),
    "push_off_table": Sentence("FD", "push the {a} off the {m} table"),
    "pan_left": Sentence(CAMERA_CATEGORY, "pan left past the {a} on the {m} floor"),
    "pan_right": Sentence(CAMERA_CATEGORY, "pan right past the {a} on the {m} floor"),
}

# Of the prompts in AIF's categories.
WORDS = tuple(
    sorted(
        {*COLOURS, *SHAPES, *MATERIALS}
        | {
            word
            for sentence in SENTENCES.values()
            if sentence.category in CATEGORIES
            for word in sentence.text.split()
            if not word.startswith("{")
        }
    )
)


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a sentence asks for.

    Attributes:
        action: a key of `SENTENCES`.
        objects: one or two (colour, shape).
        material: material of the furniture, "" where the sentence names none.
    """

    action: str
    objects: tuple[tuple[str, str], ...]
    material: str = ""

    @property
    def text(self) -> str:
        names = [f"{colour} {shape}" for colour, shape in self.objects]
        return SENTENCES[self.action].text.format(a=names[0], b=names[-1], m=self.material)


def _pattern(sentence: str) -> re.Pattern:
    thing = rf"(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})"
    groups = {"a": f"(?P<a>{thing})", "b": f"(?P<b>{thing})", "m": f"(?P<m>{'|'.join(MATERIALS)})"}
    return re.compile(sentence.format(**groups))


_PATTERNS = {action: _pattern(sentence.text) for action, sentence in SENTENCES.items()}


def parse(text: str) -> Meaning:
    """The meaning of a prompt.

    Raises:
        ValueError: the text is no sentence of the mini world.
    """
    for action, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(" ".join(text.lower().split())):
            found = match.groupdict()
            objects = [tuple(found[key].split()) for key in ("a", "b") if found.get(key)]
            return Meaning(action, tuple(objects), found.get("m") or "")
    raise ValueError(
        f"not a prompt of the mini world: {text!r}; "
        f"it should read like {Meaning('left', (('red', 'ball'),), 'white').text!r}"
    )
