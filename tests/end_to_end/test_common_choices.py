"""The README's table of common choices: every pair of choice and config works."""

import re
from pathlib import Path

import pytest

from tests.data_folders import paths_for
from tests.end_to_end.tiny import TINY, TINY_ANSWERS, TINY_JUDGE
from vidpref.config.by_name import config_names
from vidpref.generation.adopt import load_config
from vidpref.runs import checks, rounds

README = Path(__file__).parents[2] / "README.md"
FIELDS = [field for field in TINY if not field.startswith(("model.", "align.validation"))]
NETWORKS = {
    "unet3d": [field for field in TINY if field.startswith("model.unet3d.")],
    "dit": ["width=32", "layers=1", "head_dim=16", "cond_dim=16"],
    "st_dit": ["width=32", "layers=1", "head_dim=16", "cond_dim=16"],
}
PAPER = (
    *("reward.name=verifier", "text.name=words", "data.name=miniworld"),
    *("data.frames=8", "data.height=16", "data.width=16", "superres.enabled=False"),
)


def choices():
    """(overrides, configs) of every choice of the table."""
    text = README.read_text()
    table = text[text.index("| `--config.` |") :].split("\n\n")[0].splitlines()[2:]
    for line in table:
        given, _, named = (cell.strip() for cell in line.strip("|").split("|"))
        names = re.findall(r"`(\w+)`", named)
        if named.startswith("all"):
            names = [name for name in config_names() if name not in names]
        for choice in re.findall(r"`([^`]+)`", given):
            yield choice.split(), names


CHOICES = list(choices())
IDS = ["+".join(overrides) for overrides, _ in CHOICES]


def tiny(name, overrides):
    """The config with a choice, at a size that runs in seconds."""
    config = load_config(f"{name}:mini", overrides)
    network = config.model.name
    small = [f if f.startswith("model.") else f"model.{network}.{f}" for f in NETWORKS[network]]
    more = ["align.lora.rank=2"] if config.align.lora.rank and name != "flow_nrg" else []
    more += ["align.layers=1"] if name in ("flow_nrg", "prfl") else []
    more += ["align.reward_train.steps=3"] if name == "prfl" else []
    judges = {"": [], "video_reward": TINY_JUDGE, "vlm_judge": TINY_ANSWERS}
    more += judges[config.judge.name]
    counts = load_config(f"{name}:mini").align
    more += ["align.real_clips=8"] if counts.real_weight or counts.rows.startswith("real") else []
    sampled = not config.align.rows.startswith(("real", "fresh"))
    sampled |= name in ("prfl", "vader")  # for their judges
    fields = [f for f in FIELDS if sampled or not f.startswith("label.")]
    if config.align.rows.startswith("fresh"):
        more += ["align.online.prompts=6"]
        more += ["align.online.group=2"] if name not in ("prfl", "vader") else []
    more += ["align.online.window=(0,1)"] if name == "flow_grpo" else []
    return load_config(f"{name}:mini", [*fields, *small, *overrides, *more])


def test_the_table_is_read():
    assert len(CHOICES) >= 12
    for overrides, names in CHOICES:
        assert names, overrides
        assert set(names) <= set(config_names())


@pytest.mark.parametrize(("overrides", "names"), CHOICES, ids=IDS)
def test_every_pair_passes_the_checks(overrides, names, tmp_path):
    for name in names:
        data = load_config(f"{name}:mini").data.name
        checks.check(load_config(f"{name}:mini", [*overrides, *paths_for(data, tmp_path)]))
        load_config(f"{name}:paper", overrides)
    # at that scale the network predicts noise, which a flow cannot be sampled by
    more = ["diffusion.prediction=velocity"] if "diffusion.name=flow" in overrides else []
    checks.check(load_config(f"{names[0]}:paper", [*PAPER, *overrides, *more]))


@pytest.mark.parametrize(
    ("name", "override", "reason"),
    [
        ("rwr_aif", "align.beta=1", r"align.beta would change nothing.*flow_rwr the temperature"),
        ("flow_nrg", "align.lora.rank=4", "it counts where align.method is not nrg"),
        ("sft_aif", "align.reference=pretrained", "counts where align.method is dpo or mcdpo"),
        ("dpo_aif", "align.reward.text_alignment=1", "use --config.align.pairs=best_worst"),
        ("flow_dpo", "diffusion.name=ddpm", "config.sampler: euler follows the velocity"),
    ],
)
def test_a_choice_that_a_config_has_not_is_refused_with_the_reason(name, override, reason):
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        checks.check(load_config(f"{name}:mini", [override]))


# The others run in the slow set; these take another way through the house.
RUN_ALWAYS = (
    "model.name=st_dit",
    "diffusion.name=ddpm",
    "align.reference=pretrained",
    "best_worst",
)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        pytest.param(
            overrides,
            name,
            id="+".join([name, *overrides]),
            marks=()
            if name == names[0] and any(word in " ".join(overrides) for word in RUN_ALWAYS)
            else pytest.mark.slow,
        )
        for overrides, names in CHOICES
        for name in names
        if name != "mcsc"  # so small a judge says nothing that can be read
    ],
)
def test_every_pair_runs(overrides, name, tmp_path, graded):
    done = rounds.run(tiny(name, overrides), tmp_path)
    assert len(done.evaluated) == 1 + done.recipe.config.rounds
