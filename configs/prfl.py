"""PRFL: a policy learns from the gradient of a reward that judges its clips while they are noisy.

The reward is the latent reward of Flow-NRG: the generator's first layers, trained on pairs of its
own labelled clips. A step draws a batch of clips up to a random step of the sampler; the gradient
goes through that step into the reward, and no clip is finished or decoded. What holds the policy is
the denoising error on real clips, as in the paper, whose code takes turns where here both are one
loss; its reward is trained to tell good from bad single clips, here to order pairs.

Paper:    PRFL, "Video Generation Models Are Good Latent Reward Models" (arXiv 2511.21541)
Command:  python launch/tpu_run.py --config=prfl:mini --workdir=runs/prfl
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run.
Time:     mini, measured: about 13 minutes with 100 steps, on two cores that others used too.
Number:   mini, measured with seed 0: nothing is gained, accepted clips of held-out prompts 24.8 ->
          23.0 %, -1.8 points [-5.8, 2.2]; text alignment +1.8 [0.6, 3.0], visual quality -1.4
          [-2.3, -0.4]. A baseline: at ten times the rate and a tenth of real_weight the reward is
          hacked within 20 steps, and no clip is accepted (docs/measurements.md).
"""

from configs.shared import flow

PAPER = "Video Generation Models Are Good Latent Reward Models (PRFL)"
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = flow.base(scale)
    c.paper = PAPER
    c.align.method, c.align.rows = "prfl", "fresh"
    c.align.dimensions, c.align.layers = tuple(flow.OVERALL), 8
    c.align.pairs_per_prompt = 64
    c.align.real_weight = 1.0
    c.align.reward_train.update({"steps": 10_000, "batch_size": 64})
    c.align.reward_train.optimizer.update({"learning_rate": 1e-4, "warmup_steps": 100})
    c.align.train.optimizer.update({"learning_rate": 5e-6, "decay": "constant"})
    if scale == "mini":
        c.expected_time = "about 5 minutes on 2 CPU cores"
        c.align.layers, c.align.pairs_per_prompt = 4, 28
        c.align.reward_train.update({"steps": 400})  # as flow_nrg:mini
        c.align.reward_train.optimizer.update({"name": "adamw", "learning_rate": 5e-4})
        c.align.reward_train.optimizer.update({"warmup_steps": 10})
        c.align.train.update({"steps": 60, "batch_size": 32})
        # at 1e-3 and real_weight=1 the reward rose to 4.3, and no clip was accepted any more
        c.align.train.optimizer.update({"learning_rate": 1e-4})
        c.align.real_weight = 10.0
    return c
