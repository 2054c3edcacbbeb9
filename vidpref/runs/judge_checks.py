"""Configs whose judge cannot be trained are refused before anything is computed."""

import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from vidpref.config.judge import ANSWERS, DRAWN, RENDERED, SCORES
from vidpref.config.schema import PREFERENCES, check_values
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.stages import preferences
from vidpref.stages.judge_kinds import KINDS, scratch_tokenizer
from vidpref.stages.scratch_model import scratch_config, without_weights

_WORLD = "miniworld"


def check(config: ConfigDict) -> None:
    """Refuses a config that trains no judge, before anything is computed.

    Raises:
        ValueError: names the field.
    """
    check_values(config)
    section, data = config.judge, config.data
    if not section.name:
        raise ValueError(
            "config.judge.name is empty: launch/train_judge.py trains the judge of a config such "
            "as videoreward"
        )
    if data.name not in (PREFERENCES, _WORLD):
        raise ValueError(
            f"config.data.name={data.name!r}: a judge is trained on a file of preferences, or on "
            f"those of {_WORLD}"
        )
    if data.name == PREFERENCES:
        preferences.check_preferences(data, with_real=False)
    if section.name == ANSWERS and config.reward.name != ANSWERS:
        raise ValueError(
            f"config.judge.name={ANSWERS!r}: config.reward.{ANSWERS} says how it is asked, and "
            f"config.reward.name={config.reward.name!r}; set reward.name={ANSWERS}"
        )
    kind = KINDS[section.name]
    if section.scratch.layers:
        tokenizer = scratch_tokenizer(config)
        model = scratch_config(section, tokenizer)
        with tempfile.TemporaryDirectory() as folder:
            kind.reader(config, without_weights(Path(folder), model.write(), tokenizer))
    elif not section.base:
        raise ValueError("config.judge.base is empty: give the folder of a Qwen2-VL model")
    else:
        kind.reader(config, QwenVLFolder(section.base))


def check_alone(config: ConfigDict) -> None:
    """Refuses a config that launch/train_judge.py cannot train a judge of.

    Raises:
        ValueError: names the field.
    """
    check(config)
    if config.data.name == _WORLD and config.judge.world.clips == DRAWN:
        raise ValueError(
            f"config.judge.world.clips={DRAWN!r}: a judge that is trained alone has no generator "
            f"that draws clips; launch/tpu_run.py trains it in a run, or set it to {RENDERED!r}"
        )


def check_own(config: ConfigDict) -> None:
    """Refuses the judge that a run trains and asks, before anything is computed.

    Raises:
        ValueError: names the field.
    """
    section, reward = config.judge, config.reward
    own = reward[section.name]
    if reward.name != section.name or own.folder:
        given = f" and reward.{section.name}.folder={own.folder!r}" if own.folder else ""
        raise ValueError(
            f"config.judge.name={section.name!r} has the run train a judge, and clips are scored "
            f"by another one: config.reward.name={reward.name!r}{given}. Set reward.name="
            f"{section.name} and leave that folder empty, or set judge.name to ''"
        )
    for name in ("template", "base"):
        if section.name == SCORES and own[name]:
            raise ValueError(
                f"config.reward.video_reward.{name}={own[name]!r}: the judge that the run trains "
                f"has that of config.judge.{name}; leave it out"
            )
    check(config)
