"""Several judges by name or folder, each with its own dimensions and fields of the config."""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from vidpref.config.nearest import nearest
from vidpref.rewards.by_name import judge_config
from vidpref.rewards.registry import REWARDS, check_reward


def judge_configs(judges: Sequence[str], overrides: Sequence[str] = ()) -> Mapping[str, ConfigDict]:
    """Returns the config of each judge, by what it is called: its name or folder.

    Args:
        judges: see `judge_config`; behind a colon the dimensions that it scores, with + between
            them: "metrics:clip_score+optical_flow".
        overrides: `reward.x.y=value`; those of a judge's own section, such as
            `reward.remote_judge.model`, go to judges of this name alone.

    Raises:
        ValueError: see `judge_config` and `check_reward`; a judge that is there twice, an override
            that is for none of them.
    """
    found: dict[str, ConfigDict] = {}
    used: set[str] = set()
    for told in judges:
        judge, dimensions = _split(told)
        if judge in found:
            raise ValueError(f"--judges: {judge} is there twice; write JUDGE:DIMENSION+DIMENSION")
        shared = [override for override in overrides if not _of(override)]
        name = judge if judge in REWARDS else judge_config(judge, shared).reward.name
        mine = [override for override in overrides if _of(override) in ("", name)]
        used.update(mine)
        found[judge] = judge_config(judge, mine, dimensions)
        check_reward(found[judge].reward)
    names = [config.reward.name for config in found.values()]
    for override in overrides:
        if override not in used:
            field, hint = override.partition("=")[0], nearest(_of(override), names)
            raise ValueError(f"--config.{field}: none of the judges has this name; {hint}")
    return found


def _split(told: str) -> tuple[str, list[str]]:
    """Judge and dimensions; the colon of an address is not one before dimensions."""
    judge, colon, names = told.rpartition(":")
    if not colon or "/" in names:
        return told, []
    dimensions = names.split("+")
    if not judge or not all(name.strip() for name in dimensions):
        raise ValueError(f"--judges: {told!r}: write JUDGE or JUDGE:DIMENSION+DIMENSION")
    return judge, dimensions


def _of(override: str) -> str:
    """The judge whose section a field lies in; "" of a field of all."""
    _, _, rest = override.partition(".")
    section, dot, _ = rest.partition("=")[0].partition(".")
    return section if dot and section in REWARDS else ""
