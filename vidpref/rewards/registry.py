"""The rewards by name, and how each is built from the config and from what other stages made."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ml_collections import ConfigDict

from vidpref.config.fields import lookup
from vidpref.config.judge import ANSWERS, SCORES
from vidpref.config.metrics import METRIC_PLACES
from vidpref.config.nearest import nearest
from vidpref.config.schema import NO_JUDGE
from vidpref.config.vlm_judge import WORDS
from vidpref.datasets.preferences import OVERALL
from vidpref.digests import digest_files, files_below
from vidpref.rewards import templates
from vidpref.rewards.reward import Reward
from vidpref.storage.copies import here

# The artifact of a run that trains its judge, and the folder of the model in it.
JUDGE = "judge"


@dataclasses.dataclass(frozen=True)
class RewardSpec:
    """How a reward is made.

    Attributes:
        build: `(section, dimensions, artifacts) -> reward`, from the config's `reward` section,
            the dimensions to score, and the folder of each artifact by its name.
        artifacts: names of what other stages make and the reward is built from.
        trained: name of the artifact that takes the place of the `folder` of its section where that
            is empty; "": none can. See `artifacts_of`.
        templates: `(section) -> folders` of texts that its scores depend on; None: of none.
        data: the one data set whose clips it can judge; "": any.
        first_frames: whether its `score` takes `first_frames` [b, h, w, c], uint8: the frame that
            each clip was to begin with.
        version: of its rules; another one asks for new labels.
        places: fields of its own section, with dots, that are files or folders that its scores
            depend on.
        mark: name of a file by which a folder of such models is known.
        check: `(section, dimensions)` refuses what `build` would, where that takes long.
        scores: `(section) -> dimensions`, all that it can score, where a folder says so.
        unit: of its scores: "share", all lie in [0, 1]; "deviation", mean 0 and deviation 1 over
            clips that the judge did not learn from; or "own", of which nothing is known.
    """

    build: Callable[[ConfigDict, tuple[str, ...], Mapping[str, Path]], Reward]
    artifacts: tuple[str, ...] = ()
    trained: str = ""
    templates: Callable[[ConfigDict], tuple[Path, ...]] | None = None
    data: str = ""
    first_frames: bool = False
    version: str = ""
    places: tuple[str, ...] = ()
    mark: str = ""
    check: Callable[[ConfigDict, tuple[str, ...]], None] | None = None
    scores: Callable[[ConfigDict], tuple[str, ...]] | None = None
    unit: str = "share"


def _verifier(
    section: ConfigDict, dimensions: tuple[str, ...], artifacts: Mapping[str, Path]
) -> Reward:
    from vidpref.rewards.verifier import Verifier

    return Verifier(dimensions)


def _metrics(
    section: ConfigDict, dimensions: tuple[str, ...], artifacts: Mapping[str, Path]
) -> Reward:
    from vidpref.rewards.metrics import build_metrics

    return build_metrics(section.metrics, dimensions)


def _check_metrics(section: ConfigDict, dimensions: tuple[str, ...]) -> None:
    from vidpref.rewards.metrics import check_metrics

    check_metrics(section.metrics, dimensions)


def _remote_judge(
    section: ConfigDict, dimensions: tuple[str, ...], artifacts: Mapping[str, Path]
) -> Reward:
    from vidpref.rewards.remote_judge import RemoteJudge

    own = section.remote_judge.to_dict()
    graded, given = own.pop("graded"), own.pop("templates")
    return RemoteJudge(questions=templates.asked(dimensions, WORDS, graded, given), **own)


def _vlm_judge(
    section: ConfigDict, dimensions: tuple[str, ...], artifacts: Mapping[str, Path]
) -> Reward:
    from vidpref.rewards.vlm_judge import VlmJudge

    own = section.vlm_judge.to_dict()
    if not own["folder"] and JUDGE in artifacts:
        own["folder"] = str(artifacts[JUDGE] / JUDGE)
    graded, given = own.pop("graded"), own.pop("templates")
    return VlmJudge(templates.asked(dimensions, own["answers"], graded, given), **own)


def _check_vlm_judge(section: ConfigDict, dimensions: tuple[str, ...]) -> None:
    from vidpref.rewards.vlm_judge import first_words, open_model

    own = section.vlm_judge
    questions = templates.asked(dimensions, own.answers, own.graded, own.templates)
    pixels = own.min_pixels, own.max_pixels
    _, reader = open_model(own.folder, pixels, own.most_tokens, own.video_fps)
    if own.answers == "probabilities":
        first_words(reader.tokens, questions)


def _video_reward(
    section: ConfigDict, dimensions: tuple[str, ...], artifacts: Mapping[str, Path]
) -> Reward:
    from vidpref.rewards.video_reward import VideoReward

    own = section.video_reward.to_dict()
    if not own["folder"] and JUDGE in artifacts:
        own["folder"] = str(artifacts[JUDGE] / JUDGE)
    return VideoReward(**own, dimensions=dimensions)


def _check_video_reward(section: ConfigDict, dimensions: tuple[str, ...]) -> None:
    from vidpref.rewards.video_reward import open_folder

    own = section.video_reward
    open_folder(own.folder, own.base, dimensions).reader(own.template)
    _check_rate(own)


def _check_trained(reward: ConfigDict, trained: Sequence[str]) -> None:
    """Refuses what the model that the run trains could not be asked."""
    scores = reward.name == SCORES
    known = (OVERALL, *trained) if scores else tuple(trained)
    for name in dimensions_of(reward):
        if name not in known:
            raise ValueError(
                f"config.reward: the judge that the run trains does not score {name!r}; "
                f"{nearest(name, known)}"
            )
    if scores:
        _check_rate(reward.video_reward)


def _check_rate(own: ConfigDict) -> None:
    if not own.fps:  # whoever draws clips does not know how fast they are to be shown
        raise ValueError(
            "config.reward.video_reward.fps=0: say how many frames a second the drawn clips have"
        )


def _scores_of_video_reward(section: ConfigDict) -> tuple[str, ...]:
    from vidpref.rewards.video_reward import OVERALL, open_folder

    own = section.video_reward
    return (OVERALL, *open_folder(own.folder, own.base, ()).settings.dimensions)


REWARDS = {
    "remote_judge": RewardSpec(
        _remote_judge, templates=lambda section: templates.folders(section.remote_judge.templates)
    ),
    "verifier": RewardSpec(_verifier, data="miniworld", first_frames=True, version="2"),
    "metrics": RewardSpec(
        _metrics,
        places=METRIC_PLACES,
        version="1",
        check=_check_metrics,
        unit="own",
    ),
    SCORES: RewardSpec(
        _video_reward,
        trained=JUDGE,
        places=("folder", "template", "base"),
        mark="model_config.json",
        version="1",
        check=_check_video_reward,
        scores=_scores_of_video_reward,
        unit="deviation",
    ),
    ANSWERS: RewardSpec(
        _vlm_judge,
        templates=lambda section: templates.folders(section.vlm_judge.templates),
        trained=JUDGE,
        places=("folder",),
        mark="config.json",
        version="1",
        check=_check_vlm_judge,
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


def check_reward(reward: ConfigDict, trained: Sequence[str] | None = None) -> tuple[str, ...]:
    """Returns the dimensions that the judge will score; refuses a section that gives no judge.

    A judge that is built from artifacts is not built: they need not be there yet. Nor is one whose
    building takes long.

    Args:
        reward: the config's `reward` section.
        trained: dimensions of the judge that the run trains and asks; None where it trains none.

    Raises:
        ValueError: as `build_reward`.
    """
    spec, dimensions = reward_spec(reward), dimensions_of(reward)
    if trained is not None:
        _check_trained(reward, trained)
    elif spec.check is not None:
        spec.check(reward, dimensions)
    elif not spec.artifacts:
        return build_reward(reward).dimensions
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


def artifacts_of(reward: ConfigDict) -> tuple[str, ...]:
    """Returns the names of what other stages of a run make and its judge is built from.

    Args:
        reward: the config's `reward` section.

    Raises:
        ValueError: an unknown name.
    """
    spec = reward_spec(reward)
    made = spec.trained and not reward[reward.name].folder
    return (*spec.artifacts, *((spec.trained,) if made else ()))


def scoring(reward: ConfigDict, needed: Sequence[str]) -> ConfigDict:
    """Returns the section with all dimensions that are scored in it.

    Args:
        reward: the config's `reward` section.
        needed: dimensions that an alignment needs, scored where the section names none.
    """
    named = reward.dimensions or dict.fromkeys((reward.dimension, *needed))
    return ConfigDict(reward.to_dict() | {"dimensions": tuple(named)})


def verifying(reward: ConfigDict) -> ConfigDict:
    """Returns the section with the verifier, which scores all that it can, for its judge."""
    from vidpref.rewards.verifier import DIMENSIONS

    truth = {"name": "verifier", "dimension": DIMENSIONS[0], "dimensions": DIMENSIONS}
    return ConfigDict(reward.to_dict() | truth)


def judge_version(reward: ConfigDict) -> str:
    """Changes with the files that the judge's scores depend on, or else with its version."""
    spec, files = reward_spec(reward), []
    for name in spec.places:
        given = lookup(reward[reward.name], name)
        path = here(given)
        if path.is_file():
            files.append((name, path))
        elif given and path.is_dir():
            files += [(f"{name}/{below}", file) for below, file in files_below(path)]
    for folder in dict.fromkeys(spec.templates(reward) if spec.templates else ()):
        files += files_below(folder)
    if spec.places:
        return f"{spec.version} {digest_files(files)}"
    return digest_files(files) if files else spec.version


def dimensions_of(reward: ConfigDict) -> tuple[str, ...]:
    """Returns `reward.dimensions`, of which none means `reward.dimension` alone."""
    return tuple(reward.dimensions or (reward.dimension,))


def _check_dimension(reward: ConfigDict, scored: Sequence[str]) -> None:
    if reward.dimension not in scored:
        raise ValueError(
            f"config.reward.dimension={reward.dimension!r}: {reward.name} scores "
            + ", ".join(scored)
        )
