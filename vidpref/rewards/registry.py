"""The rewards by name, and how each is built from the config and from what other stages made."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ml_collections import ConfigDict

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.config.schema import NO_JUDGE
from vidpref.digests import digest_files, files_below
from vidpref.rewards.reward import Reward

_TEMPLATES = PROJECT_ROOT / "data" / "judge_templates"


@dataclasses.dataclass(frozen=True)
class RewardSpec:
    """How a reward is made.

    Attributes:
        build: `(section, dimensions, artifacts) -> reward`, from the config's `reward` section,
            the dimensions to score, and the folder of each artifact by its name.
        artifacts: names of what other stages make and the reward is built from.
        templates: folder of texts that its scores depend on, where it has one.
        data: the one data set whose clips it can judge; "": any.
        first_frames: whether its `score` takes `first_frames` [b, h, w, c], uint8: the frame that
            each clip was to begin with.
        version: of its rules; another one asks for new labels.
        places: fields of its own section that are files or folders that its scores depend on.
        check: `(section, dimensions)` refuses what `build` would, where that takes long.
        scores: `(section) -> dimensions`, all that it can score, where a folder says so.
    """

    build: Callable[[ConfigDict, tuple[str, ...], Mapping[str, Path]], Reward]
    artifacts: tuple[str, ...] = ()
    templates: Path | None = None
    data: str = ""
    first_frames: bool = False
    version: str = ""
    places: tuple[str, ...] = ()
    check: Callable[[ConfigDict, tuple[str, ...]], None] | None = None
    scores: Callable[[ConfigDict], tuple[str, ...]] | None = None


def _verifier(
    section: ConfigDict, dimensions: tuple[str, ...], artifacts: Mapping[str, Path]
) -> Reward:
    from vidpref.rewards.verifier import Verifier

    return Verifier(dimensions)


def _remote_judge(
    section: ConfigDict, dimensions: tuple[str, ...], artifacts: Mapping[str, Path]
) -> Reward:
    from vidpref.rewards.remote_judge import RemoteJudge

    return RemoteJudge(
        **section.remote_judge,
        template=(_TEMPLATES / "accept_reject.txt").read_text(),
        dimensions=dimensions,
        graded_template=(_TEMPLATES / "good_normal_poor.txt").read_text(),
        descriptions={p.stem: p.read_text() for p in (_TEMPLATES / "dimensions").glob("*.txt")},
    )


def _video_reward(
    section: ConfigDict, dimensions: tuple[str, ...], artifacts: Mapping[str, Path]
) -> Reward:
    from vidpref.rewards.video_reward import VideoReward

    return VideoReward(**section.video_reward, dimensions=dimensions)


def _check_video_reward(section: ConfigDict, dimensions: tuple[str, ...]) -> None:
    from vidpref.rewards.video_reward import open_folder

    own = section.video_reward
    open_folder(own.folder, own.base, dimensions).reader(own.template)
    if not own.fps:  # whoever draws clips does not know how fast they are to be shown
        raise ValueError(
            "config.reward.video_reward.fps=0: say how many frames a second the drawn clips have"
        )


def _scores_of_video_reward(section: ConfigDict) -> tuple[str, ...]:
    from vidpref.rewards.video_reward import OVERALL, open_folder

    own = section.video_reward
    return (OVERALL, *open_folder(own.folder, own.base, ()).settings.dimensions)


REWARDS = {
    "remote_judge": RewardSpec(_remote_judge, templates=_TEMPLATES),
    "verifier": RewardSpec(_verifier, data="miniworld", first_frames=True, version="2"),
    "video_reward": RewardSpec(
        _video_reward,
        places=("folder", "template", "base"),
        version="1",
        check=_check_video_reward,
        scores=_scores_of_video_reward,
    ),
}


def build_reward(
    reward: ConfigDict,
    artifacts: Mapping[str, Path] = MappingProxyType({}),
    *,
    dimensions: Sequence[str] | None = None,
) -> Reward:
    """Returns the judge named by `reward.name`.

    Args:
        reward: the config's `reward` section.
        artifacts: folder of each artifact that the judge is built from, by its name.
        dimensions: names of what it scores, instead of `dimensions_of(reward)`.

    Raises:
        ValueError: an unknown name or dimension, a setting that the judge needs, or an artifact,
            is missing.
    """
    spec = reward_spec(reward)
    for name in spec.artifacts:
        if name not in artifacts:
            raise ValueError(
                f"config.reward.name={reward.name!r} is built from {', '.join(spec.artifacts)}, "
                f"and there is no {name}: run the stage that makes it first"
            )
    judge = spec.build(reward, tuple(dimensions or dimensions_of(reward)), artifacts)
    _check_dimension(reward, judge.dimensions)
    return judge


def check_reward(reward: ConfigDict) -> tuple[str, ...]:
    """Returns the dimensions that the judge will score; refuses a section that gives no judge.

    A judge that is built from artifacts is not built: they need not be there yet. Nor is one whose
    building takes long.

    Raises:
        ValueError: as `build_reward`.
    """
    spec, dimensions = reward_spec(reward), dimensions_of(reward)
    if not spec.artifacts and spec.check is None:
        return build_reward(reward).dimensions
    if spec.check is not None:
        spec.check(reward, dimensions)
    _check_dimension(reward, dimensions)
    return dimensions


def reward_spec(reward: ConfigDict) -> RewardSpec:
    """Returns how the judge named by `reward.name` is made.

    Raises:
        ValueError: an unknown name.
    """
    if reward.name not in REWARDS:
        known = ", ".join(sorted(REWARDS))
        raise ValueError(f"config.reward.name={reward.name!r}: known are {known} and {NO_JUDGE}")
    return REWARDS[reward.name]


def scoring(reward: ConfigDict, needed: Sequence[str]) -> ConfigDict:
    """Returns the section with all dimensions that are scored in it.

    Args:
        reward: the config's `reward` section.
        needed: dimensions that an alignment needs, scored where the section names none.
    """
    named = reward.dimensions or dict.fromkeys((reward.dimension, *needed))
    return ConfigDict(reward.to_dict() | {"dimensions": tuple(named)})


def judge_version(reward: ConfigDict) -> str:
    """Changes with the files that the judge's scores depend on, or else with its version."""
    spec = reward_spec(reward)
    if spec.places:
        given = {name: Path(reward[reward.name][name]).expanduser() for name in spec.places}
        files = [(name, path) for name, path in given.items() if path.is_file()]
        for name, path in given.items():
            if reward[reward.name][name] and path.is_dir():
                files += [(f"{name}/{below}", file) for below, file in files_below(path)]
        return f"{spec.version} {digest_files(files)}"
    return spec.version if spec.templates is None else digest_files(files_below(spec.templates))


def dimensions_of(reward: ConfigDict) -> tuple[str, ...]:
    """Returns `reward.dimensions`, of which none means `reward.dimension` alone."""
    return tuple(reward.dimensions or (reward.dimension,))


def _check_dimension(reward: ConfigDict, scored: Sequence[str]) -> None:
    if reward.dimension not in scored:
        raise ValueError(
            f"config.reward.dimension={reward.dimension!r}: {reward.name} scores "
            + ", ".join(scored)
        )
