"""What the flow-based methods share: a diffusion transformer, rectified flow, several dimensions.

The constants of the `paper` scale are those of VideoAlign ("Improving Video Generation with Human
Feedback", appendix I, table 10) where a method's own file does not replace them; its 1B transformer
(appendix F) works here on the pixels of a video folder. The `mini` scale runs the same code on the
mini world with a moving camera in minutes on a CPU; docs/claims.md has its numbers.
"""

from ml_collections import ConfigDict

from configs.shared import aif, backbones
from vidpref.models.dit import sizes as st_dit_sizes

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
    c.align.error_in = "velocity"
    c.align.reference = "previous"  # of a second round: the policy it starts from, or pretrained
    c.align.lora = ConfigDict({"rank": 64, "alpha": 128.0, "dropout": 0.0, "zero": "b"})
    c.align.lora.targets = (r"(self|spatial|full|cross)/(qkv|query|key_value|out)/",)
    c.align.reward = ConfigDict({**OVERALL, "object_motion": 0.0, "camera_motion": 0.0})
    c.align.normalize_reward = False
    c.reward.dimensions = DIMENSIONS
    if scale == "paper":
        c.mesh.update({"fsdp": 16, "tensor": 1})
        c.data.name = "video_folder"
        c.model = ConfigDict({"name": "st_dit", "st_dit": ConfigDict(st_dit_sizes.PAPER)})
        c.align.train.optimizer.update({"learning_rate": 5e-6, "warmup_steps": 0})
        c.align.train.optimizer.decay = "constant"
        return c
    c.expected_time = "3 to 4 minutes on 2 CPU cores"
    c.data.camera = True
    c.model.name = "dit"
    c.model.st_dit = ConfigDict(st_dit_sizes.MINI)
    c.model.st_dit.residual = "first_frame"
    # Pre-training measures the error of x0: weighted as velocities (by 1 / tau^2) the same network
    # learnt next to nothing in this time. Alignment measures velocities, as the paper does.
    c.diffusion.update({"prediction": "x0", "error_in": "x0"})
    c.diffusion.flow.min_time = 0.1
    c.align.train.steps = 150
    c.align.lora.update({"rank": 16, "alpha": 32.0})
    return c
