"""What the flow-based methods share: a diffusion transformer, rectified flow, several dimensions.

Paper:    VideoAlign, "Improving Video Generation with Human Feedback": the constants of the `paper`
          scale are those of its appendix I, table 10, where a method's own file does not replace
          them. Its 1B transformer (appendix D) works here on the pixels of a video folder.
Command:  python benchmarks/claims.py --workdir=runs/claims    # all methods, five seeds
Hardware: mini 2 CPU cores, on the mini world with a moving camera; paper in the methods' files.
Time:     mini, expected: 3 to 4 minutes a method.
Number:   mini, measured: the pre-trained generator's clips are accepted in 39 % on train and 26 %
          on held-out prompts; the methods' numbers are in their files and in docs/claims.md.
"""

from ml_collections import ConfigDict

from configs.shared import aif, backbones

PAPER = "Improving Video Generation with Human Feedback (VideoAlign)"

DIMENSIONS = (
    "accept",
    "visual_quality",
    "motion_quality",
    "object_motion",
    "camera_motion",
    "text_alignment",
)
# VideoAlign 5.2: the mean of visual quality, motion quality and text alignment.
OVERALL = {"visual_quality": 1 / 3, "motion_quality": 1 / 3, "text_alignment": 1 / 3}


def base(scale: str) -> ConfigDict:
    """Returns the fields that do not depend on the method.

    Args:
        scale: "mini", "paper" or one of `backbones.NAMES`.
    """
    if scale in backbones.NAMES:
        c = base("paper")
        backbones.use(c, scale)
        return c
    c = aif.base(scale)
    c.paper = PAPER
    c.expected_time = ""
    c.diffusion.update({"name": "flow", "prediction": "velocity", "error_in": "velocity"})
    c.diffusion.flow.time = "logit_normal"
    c.sampler.name = "euler"
    c.superres.enabled = False
    c.align.beta = 500.0
    c.align.error_in = "velocity"
    c.align.time = "uniform"  # VideoAlign appendix C; pre-training keeps its own times
    c.align.pairs, c.align.max_pairs_per_prompt = "best_worst", 3
    c.align.lora.update({"rank": 64, "alpha": 128.0})
    c.align.reward.update(OVERALL)
    c.reward.dimensions = DIMENSIONS
    if scale == "paper":
        c.mesh.fsdp = 16
        c.data.name = "video_folder"
        c.model.name = "st_dit"
        c.align.train.optimizer.update({"learning_rate": 5e-6, "warmup_steps": 0})
        c.align.train.optimizer.decay = "constant"
        return c
    c.expected_time = "3 to 4 minutes on 2 CPU cores"
    c.data.camera = True
    c.model.name = "dit"
    # Pre-training measures the error of x0: weighted as velocities (by 1 / tau^2) the same network
    # learnt next to nothing in this time. Alignment measures velocities, as the paper does.
    c.diffusion.update({"prediction": "x0", "error_in": "x0"})
    c.diffusion.flow.min_time = 0.1
    c.align.train.steps = 150
    c.align.lora.update({"rank": 16, "alpha": 32.0})
    return c
