"""Which scores the claims need, and the runs that make those that are missing."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from claimed.claim import PRETRAINED, PROXY, Group, after
from claimed.scores import Scores, same_clips
from vidpref.config.by_name import apply_overrides
from vidpref.rewards.registry import dimensions_of
from vidpref.runs import compare
from vidpref.runs.methods import open_recipe
from vidpref.runs.policies import policy_name
from vidpref.stages.label import evaluation_frame

_UNMADE = "unmade"  # no folder of a work directory


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


def load_configs(
    group: Group, overrides: Sequence[str], clips_per_prompt: int, metrics: Path | None = None
) -> list[ConfigDict]:
    """Returns the configs of a group, in its order, without their searches: what they would choose
    stands in `settings` and in the configs. Training prompts are evaluated where a claim is about
    them.

    Args:
        group: the group.
        overrides: of all configs.
        clips_per_prompt: to evaluate.
        metrics: folder of the models of variants that learn from metrics, one a metric, of its
            name; None for what the config says.
    """
    clips = [f"evaluate.per_prompt={clips_per_prompt}"]
    if "train" not in group.splits:
        clips.append("evaluate.train_prompts=1")  # 0 would be all
    every = ["search=()", *group.overrides, *clips, *overrides]
    plain = [name for name in group.configs if name not in group.variants]
    found = (
        dict(zip(plain, compare.load_configs(plain, "mini", every), strict=True)) if plain else {}
    )
    for name, (spec, *own) in group.variants.items():
        every = ["search=()", *clips, *own, f"align.policy={name}", *overrides]
        (config,) = compare.load_configs([spec], "mini", every)
        places = [f"reward.metrics.{m}.folder={metrics / m}" for m in _metrics(config) if metrics]
        found[name] = apply_overrides(config, places)
    return [found[name] for name in group.configs]


def check_models(configs: Mapping[str, Sequence[ConfigDict]]) -> None:
    """Refuses groups whose metrics have no models.

    Args:
        configs: of each group.

    Raises:
        ValueError: names group and folder.
    """
    for group, of_group in configs.items():
        for config in of_group:
            for name in _metrics(config):
                folder = Path(config.reward.metrics[name].folder)
                if not folder.is_dir():
                    raise ValueError(
                        f"{group} learns from {name}, and {folder} is not there: train it by "
                        f"benchmarks/mini_clip.py --out={folder.parent}, with --preferences for "
                        "pick_score, or say where it lies with --metrics"
                    )


def _metrics(config: ConfigDict) -> tuple[str, ...]:
    """The metrics that a config learns from."""
    return dimensions_of(config.reward) if config.reward.name == "metrics" else ()


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
        # in a folder that is there, a recipe would note digests of files
        recipe = open_recipe(apply_overrides(config, [f"seed={seed}"]), workdir / _UNMADE)
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
        found = scored(compare.compare(seeded, workdir, seeds=1, rounds=group.rounds))
        for need in mine:
            rows = found[found["policy"] == need.policy]
            scores.write(rows, need.policy, seed, need.fingerprint)


def scored(found: compare.Comparison) -> pd.DataFrame:
    """Returns the scores of every clip, with `PROXY` where the verifier stands beside a judge:
    what the judge says, of metrics the share of the pre-trained policy's clips that score less.

    Raises:
        ValueError: judge and verifier scored other clips.
    """
    proxies = {name: evaluated.proxy for name, evaluated in found.evaluated.items()}
    if not proxies or None in proxies.values():
        return found.frame
    judged = evaluation_frame(proxies)
    if not (judged["policy"].equals(found.frame["policy"]) and same_clips([judged, found.frame])):
        raise ValueError("judge and verifier did not score the same clips in the same order")
    return found.frame.assign(**{PROXY: judged["accept"]})


def of_another(need: Needed, seed: int, scores: Scores) -> str:
    """Returns the sentence that a policy's scores are there of another config or version only."""
    others = ", ".join(scores.versions(need.policy, seed))
    return (
        f"{need.policy}, seed {seed}: the scores in {scores.folder} are of another config or "
        f"version ({others}, now {need.fingerprint}) and do not count"
    )
