"""A Qwen-VL model that answers in words: instruction-tuned on grades and comparisons with reasons.

Paper:    "IPO: Iterative Preference Optimization for Text-to-Video Generation", 3.2 and 4.1.1. The
          paper tunes VILA of 13B and 40B parameters, which is not here: `paper` takes a
          Qwen2-VL-7B in its place. 16 frames, batches of 128, 2e-5 and 5 epochs are the paper's;
          how many annotations it has it does not say: set judge.train.steps for yours.
Command:  python launch/train_judge.py --config=critic --workdir=runs/critic
          --config.judge.base=Qwen2-VL-7B-Instruct --config.data.pairs=pairs.jsonl
          python launch/train_judge.py --config=critic:mini --workdir=runs/critic
Hardware: mini 2 CPU cores, on the mini world, a small Qwen2-VL from nothing; paper, not run.
Time:     mini, measured in a run of ipo:mini: 7 minutes on one CPU core that others used too.
Number:   mini, measured with seed 0, as the judge of ipo:mini: it orders 62.3, 58.0 and 63.7 % of
          the pairs of a held-out prompt right (visual quality, motion quality, text alignment);
          without judge.critic.ranking 54.9, 50.8 and 52.1 % (docs/measurements.md, "A judge that
          sees"), and `videoreward`, which scores, of as many pairs 65.0, 60.1 and 62.8 %.
"""

from configs.judges import videoreward

PAPER = "IPO: Iterative Preference Optimization for Text-to-Video Generation"
SCALES = ("mini", "paper")

# Frames of the mini world are seen as they are, and the texts are short. A model from nothing would
# learn to write before it learnt to see: it is asked for words alone.
MINI_QUESTIONS = {
    "answers": "probabilities",
    "templates": "mini_judge_templates",
    "frames": 8,
    "video_fps": 8.0,
    "min_pixels": 256,
    "max_pixels": 256,
    "most_tokens": 1024,
    "batch_size": 64,
    "dtype": "float32",
}


def get_config(scale: str = "paper"):
    c = videoreward.get_config(scale)
    c.paper = PAPER
    c.judge.name = c.reward.name = "vlm_judge"
    c.reward.vlm_judge.update(MINI_QUESTIONS if scale == "mini" else {"frames": 16})
    if scale == "mini":
        # Told grades alone it learns what prompts tell of them, and does not look at the clips.
        c.judge.critic.update({"pairs": 0.2, "thirds": True, "ranking": 1.0})
        c.judge.train.update({"steps": 800, "batch_size": 16})
        c.judge.train.optimizer.learning_rate = 1e-3
        # It first learns to answer at all, by gradients so large that Adam, with its usual 0.999,
        # would remember them for a thousand steps and hardly move on.
        c.judge.train.optimizer.b2 = 0.95
        return c
    c.judge.lora.rank = 0
    c.judge.parts = (r".",)
    c.judge.train.update({"steps": 5000, "batch_size": 128})
    c.judge.train.optimizer.update({"learning_rate": 2e-5, "warmup_steps": 0})
    return c
