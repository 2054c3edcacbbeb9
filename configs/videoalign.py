"""VideoAlign whole: a judge learns from preferences, and Flow-DPO from what that judge says.

Preferences -> VideoReward (`judge`) -> clips of the pre-trained generator, labelled by it ->
Flow-DPO -> clips of both policies. At `mini` scale the preferences are the verifier's, and it
scores the last clips too: tables go by it, and "The judge against the truth" shows the judge, the
proxy that the policy was trained by, beside it.

Paper:    VideoAlign, "Improving Video Generation with Human Feedback": 3.2 the judge, eq. 6
          Flow-DPO. The paper's generator, a transformer of 1B parameters on latents, is not public:
          `paper` takes Wan2.1-T2V-1.3B in its place, and clips of the prompts of data.pairs.
Command:  python launch/tpu_run.py --config=videoalign:mini --workdir=runs/videoalign
          python launch/tpu_run.py --config=videoalign --workdir=runs/videoalign-wan
          --config.model.init=Wan2.1-T2V-1.3B-Diffusers --config.data.pairs=pairs.csv
          --config.judge.base=Qwen2-VL-2B-Instruct
Hardware: mini 2 CPU cores; paper 32 chips of TPU v5e, not run (docs/pods.md has plans).
Time:     mini, measured on one CPU core: 449 s for the judge, and 160 s for all other stages.
Number:   mini, measured with five seeds. The judge orders 68.2, 61.9 and 67.8 % of pairs of
          held-out generated clips right (visual, motion quality, text alignment). The policy that
          it trains gains by the verifier 2.2 points [0.9, 3.5] of the three on held-out prompts,
          and 5.0 [1.8, 8.1] of acceptance, where the verifier's own labels give 4.3 and 9.7; a
          judge of which three labels of ten were wrong gives nothing (docs/claims.md).
"""

from configs import flow_dpo
from configs.judges import videoreward
from configs.shared import flow

PAPER = flow.PAPER
SCALES = ("mini", "paper")

# What VideoReward scores; `overall` is the mean of the others (VideoAlign 5.2).
DIMENSIONS = ("overall", *flow.OVERALL)


def get_config(scale: str = "paper"):
    mini = scale == "mini"
    c = flow_dpo.get_config("mini" if mini else "wan2_1_1_3b")
    c.align.policy = "videoalign"
    c.align.rows = "pairs"
    c.align.reward.update(flow.OVERALL)
    c.judge.update(videoreward.get_config(scale).judge)
    c.reward.update({"name": "video_reward", "dimension": "overall", "dimensions": DIMENSIONS})
    if mini:
        c.expected_time = "about 12 minutes on 2 CPU cores"
        c.search = ()  # the settings of flow_dpo, chosen with the verifier's labels
        c.judge.train.update({"steps": 1000, "batch_size": 32})
        c.judge.train.optimizer.b2 = 0.95  # with 0.999 it is right about 6 points of pairs less
        # As the paper's, preferences are of generated clips: a judge of rendered ones alone is
        # right about those, and blind to what the generator does wrong.
        c.judge.world.clips = "drawn"
        c.reward.video_reward.update({"fps": 8.0, "dtype": "float32", "batch_size": 64})
        c.evaluate.verifier = True
        return c
    c.mesh.context = 1  # of one mesh with the judge's rows, which context would not divide
    c.align.train.accumulate = 2  # the judge's 32 rows are divided over as many chips
    c.reward.video_reward.fps = 16.0
    c.label.update({"prompts": 0, "per_prompt": 8})
    c.evaluate.best_of = ()  # of a prompt there is one clip to compare
    return c
