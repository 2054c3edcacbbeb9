"""What a reward model is asked: a text with a place for the prompt and a token a dimension."""

import dataclasses
import re
from pathlib import Path

from vidpref.text_files import read_text

PROMPT = "{text_prompt}"  # where the prompt of the video is put
_SHORT = {"visual_quality": "VQ", "motion_quality": "MQ", "text_alignment": "TA"}
_TOKEN = re.compile(r"<\|[^|<>\s]+\|>")


def reward_token(dimension: str) -> str:
    """Returns the token whose last state becomes the score of a dimension."""
    return f"<|{_SHORT.get(dimension, dimension)}_reward|>"


@dataclasses.dataclass(frozen=True)
class RewardTemplate:
    """A text with `PROMPT` and, unless one token is shared, the token of every dimension.

    Attention is causal: a dimension whose token stands before the prompt cannot see the prompt, so
    its score of a video is the same under any prompt (VideoAlign 3.2).

    Attributes:
        text: the template.
        dimensions: what is scored, each once.
        shared: whether all dimensions are read off the last token of the row instead (the ablation
            of VideoAlign, table 6).

    Raises:
        ValueError: no dimension or one twice; the prompt's place, or a token, that is missing or
            there more than once; a token of no dimension.
    """

    text: str
    dimensions: tuple[str, ...]
    shared: bool = False

    def __post_init__(self):
        if not self.dimensions or len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError(f"dimensions={self.dimensions} must be one or more different names")
        wanted = {PROMPT: 1, **dict.fromkeys(self.tokens, 1)}
        counts = {name: self.text.count(name) for name in wanted}
        wrong = [f"{name} {counts[name]} times" for name in wanted if counts[name] != wanted[name]]
        strange = sorted(set(_TOKEN.findall(self.text)) - set(self.tokens))
        if wrong or strange:
            found = [*wrong, *(f"{name}, which is the token of no dimension" for name in strange)]
            many = "the prompt's place" if self.shared else "the prompt's place and every token"
            raise ValueError(
                f"the template has {'; '.join(found)}. Wanted is {many} once: "
                f"{', '.join(wanted)}, and nothing else of the form <|...|>"
            )

    @classmethod
    def read(
        cls, path: Path, dimensions: tuple[str, ...], *, shared: bool = False
    ) -> "RewardTemplate":
        """Reads a template from a text file; a line break at its end does not count.

        Args:
            path: the file.
            dimensions: what is scored.
            shared: see the class.

        Raises:
            ValueError: no such file, or see the class; the message names the file.
        """
        if not path.is_file():
            raise ValueError(f"{path}: no such file of a reward model's template")
        try:
            return cls(read_text(path).removesuffix("\n"), dimensions, shared)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of the dimensions; none where one is shared."""
        return () if self.shared else tuple(map(reward_token, self.dimensions))

    @property
    def blind(self) -> tuple[str, ...]:
        """The dimensions that cannot see the prompt."""
        if self.shared:
            return ()
        prompt = self.text.index(PROMPT)
        return tuple(d for d in self.dimensions if self.text.index(reward_token(d)) < prompt)

    def parts(self, prompt: str) -> list[str]:
        """Returns texts and tokens by turns, beginning and ending with a text.

        Tokens are those of the template alone: text of the prompt stays text.
        """
        split = re.split("|".join(map(re.escape, self.tokens)) or "(?!)", self.text)
        found = [split[0].replace(PROMPT, prompt)]
        order = sorted(self.tokens, key=self.text.index)
        for token, text in zip(order, split[1:], strict=True):
            found += [token, text.replace(PROMPT, prompt)]
        return found
