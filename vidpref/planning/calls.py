"""How often a run calls each of its programs, as far as its config says."""

import math

from ml_collections import ConfigDict

from vidpref.config.align import FRESH_ROWS
from vidpref.config.judge import ANSWERS, SCORES
from vidpref.config.schema import counts_in
from vidpref.rewards import templates
from vidpref.rewards.registry import dimensions_of
from vidpref.stages.lessons import lessons
from vidpref.stages.own_answers import phases

_DRAWN = ("sample", "decode", "sample-superres")


def calls(
    config: ConfigDict, prompts: int | None = None, shards: int = 1, hosts: int = 1
) -> dict[str, int]:
    """Returns {program: calls} of one run; a program is left out whose calls only the data say.

    Drawn are the clips that a round learns from, those that choose its checkpoint, and those that
    policies are compared on. Clips and prompts are encoded once; how many there are is in the data.

    Args:
        config: the whole config.
        prompts: train prompts, where the config takes all of the data; None: not known.
        shards: parts that rows are divided into; batches of clips are filled up to a multiple.
        hosts: processes, each of which scores clips of its own where the judge is a network.
    """
    found = {"align": config.align.train.steps * config.rounds}
    if config.align.rows in FRESH_ROWS:
        found["draw"] = math.ceil(config.align.train.steps / config.align.online.updates)
        found["draw"] *= config.rounds
    if config.judge.name:
        found |= {name: told.judge.train.steps for name, told in lessons(config).items()}
    for name in phases(config):
        found |= dict.fromkeys((f"draw-{name}", f"judge-{name}"), config.judge[name].train.steps)
    for section in ("pretrain", "superres"):
        found[section] = config[section].train.steps
    clips = drawn_clips(config, prompts)
    # those of an alignment that draws its own are judged, and decoded where they are latents
    train = config.align.train
    fresh = found.get("draw", 0) * train.batch_size * config.align.online.group
    if clips is not None:
        rows = math.ceil(config.sampler.batch_size / shards) * shards
        found |= dict.fromkeys(_DRAWN, math.ceil(clips / rows))
        found["decode"] += math.ceil(fresh / rows)
        clips += fresh
    if clips is not None and config.reward.name == SCORES:
        found["score"] = math.ceil(clips / hosts / config.reward.video_reward.batch_size)
    if clips is not None and config.reward.name == ANSWERS:  # each once: how many fail is not known
        own = config.reward.vlm_judge
        asked = templates.asked(
            dimensions_of(config.reward), own.answers, own.graded, own.templates
        )
        questions = sum(map(len, asked.values()))
        found["ask"] = math.ceil(clips * questions / hosts / own.batch_size)
    return found


def drawn_clips(config: ConfigDict, prompts: int | None = None) -> int | None:
    """Returns the clips that a run draws; None where only the data say.

    Args:
        config: the whole config.
        prompts: see `calls`.
    """
    evaluated = config.evaluate
    sets = [prompts if n == 0 else n for n in (evaluated.train_prompts, evaluated.test_prompts)]
    learnt: int | None = 0
    if counts_in("label.per_prompt", config):
        asked = config.label.prompts or prompts
        learnt = None if asked is None else asked * config.label.per_prompt
    if learnt is None or None in sets:
        return None
    chosen = 0
    train = config.align.train
    if train.best_metric == "accept" and train.checkpoint_every:
        validated = config.align.validation
        tried = math.ceil(train.steps / train.checkpoint_every)
        chosen = tried * validated.prompts * validated.per_prompt
    policies = config.rounds + 1
    return config.rounds * (learnt + chosen) + policies * sum(sets) * evaluated.per_prompt
