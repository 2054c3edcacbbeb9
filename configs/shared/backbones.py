"""Public generators as scales: their sizes, schedulers and clips, aligned on a file of preferences.

Paper:    none; the model cards and config files of Wan-AI/Wan2.1-T2V-1.3B-Diffusers (and 14B,
          I2V-14B-480P), THUDM/CogVideoX-2b (and 5b, 5b-I2V).
Command:  in the methods' files. `--config.model.init=FOLDER` gives the weights: a diffusers
          pipeline, whose own configs then replace the sizes, the scheduler and the text encoder.
Hardware: TPU v5e and v5p, for which real steps were compiled and none was run.
Number:   measured on small random weights: latents and frames equal diffusers' to 5e-6 and 3e-5
          (docs/ported.md).
"""

from ml_collections import ConfigDict

from vidpref.models.clip.sizes import VIT_H
from vidpref.models.cogvideox import sizes as cogvideox_sizes
from vidpref.models.wan import sizes as wan_sizes


def use(c: ConfigDict, backbone: str) -> None:
    """Turns the `paper` scale of a flow method into that of a backbone."""
    c.mesh.update({"fsdp": 16, "context": 2})
    c.compute_dtype = "bfloat16"
    c.data.name = "preferences"
    c.superres.enabled = False
    c.sampler.batch_size = 16
    c.reward.update({"name": "none", "dimensions": ()})
    c.evaluate.update({"train_prompts": 4, "test_prompts": 16, "per_prompt": 1})
    c.evaluate.best_of = (1,)
    c.rounds = 1
    # All 0: every dimension that the file judges, weighed alike.
    c.align.reward.update({"visual_quality": 0.0, "motion_quality": 0.0, "text_alignment": 0.0})
    c.align.train.update({"best_metric": "", "steps": 2000})
    _BACKBONES[backbone](c)


def _wan(c: ConfigDict, transformer: dict) -> None:
    c.data.update({"frames": 81, "height": 480, "width": 832, "fps": 16.0})
    c.data.buckets = ((480, 832), (832, 480))
    c.model.name = "wan"
    c.model.wan.update({**transformer, "attention": "auto"})
    c.text.update({"name": "umt5", "length": 512, "padding": "hidden", "clean": True})
    c.diffusion.update({"name": "flow", "prediction": "velocity", "error_in": "velocity"})
    c.diffusion.flow.update({"time": "logit_normal", "shift": 3.0, "spacing": "unipc"})
    c.sampler.update({"name": "unipc", "steps": 50, "guidance_scale": 5.0})
    c.align.lora.targets = (r"(self|cross)/(query|key|value|out)/",)


def _wan2_1_1_3b(c: ConfigDict) -> None:
    _wan(c, wan_sizes.T2V_1_3B)


def _wan2_1_14b(c: ConfigDict) -> None:
    _wan(c, wan_sizes.T2V_14B)


def _wan2_1_i2v_14b(c: ConfigDict) -> None:
    _wan(c, wan_sizes.I2V_14B)
    c.data.buckets = ()  # clips are drawn from first frames of encoded ones
    c.model.image_encoder.update(VIT_H)


def _cogvideox(c: ConfigDict, transformer: dict, autoencoder: dict, snr_shift: float) -> None:
    c.data.update({"frames": 49, "height": 480, "width": 720, "fps": 8.0})
    c.model.name = "cogvideox"
    c.model.cogvideox.update({**transformer, "attention": "auto"})
    c.model.autoencoder.update(autoencoder)
    c.text.update({"name": "t5", "length": 226, "padding": "seen"})
    c.diffusion.update({"name": "ddpm", "prediction": "v", "error_in": "v"})
    c.diffusion.ddpm.update({"schedule": "scaled_linear", "zero_terminal_snr": True})
    c.diffusion.ddpm.snr_shift = snr_shift
    c.sampler.update({"name": "cogvideox_ddim", "steps": 50, "guidance_scale": 6.0})
    c.align.error_in = "v"
    c.align.lora.targets = (r"blocks/(query|key|value|out)/",)


def _cogvideox_2b(c: ConfigDict) -> None:
    _cogvideox(c, cogvideox_sizes.T2V_2B, cogvideox_sizes.VAE_2B, 3.0)


def _cogvideox_5b(c: ConfigDict) -> None:
    _cogvideox(c, cogvideox_sizes.T2V_5B, cogvideox_sizes.VAE_5B, 1.0)
    c.mesh.update({"fsdp": 64, "context": 1})  # all weights are trained


def _cogvideox_5b_i2v(c: ConfigDict) -> None:
    _cogvideox(c, cogvideox_sizes.I2V_5B, cogvideox_sizes.VAE_5B, 1.0)


_BACKBONES = {
    "wan2_1_1_3b": _wan2_1_1_3b,
    "wan2_1_14b": _wan2_1_14b,
    "wan2_1_i2v_14b": _wan2_1_i2v_14b,
    "cogvideox_2b": _cogvideox_2b,
    "cogvideox_5b": _cogvideox_5b,
    "cogvideox_5b_i2v": _cogvideox_5b_i2v,
}
NAMES = tuple(_BACKBONES)
