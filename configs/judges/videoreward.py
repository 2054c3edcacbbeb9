"""VideoReward: a Qwen2-VL that scores visual quality, motion quality and text alignment of videos.

Paper:    VideoAlign, "Improving Video Generation with Human Feedback", 3.2; the constants of the
          `paper` scale are those of its appendix I, table 11. Where its code differs: 3 epochs
          instead of 2, and LoRA dropout 0.05.
Command:  python launch/train_judge.py --config=videoreward --workdir=runs/videoreward
          --config.judge.base=Qwen2-VL-2B-Instruct --config.data.pairs=pairs.csv
          python launch/train_judge.py --config=videoreward:mini --workdir=runs/judge
Hardware: mini 2 CPU cores, on the mini world, a small Qwen2-VL from nothing; paper, not run: one
          host of 8 accelerators with 80 GB, or 16 chips.
Time:     mini, measured: 70 s on one CPU core that others used too; paper, not measured:
          its steps are 2 epochs of the paper's 182k pairs in batches of 32.
Number:   mini, measured over five seeds: of the pairs of held-out prompts that have a winner,
          79.6 % [78.0, 81.1] are ordered right in visual quality, 78.8 % [76.4, 81.1] in motion
          quality and 64.9 % [59.0, 70.4] in text alignment; nothing was tuned (docs/claims.md).
          Paper, VideoAlign's own: 61.26 % with ties and 73.59 % without on VideoGen-RewardBench.
"""

from vidpref.config.schema import new_config

PAPER = "Improving Video Generation with Human Feedback (VideoAlign)"
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = _paper()
    if scale == "mini":
        _mini(c)
    return c


def _paper():
    c = new_config()
    c.paper = PAPER
    c.mesh.fsdp = 8
    c.data.name = "preferences"
    c.judge.name = "video_reward"
    c.judge.lora.update({"rank": 64, "alpha": 128.0})
    c.judge.train.update({"steps": 11_400, "batch_size": 32, "checkpoint_every": 500})
    # constant after a warm-up of 5 % of the steps
    c.judge.train.optimizer.update({"name": "adam", "learning_rate": 2e-6, "decay": "constant"})
    c.judge.train.optimizer.update({"warmup_steps": 570, "clip_norm": 1.0})
    return c


def _mini(c) -> None:
    c.mesh.fsdp = 1
    c.compute_dtype = "float32"
    c.data.name = "miniworld"
    # Clips of 8 frames of 16x16 pixels, all of which are seen as they are: 4 x 16 features.
    c.judge.scratch.update({"layers": 2, "width": 64, "heads": 2})
    c.judge.scratch.update({"vision_layers": 1, "vision_width": 64, "patch": 2})
    c.judge.template = "mini.txt"
    c.judge.update({"fps": 8.0, "min_pixels": 256, "max_pixels": 256, "most_tokens": 512})
    c.judge.update({"remat": "none", "attention": "xla", "export_dtype": "float32"})
    c.judge.parts = (r".",)
    c.judge.lora.rank = 0
    c.judge.score_batch = 64
    c.judge.train.update({"steps": 300, "batch_size": 16, "checkpoint_every": 100})
    c.judge.train.optimizer.update({"learning_rate": 2e-3, "warmup_steps": 20, "decay": "linear"})
