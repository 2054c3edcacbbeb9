"""The settings of the methods beside their configs' own; the one place where they stand.

Those of AIF's methods and of `realdpo` were chosen among four candidates each, by acceptance on
validation prompts with seed 0 (docs/measurements.md). The others were not searched anew.
"""

RATE = "align.train.optimizer.learning_rate"

# AIF's two projections, on its prompts and DDPM: reverse Bradley-Terry and forward EM.
DPO = "dpo_aif"
DPO_WINNER = "dpo_nll_aif"
RWR = "rwr_aif"
FLOW_RWR = f"rwr_aif+align.method=flow_rwr+align.beta=1.0+align.normalize_reward=True+{RATE}=1e-3"
SFT = "sft_aif"

# RealDPO and what it is compared with, on the flow generator.
REALDPO = "realdpo"
REALDPO_WINNER = f"realdpo+align.error_in=x0+align.beta=500.0+align.nll_weight=250.0+{RATE}=3e-4"
SFT_REAL = f"flow_sft+align.rows=real+align.lora.rank=0+align.real_clips=1000+{RATE}=3e-4"
FLOW_DPO = "flow_dpo"

# Weights of the error of real clips in IPO's loss, beside that of its config.
REAL_WEIGHTS = (10.0, 100.0)
