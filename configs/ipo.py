"""IPO whole: a critic learns from people's grades, and DPO in rounds from what it says of clips.

Grades and comparisons -> critic (`judge`) -> in each round: clips of the policy, graded by it ->
DPO on the best and the worst of a prompt, with the winner's error and that of real clips. At `mini`
scale the grades are the verifier's, of clips that the run's own generator drew, and it scores the
last clips too: tables go by it, and "The judge against the truth" shows the critic beside it.

Paper:    "IPO: Iterative Preference Optimization for Text-to-Video Generation"; the critic, VILA of
          13B or 40B there, is a Qwen2-VL of 7B at `paper` scale (configs/judges/critic.py).
Command:  python launch/tpu_run.py --config=ipo:mini --workdir=runs/ipo
          python launch/tpu_run.py --config=ipo --workdir=runs/ipo
          --config.model.init=CogVideoX-2b --config.data.pairs=pairs.jsonl
          --config.judge.base=Qwen2-VL-7B-Instruct
Hardware: mini 2 CPU cores; paper, not run and not planned as a whole.
Time:     mini, measured on two idle CPU cores: 6 min 47 s, 2 of them for the critic; a machine of
          half the speed took 15.4 minutes, when five times as many train prompts were compared.
Number:   mini, measured with five seeds: the critic orders 61.4 % of the pairs of a held-out prompt
          right (mean of visual quality, motion quality and text alignment). Accepted clips of
          held-out prompts rise by the verifier by 6.6 points [4.3, 8.9] after one round; the second
          adds nothing and the third takes half of it away, while the critic's own grades rise all
          the while (docs/claims.md). With the beta of ipo_dpo, 500, which suits the verifier's
          labels, clips get worse (docs/measurements.md).
"""

from configs import ipo_dpo
from configs.judges import critic
from configs.shared import flow

PAPER = ipo_dpo.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    mini = scale == "mini"
    c = ipo_dpo.get_config("mini" if mini else "cogvideox_2b")
    judge = critic.get_config(scale)
    c.align.policy = "ipo"
    c.judge.update(judge.judge)
    c.judge.dimensions = tuple(flow.OVERALL)  # consistency with the text, faithfulness, smoothness
    c.reward.vlm_judge.update(judge.reward.vlm_judge)
    c.reward.update({"name": "vlm_judge", "dimension": "text_alignment"})
    c.reward.dimensions = tuple(flow.OVERALL)
    if mini:
        c.expected_time = "7 to 15 minutes on 2 CPU cores"
        c.search = ()  # but for beta, the settings of ipo_dpo, chosen with the verifier's labels
        c.align.beta = 5000.0  # a critic knows the clips that it learnt from: stay close to them
        c.judge.world.clips = "drawn"
        c.align.validation.per_prompt = 4
        c.evaluate.update({"verifier": True, "train_prompts": 50})
        return c
    c.rounds = 3
    c.align.real_weight = 0.0  # 0.1 with a folder of real videos as data.real
    c.align.reward.update(flow.OVERALL)
    c.mesh.context = 1  # of one mesh with the judge's rows, which context would not divide
    c.label.update({"prompts": 0, "per_prompt": 8})
    c.evaluate.best_of = ()
    return c
