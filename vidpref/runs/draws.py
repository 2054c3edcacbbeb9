"""Which clips a run draws of a policy: for which prompts, how many, from which noise."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from vidpref.config.fields import lookup
from vidpref.datasets.scenes import Data, Scene
from vidpref.seeds import fold_seed


@dataclasses.dataclass(frozen=True)
class Draws:
    """Which scenes clips are drawn for.

    Attributes:
        name: name of the set, in the names of stages.
        section: path of the section with `per_prompt` and the numbers of prompts.
        sets: (split, field with its number of prompts).
        seed: seed of the noise.
    """

    name: str
    section: str
    sets: tuple[tuple[str, str], ...]
    seed: int

    def scenes(self, data: Data, config: ConfigDict) -> list[Scene]:
        """Returns the scenes; a split that the data lacks is left out where there are several."""
        section = lookup(config, self.section)
        return [
            scene
            for split, field in self.sets
            if len(self.sets) == 1 or data.has(split)
            for scene in data.scenes(split, section[field])
        ]

    def per_prompt(self, config: ConfigDict) -> int:
        """Returns the number of clips of a scene."""
        return lookup(config, self.section).per_prompt

    def causes(self, config: ConfigDict) -> dict[str, Any]:
        """Returns the fields that say which clips they are."""
        section = lookup(config, self.section)
        known = {f"{self.section}.{field}": section[field] for _, field in self.sets}
        return known | {f"{self.section}.per_prompt": section.per_prompt}


def to_learn_from(config: ConfigDict, round_: int) -> Draws:
    """Returns the clips of train prompts that a round learns from, once they are labelled."""
    seed = fold_seed(config.seed, "label", round_)
    return Draws("train", "label", (("train", "prompts"),), seed)


def to_validate(config: ConfigDict) -> Draws:
    """Returns the clips of validation prompts that hyper-parameters are chosen on."""
    seed = fold_seed(config.seed, "validation")
    return Draws("validation", "align.validation", (("validation", "prompts"),), seed)


def to_compare(config: ConfigDict) -> Draws:
    """Returns the clips of train and test prompts that policies are compared on."""
    sets = (("train", "train_prompts"), ("test", "test_prompts"))
    return Draws("evaluation", "evaluate", sets, fold_seed(config.seed, "evaluation"))
