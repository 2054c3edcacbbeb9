"""AIF whole: a vision-language model says Accept or Reject, and RWR learns from what it says.

Verdicts -> judge (`judge`) -> clips of the pre-trained generator, judged by it -> RWR -> clips of
both policies. At `mini` scale the verdicts that the judge learns from are the verifier's, of clips
that the run's own generator drew, and the verifier scores the last clips too: tables go by it, and
"The judge against the truth" shows the judge beside it.

Paper:    AIF, "Improving Dynamic Object Interactions in Text-to-Video Generation with AI Feedback";
          its judge is Gemini, asked and not trained: at `paper` scale it is a model behind an API
          (config.reward.remote_judge), as in rwr_aif.
          --config.align.method=dpo --config.align.rows=pairs --config.align.pairs=best_worst is its
          other projection.
Command:  python launch/tpu_run.py --config=aif:mini --workdir=runs/aif
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run.
Time:     mini, measured on two idle CPU cores: 4 min 23 s, of which 1:14 are pre-training and 1:31
          the judge; on one core of a slower machine 13 minutes.
Number:   mini, measured: with five seeds 5.2 points [2.6, 7.9] more clips of held-out prompts are
          accepted by the verifier (docs/claims.md, "AI feedback or metrics"), where its own labels
          give RWR 16. With seed 0 the judge orders 64.8 % of pairs of held-out generated clips
          right (docs/measurements.md).
"""

from configs import rwr_aif
from configs.judges import critic

PAPER = rwr_aif.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = rwr_aif.get_config(scale)
    c.align.policy = "aif"
    if scale == "paper":
        return c
    judge = critic.get_config(scale)
    c.expected_time = "about 5 minutes on 2 CPU cores"
    c.search = ()  # the settings of rwr_aif, chosen with the verifier's labels
    c.judge.update(judge.judge)
    c.judge.dimensions = ("accept",)
    c.judge.world.clips = "drawn"
    c.judge.critic.pairs = 0.0  # of verdicts nothing is compared
    c.reward.name = "vlm_judge"
    c.reward.vlm_judge.update(judge.reward.vlm_judge)
    c.evaluate.verifier = True
    return c
