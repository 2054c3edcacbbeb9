"""What the answers are worth that a judge draws: McSc's rewards."""

import dataclasses
from collections.abc import Callable, Sequence

from vidpref.rewards.questions import dimension_blocks, parse_reasoned
from vidpref.stages.answer_examples import Example

FORM, RIGHT, SUPPORTED = "form", "right", "supported"
BLOCKS = "blocks"


@dataclasses.dataclass(frozen=True)
class Worth:
    """A rule by which answers are rewarded; the rewards are added up.

    Attributes:
        names: of the rewards.
        of: `(example, answer, supported) -> rewards`, each in [0, 1], in the order of the names.
        next: what the model is asked about its own answer, whose Yes is `supported`; "" for
            nothing, and `supported` is False.
    """

    names: tuple[str, ...]
    of: Callable[[Example, str, bool], Sequence[float]]
    next: str = ""


def reasoned_worth(supported: str) -> Worth:
    """Returns the rewards of an answer about one clip in one dimension (McSc eq. 3).

    One for the form, one for the right word, and one where the model says that its reasoning
    supports the word; without the form there is none of them.

    Args:
        supported: the question after that; "" leaves its reward out.
    """
    names = (FORM, RIGHT, *((SUPPORTED,) if supported else ()))

    def worth(example: Example, said: str, holds: bool) -> list[float]:
        try:
            parse_reasoned(said)
        except ValueError:
            return [0.0] * len(names)
        return [1.0, _right(example, said), float(holds)][: len(names)]

    return Worth(names, worth, supported)


def hierarchy_worth(dimensions: Sequence[str]) -> Worth:
    """Returns the rewards of an answer that compares two clips (McSc eq. 4).

    One where there is a block for every dimension, the part of the dimensions whose block ends in
    one of its words, and one for the better clip.

    Args:
        dimensions: those of the question.
    """

    def worth(example: Example, said: str, holds: bool) -> list[float]:
        blocks = dimension_blocks(said, dimensions)
        formed = sum(word != "" for word in blocks.values()) / len(dimensions)
        return [float(len(blocks) == len(dimensions)), formed, _right(example, said)]

    return Worth((FORM, BLOCKS, RIGHT), worth)


def _right(example: Example, said: str) -> float:
    try:
        return float(example.question.read(said) == example.question.words[example.word])
    except ValueError:  # no word, or another than those of the question
        return 0.0
