"""Alignments on fresh clips that cannot work are refused before anything is computed."""

import pytest

from vidpref.generation.adopt import load_config
from vidpref.runs import checks
from vidpref.runs.methods import open_recipe
from vidpref.training.sharding import make_mesh

OVERALL = ("visual_quality", "motion_quality", "text_alignment")
SCORED = f"reward.dimensions={('accept', *OVERALL)}"
CASES = {
    "no fresh rows": (
        ("flow_grpo", "align.rows=pairs"),
        r"config.align.rows='pairs': flow_grpo learns from groups of clips .* set it to 'fresh'",
    ),
    "no group": (
        ("diffusion_nft", "align.rows=all"),
        r"config.align.rows='all': diffusion_nft learns from groups of clips .* set it to 'fresh'",
    ),
    "rewards that are normalised anyhow": (
        ("awm", "align.normalize_reward=True"),
        "align.normalize_reward would change nothing",
    ),
    "a window that is too long": (
        ("flow_grpo", "align.online.window=(0,8)"),
        r"config.align.online: window=\(0, 8\): the last of 8 steps .* end it at 7",
    ),
    "a group of one": (
        ("flow_grpo", "align.online.group=1"),
        r"align.online.group=1: must be >= 2",
    ),
    "no flow": (
        ("flow_grpo", "diffusion.name=ddpm", "sampler.name=ddim"),
        "config.align.online: random steps with log-probabilities are those of a RectifiedFlow",
    ),
    "too much of cps": (
        ("flow_grpo", "align.online.noise=cps", "align.online.level=1.5"),
        r"config.align.online: level=1.5: cps takes in \[0, 1\]",
    ),
    "nobody judges": (
        ("flow_grpo", "reward.name=none"),
        "config.reward.name='none': config.align learns from clips that a judge scored",
    ),
    "two clips of a row": (("rwr_aif", "align.rows=fresh_pairs"), "takes 1 clips a row, the rows"),
    "no fresh rows for a gradient": (
        ("vader", "align.rows=pairs"),
        r"config.align.rows='pairs': vader learns from clips .* set it to 'fresh'",
    ),
    "a judge without a gradient": (
        ("vader", "judge.name=", "reward.name=verifier", "reward.dimension=accept", SCORED),
        r"config.reward.name='verifier': vader learns from the gradient .*'video_reward' alone",
    ),
    "more steps than there are": (
        ("vader", "align.online.last=9"),
        r"config.align.online.last=9: the sampler has 8 steps",
    ),
    "an odd number of frames": (
        ("vader", "align.online.seen=3"),
        r"config.align.online.seen=3: must be an even number",
    ),
    "nothing to decode": (
        ("vader", "align.online.decoded=2"),
        r"config.align.online.decoded=2: clips are pixels here",
    ),
    "no noisy clip": (
        ("prfl", "sampler.steps=1"),
        r"config.sampler.steps=1: prfl judges noisy clips",
    ),
    "a weight of nothing": (
        ("prfl", "align.dimensions=('motion_quality',)"),
        r"config.align.reward.text_alignment: the latent reward scores .*'motion_quality'",
    ),
    "no weight": (
        ("prfl", *(f"align.reward.{name}=0" for name in OVERALL)),
        "config.align.reward: no dimension of .* has a weight",
    ),
    "no layers": (("prfl", "align.layers=9"), "align.layers=9: the generator has 4"),
    "a group of a gradient": (
        ("prfl", "align.online.group=4"),
        "align.online.group would change nothing",
    ),
    "an option that does nothing": (
        ("flow_dpo", "align.online.group=4"),
        "align.online.group would change nothing",
    ),
    "a clip of ratios that are one": (
        ("flow_grpo", "align.online.clip=0.2"),
        "align.online.clip would change nothing",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_the_reason(case):
    (name, *overrides), reason = CASES[case]
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        checks.check(load_config(f"{name}:mini", overrides))


def test_rows_must_divide_over_updates():
    config = load_config("flow_grpo:mini", ["align.online.updates=3"])
    with pytest.raises(ValueError, match=r"batch_size=8: gives 8 rows, .*updates=3"):
        checks.check_training(config, make_mesh({"data": -1}))


@pytest.mark.parametrize("rows", ["align.train.accumulate=3", "align.train.batch_size=7"])
def test_groups_must_divide_over_microbatches_and_devices(rows):
    config = load_config("diffusion_nft:mini", [rows, "align.online.group=3"])
    with pytest.raises(ValueError, match=r"must be a multiple of accumulate|gives \d+ rows, which"):
        checks.check_training(config, make_mesh({"data": -1}))


def test_the_stage_depends_on_what_draws_and_judges(tmp_path):
    def folder(*overrides):
        recipe = open_recipe(load_config("flow_grpo:mini", overrides), tmp_path)
        return recipe.policies(1)["flow_grpo"].stages["policy"].folder

    before = folder()
    for change in ("sampler.steps=9", "reward.dimension=text_alignment", "align.online.prompts=7"):
        assert folder(change) != before
    for unused in ("label.per_prompt=7", "align.pairs=accepted_rejected"):
        with pytest.raises(ValueError, match="would change nothing"):
            folder(unused)
    assert folder("align.online.watch=verifier", "sampler.batch_size=7") == before
    stops = ("align.online.watch=verifier", "align.online.on_fall=stop")
    assert folder(*stops) != before
    assert folder(*stops, "align.online.fall=0.1") != folder(*stops)
