"""Which scores the claims need, and the runs that make those that are missing."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from claimed.claim import PRETRAINED, Group, after
from claimed.scores import Scores
from vidpref.config.by_name import apply_overrides
from vidpref.runs import compare
from vidpref.runs.methods import open_recipe
from vidpref.runs.policies import policy_name


@dataclasses.dataclass(frozen=True)
class Needed:
    """The scores of one policy and seed.

    Attributes:
        config: the config that makes the policy, as the group names it; for the pre-trained one,
            the first.
        policy: its name in the runs' tables.
        fingerprint: of the stage that judges its clips.
    """

    config: str
    policy: str
    fingerprint: str


def load_configs(group: Group, overrides: Sequence[str], clips_per_prompt: int) -> list[ConfigDict]:
    """Returns the configs of a group, in its order, without their searches: what they would choose
    stands in `settings` and in the configs. Training prompts are evaluated where a claim is about
    them.
    """
    every = ["search=()", *group.overrides, f"evaluate.per_prompt={clips_per_prompt}"]
    if "train" not in group.splits:
        every.append("evaluate.train_prompts=1")  # 0 would be all
    every += overrides
    return compare.load_configs(group.configs, "mini", every)


def needed(
    group: Group, configs: Sequence[ConfigDict], seed: int, workdir: Path
) -> dict[str, Needed]:
    """Returns the scores that a group needs of one seed, by the policy's name in claims.

    Args:
        group: the group.
        configs: from `load_configs`.
        seed: training seed.
        workdir: of the runs; nothing is read or written there.
    """
    found = {}
    for name, config in zip(group.configs, configs, strict=True):
        recipe = open_recipe(apply_overrides(config, [f"seed={seed}"]), workdir)
        policies = list(recipe.policies(group.rounds).values())
        prints = [recipe.evaluation(policy).last.fingerprint for policy in policies]
        found.setdefault(PRETRAINED, Needed(name, PRETRAINED, prints[0]))
        for round_ in range(1, group.rounds + 1):
            made = Needed(name, policy_name(config, round_), prints[round_])
            found[after(name, round_)] = made
    return found


def measure(
    group: Group,
    configs: Sequence[ConfigDict],
    seed: int,
    workdir: Path,
    scores: Scores,
    say: Callable[[str], None],
) -> None:
    """Runs what a group needs of one seed and the folder of scores lacks, config after config, and
    keeps the scores of each as soon as they are there.

    Args:
        group, configs, seed, workdir: as for `needed`.
        scores: where they are kept.
        say: told which scores are there of another config.
    """
    wanted = needed(group, configs, seed, workdir)
    missing = {
        name: need
        for name, need in wanted.items()
        if not scores.path(need.policy, seed, need.fingerprint).exists()
    }
    for need in missing.values():
        if need.policy != PRETRAINED and scores.versions(need.policy, seed):
            say(of_another(need, seed, scores))
    for name, config in zip(group.configs, configs, strict=True):
        mine = [need for need in missing.values() if need.config == name]
        if not mine:
            continue
        seeded = [apply_overrides(config, [f"seed={seed}"])]
        found = compare.compare(seeded, workdir, seeds=1, rounds=group.rounds).frame
        for need in mine:
            rows = found[found["policy"] == need.policy]
            scores.write(rows, need.policy, seed, need.fingerprint)


def of_another(need: Needed, seed: int, scores: Scores) -> str:
    """Returns the sentence that a policy's scores are there of another config or version only."""
    others = ", ".join(scores.versions(need.policy, seed))
    return (
        f"{need.policy}, seed {seed}: the scores in {scores.folder} are of another config or "
        f"version ({others}, now {need.fingerprint}) and do not count"
    )
