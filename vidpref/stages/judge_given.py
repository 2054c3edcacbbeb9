"""What a judge is trained from."""

import dataclasses
from collections.abc import Mapping, Sized

from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.preferences import Preferences
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.seeds import fold_seed
from vidpref.stages import judge_rows
from vidpref.stages.judge_held_out import HeldOut

HELD_OUT = ("validation", "test")


@dataclasses.dataclass(frozen=True)
class Given:
    """What a judge is trained from.

    Attributes:
        config: the whole config.
        model: the model to start from.
        clips: all clips.
        said: the preferences by split: "train" and those of `HELD_OUT`.
        mesh: devices.
    """

    config: ConfigDict
    model: QwenVLFolder
    clips: judge_rows.SeenClips
    said: Mapping[str, Preferences]
    mesh: Mesh

    @property
    def seed(self) -> int:
        """The seed of the stage."""
        return fold_seed(self.config.seed, "judge")

    def held_out(self) -> dict[str, HeldOut]:
        """Returns the clips that nothing is learnt from, by split."""
        names = tuple(self.config.judge.dimensions)
        return {name: HeldOut.of(self.said[name], self.clips, names) for name in HELD_OUT}


def check_some(found: Sized, what: str, config: ConfigDict) -> None:
    """Refuses that there is nothing to learn from.

    Args:
        found: what there is.
        what: of what, where and how it is asked for.
        config: the whole config.

    Raises:
        ValueError: nothing is found.
    """
    if not len(found):
        names = config.judge.dimensions
        raise ValueError(
            f"there is nothing to learn from with {what} of train prompts whose clips could be "
            f"read says anything of {', '.join(names)}; see bad_clips.csv of the frames stage, and "
            "config.data.held_out"
        )
