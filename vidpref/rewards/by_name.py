"""A judge by name or folder, for programs that have no config of a run."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vidpref.config.by_name import read_config
from vidpref.config.causes import Causes
from vidpref.config.nearest import nearest
from vidpref.config.overrides import apply_overrides
from vidpref.config.schema import new_config
from vidpref.rewards.registry import JUDGE, REWARDS, build_reward, judge_version, reward_spec
from vidpref.rewards.reward import Reward
from vidpref.storage.addresses import is_address
from vidpref.storage.bucket import Bucket
from vidpref.storage.copies import here, is_folder
from vidpref.storage.mirror import open_folder

_RUN_FILE = "config.yaml"
_FOLDER = "folder"  # field of a judge's section, and among its places, where it is read from one


@dataclasses.dataclass(frozen=True)
class NamedJudge:
    """A judge, and what its scores depend on.

    Attributes:
        reward: the judge.
        name: its name in the registry.
        causes: fields of the config, texts and weights that a change of its scores would come from.
    """

    reward: Reward
    name: str
    causes: Mapping[str, Any]

    def __str__(self) -> str:
        own = "" if type(self.reward).__str__ is object.__str__ else f" ({self.reward})"
        return f"{self.name} {self.fingerprint}{own}"

    @property
    def fingerprint(self) -> str:
        """12 hex digits that change with the causes."""
        text = json.dumps(self.causes, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def judge_config(
    judge: str, overrides: Sequence[str] = (), dimensions: Sequence[str] = ()
) -> ConfigDict:
    """Returns a config whose reward section is a judge.

    Args:
        judge: a name of the registry; the folder of a finished run, for the judge of its config; or
            a folder that holds a judge, told by its files or by the override reward.name. Folders
            may be in gs://.
        overrides: `reward.x.y=value`.
        dimensions: what it scores, `reward.dimension` first; if empty, all that its folder says, or
            else what its section says.

    Raises:
        ValueError: no such judge or folder; an override of another section.
    """
    for path in (override.partition("=")[0] for override in overrides):
        if not path.startswith("reward."):
            raise ValueError(f"--config.{path} does nothing where clips are judged")
    named = {override.partition("=")[0] for override in overrides}
    run, config, mine = _run_folder(judge), new_config().lock(), []
    if run is not None:
        config = read_config(run)
        if config.judge.name and not named & {"reward.name", f"reward.video_reward.{_FOLDER}"}:
            raise ValueError(
                f"{judge}: the judge of that run was trained by it: give its folder, "
                f"{JUDGE}-*/{JUDGE} in the work directory"
            )
    elif judge in REWARDS:
        if "reward.name" in named:
            raise ValueError(f"--config.reward.name and the judge {judge!r}: give one of them")
        mine = [f"reward.name={judge}"]
    elif is_folder(judge):
        mine = _of_folder(judge, overrides)
    else:
        hint = nearest(judge, sorted(REWARDS))
        raise ValueError(f"no judge {judge!r}: no folder, and no name of the registry ({hint})")
    config, given = apply_overrides(config, [*mine, *overrides]), tuple(dimensions)
    chosen = named & {"reward.dimension", "reward.dimensions"}
    if given and chosen:
        raise ValueError("the dimensions are given twice: leave --config.reward.dimension(s) out")
    if not given and not chosen and run is None and _own(config.reward).get(_FOLDER):
        scores = reward_spec(config.reward).scores
        given = scores(config.reward) if scores else ()
    if not given:
        return config
    names = [f"reward.dimension={given[0]}", f"reward.dimensions={given!r}"]
    return apply_overrides(config, names)


def open_judge(config: ConfigDict) -> NamedJudge:
    """Builds the judge of a config's reward section.

    Raises:
        ValueError: as `build_reward`.
    """
    reward = config.reward
    built = build_reward(reward)
    causes = Causes(config).of("reward") | {"reward.dimensions": list(built.dimensions)}
    return NamedJudge(built, reward.name, causes | {"version": judge_version(reward)})


def _run_folder(judge: str) -> Path | None:
    """Where a finished run lies here; None where this is the name or the folder of a judge."""
    if is_address(judge):
        of_run = Bucket(judge).read(_RUN_FILE) is not None
        return open_folder(judge) if of_run else None
    return Path(judge) if (Path(judge) / _RUN_FILE).is_file() else None


def _of_folder(folder: str, overrides: Sequence[str]) -> list[str]:
    """The overrides that choose the judge of a folder: the first whose mark it has."""
    known = [name for name, spec in REWARDS.items() if _FOLDER in spec.places]
    chosen = [o.partition("=")[2] for o in overrides if o.startswith("reward.name=")]
    if chosen and chosen[-1] not in known:
        raise ValueError(
            f"{folder} is not the folder of a finished run, and {chosen[-1]!r} is no judge that is "
            f"read from a folder; those are {', '.join(known)}"
        )
    if chosen:
        return [f"reward.{chosen[-1]}.{_FOLDER}={folder}"]
    names = [name for name in known if (here(folder) / REWARDS[name].mark).is_file()]
    if not names:
        marks = ", ".join(f"{REWARDS[name].mark} ({name})" for name in known)
        raise ValueError(
            f"{folder} is not the folder of a finished run, and of no judge, which would have "
            f"one of {marks}"
        )
    return [f"reward.name={names[0]}", f"reward.{names[0]}.{_FOLDER}={folder}"]


def _own(reward: ConfigDict) -> ConfigDict:
    """The fields of the judge alone."""
    return reward[reward.name] if reward.name in reward else ConfigDict()
