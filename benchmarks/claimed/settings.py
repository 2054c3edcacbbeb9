"""The settings of the methods beside their configs' own; the one place where they stand.

Each was chosen among four candidates, by acceptance on validation prompts with seed 0
(docs/measurements.md, "The settings of the methods").
"""

RATE = "align.train.optimizer.learning_rate"

# AIF's two projections, on its prompts and DDPM: reverse Bradley-Terry and forward EM.
DPO = "dpo_aif"
DPO_WINNER = "dpo_nll_aif"
RWR = "rwr_aif"
FLOW_RWR = f"rwr_aif+align.method=flow_rwr+align.beta=1.0+align.normalize_reward=True+{RATE}=1e-3"
SFT = "sft_aif"
# What makes the alignment of another config that of `dpo_aif`.
DPO_SETTINGS = (
    *("align.method=dpo", "align.rows=pairs", "align.beta=5000.0", "align.error_in=v"),
    *("align.max_pairs_per_prompt=8", "align.train.batch_size=32", f"{RATE}=3e-5"),
)
# Of a judge whose scores are neither 0 nor 1: the best clips of a prompt against the worst.
GRADED_PAIRS = "align.pairs=best_worst"

# RealDPO and what it is compared with, on the flow generator.
REALDPO = "realdpo"
REALDPO_WINNER = f"realdpo+align.error_in=x0+align.beta=500.0+align.nll_weight=250.0+{RATE}=1e-3"
SFT_REAL = f"flow_sft+align.rows=real+align.lora.rank=0+align.real_clips=1000+{RATE}=3e-3"
FLOW_DPO = "flow_dpo"

# Weights of the error of real clips in IPO's loss, beside that of its config.
REAL_WEIGHTS = (10.0, 100.0)

# Online: as many fresh clips a step as the configs of online methods draw, for as many steps.
_FRESH = "align.train.batch_size=8+align.train.steps=100"
ONLINE_DPO = f"flow_dpo+align.rows=fresh_pairs+{_FRESH}+{RATE}=3e-3"
ONLINE_RWR = f"flow_rwr+align.rows=fresh+{_FRESH}+{RATE}=5e-5"
ONLINE_RWR_HELD = f"flow_rwr+align.rows=fresh+align.real_weight=1.0+{_FRESH}+{RATE}=5e-3"
# The data term alone: as many real clips a step, for as many steps.
REAL_ALONE = (
    f"flow_sft+align.rows=real+align.train.batch_size=64+align.train.steps=100+{RATE}=1.5e-2"
)

# What the clips of an online method are scored by: a metric alone.
ON_PICK_SCORE = (
    *("reward.name=metrics", "reward.dimension=pick_score", "reward.dimensions=('pick_score',)"),
    *(f"align.reward.{name}=0.0" for name in ("visual_quality", "motion_quality")),
    *("align.reward.text_alignment=0.0", "align.reward.pick_score=1.0", "evaluate.verifier=True"),
)


def _on_pick_score(spec: str) -> tuple[str, ...]:
    often = ("align.train.checkpoint_every=10", "align.train.keep_last=10")
    return (*spec.split("+"), *ON_PICK_SCORE, *often)


# AIF's projections on it, of clips drawn once and of as many fresh ones a step; checkpoints show
# what they do on the way.
PICK_SCORE_PROJECTIONS = {
    "dpo_drawn_pick_score": _on_pick_score("flow_dpo+align.train.steps=100"),
    "dpo_fresh_pick_score": _on_pick_score(ONLINE_DPO),
    "rwr_drawn_pick_score": _on_pick_score("flow_rwr+align.train.steps=100"),
    "rwr_fresh_pick_score": _on_pick_score(ONLINE_RWR),
}
# What holds Flow-GRPO to what clips looked like: a reverse KL, or the error on real clips.
LEASHES = {"kl": "align.online.kl=0.04", "real": "align.real_weight=0.1"}
