"""McSc whole: a judge learns to reason about one dimension at a time, McDPO from what it says.

Grades with reasons -> judge that says them in a word, of pairs side by side (`judge`) -> the same
judge, that answers <think>...</think><answer>...</answer> (`judge-reasons`) -> trained by GRPO on
answers that it draws, for their form, the right word, and its own verdict on its reasoning
(`judge-reasoning`, ScDR) -> again, on two clips that it compares in all dimensions and as a whole
(`judge-hierarchy`, HCR) -> clips of the pre-trained generator, graded by it in quality and motion
-> McDPO. At `mini` scale the grades are the verifier's, of clips that the run's own generator drew,
and it scores the last clips too: tables go by it, and "The judge against the truth" shows the judge
beside it.

Paper:    "McSc: Motion-Corrective Preference Alignment with Self-Critic Hierarchical Reasoning";
          G, the weight of the KL term, rate, decay, batch and LoRA of both phases are the paper's,
          steps are to be set for the annotations at hand (2 epochs). The paper draws from
          Qwen2-VL-7B-Instruct as it is, `mini` first tunes a small model from nothing to answer at
          all.
Command:  python launch/tpu_run.py --config=mcsc:mini --workdir=runs/mcsc
          python launch/tpu_run.py --config=mcsc --workdir=runs/mcsc
          --config.model.init=Wan2.1-T2V-1.3B-Diffusers --config.data.pairs=pairs.jsonl
          --config.judge.base=Qwen2-VL-7B-Instruct
Hardware: mini 2 CPU cores; paper 8 chips of TPU v5p (compiled for them, measured:
          docs/pods.md), not run.
Time:     mini, measured on two idle CPU cores: 8 minutes, 1.3 of them for pre-training, 3.3 for the
          instruction, 0.7 for ScDR and 0.8 for HCR.
Number:   mini, measured with five seeds: behind its reasons the judge orders 58.2 % of pairs of
          held-out generated clips right (mean of visual quality, motion quality and text
          alignment), no more than before it learnt to reason; of two that it compares at once it
          names the same place in nearly all orders. McDPO on its grades gains by the verifier 1.6
          points of the three [1.3, 1.9] and 4.9 of acceptance [3.5, 6.3], and so does DPO
          (docs/claims.md).
"""

from configs import mcdpo
from configs.judges import critic
from configs.shared import flow

PAPER = mcdpo.PAPER
SCALES = ("mini", "paper")

DIMENSIONS = (*flow.OVERALL, "object_motion", "camera_motion")


def get_config(scale: str = "paper"):
    mini = scale == "mini"
    c = mcdpo.get_config("mini" if mini else "wan2_1_1_3b")
    judge = critic.get_config(scale)
    c.align.policy = "mcsc"
    c.judge.update(judge.judge)
    c.judge.dimensions = DIMENSIONS
    c.judge.critic.pairs = 0.0  # one video at a time (4.1)
    for phase in (c.judge.reasoning, c.judge.hierarchy):
        phase.update({"enabled": True, "group": 8, "kl": 0.07})
        phase.train.update({"steps": 20 if mini else 2000, "batch_size": 8 if mini else 16})
        phase.train.log_every = 1 if mini else 10
        optimizer = {"name": "adamw", "decay": "linear", "warmup_steps": 0}
        phase.train.optimizer.update({**optimizer, "learning_rate": 1e-4 if mini else 1e-6})
    c.reward.vlm_judge.update(judge.reward.vlm_judge)
    c.reward.vlm_judge.update({"answers": "reasoned", "max_tokens": 512})
    c.reward.update({"name": "vlm_judge", "dimension": "text_alignment"})
    c.reward.dimensions = DIMENSIONS
    if mini:
        c.expected_time = "about 8 minutes on 2 CPU cores"
        c.judge.train.steps = 450
        c.judge.critic.reasons.update({"steps": 400, "batch_size": 16})
        c.judge.critic.reasons.optimizer.update({"learning_rate": 6e-4, "b2": 0.95})
        # A judge knows the clips that it learnt from, so the policy stays close to them: the best
        # of four settings by the verifier on validation prompts.
        c.align.train.optimizer.learning_rate = 1e-5
        c.search = ()
        c.judge.world.clips = "drawn"
        c.reward.vlm_judge.update({"max_tokens": 80, "weighed": True})
        c.label.prompts, c.align.validation.per_prompt = 200, 4
        c.evaluate.update({"verifier": True, "train_prompts": 25})
        return c
    c.judge.critic.instruct = False
    c.judge.parts = ()
    c.judge.lora.rank = 64
    c.align.rows = "pairs"
    c.model[c.model.name].remat = "full"  # there is room
    c.align.reward.update(flow.OVERALL)
    c.mesh.context = 1  # of one mesh with the judge's rows, which context would not divide
    c.label.update({"prompts": 0, "per_prompt": 8})
    c.evaluate.best_of = ()
    return c
