"""Public generators as scales: their sizes, schedulers and clips, aligned on a file of preferences.

`--config.model.init=FOLDER` gives the weights: a diffusers pipeline, whose own configs then replace
the sizes, the scheduler and the text encoder below. Sources: the model cards and config files of
Wan-AI/Wan2.1-T2V-1.3B-Diffusers (and 14B, I2V-14B-480P), THUDM/CogVideoX-2b (and 5b, 5b-I2V).
"""

from ml_collections import ConfigDict

from vidpref.models.clip.vision import VIT_H
from vidpref.models.cogvideox import sizes as cogvideox_sizes
from vidpref.models.wan import sizes as wan_sizes

# Dimensions that files of preferences name.
DIMENSIONS = ("visual_quality", "motion_quality", "text_alignment", "overall")


def use(c: ConfigDict, backbone: str) -> None:
    """Turns the `paper` scale of a flow method into that of a backbone."""
    c.mesh.update({"data": -1, "fsdp": 16, "context": 2, "tensor": 1})
    _BACKBONES[backbone](c)
    c.model.init = ""  # folder of the diffusers pipeline
    c.model.tiled = False  # True: encode and decode by tiles, in less memory
    c.compute_dtype = "bfloat16"
    c.data.pairs = ""  # CSV, JSON lines, or a folder: README, "Your own preferences"
    c.data.layout = "auto"
    c.data.real = ""  # folder of real videos with captions.csv, where a method mixes some in
    c.data.held_out = 0.1  # of the prompts for testing, and as many for validation
    c.data.max_bad_fraction = 0.01
    c.data.hold_short = False  # True: a video that is too short holds its last frame
    c.data.encode_batch = 128
    c.superres.enabled = False
    c.sampler.negative_prompt = ""
    c.sampler.batch_size = 16
    c.reward = ConfigDict({"name": "none", "dimension": "accept", "dimensions": ("accept",)})
    c.reward.remote_judge = ConfigDict(
        {"base_url": "", "model": "", "api_key_env": "OPENAI_API_KEY", "concurrency": 16}
    )
    c.evaluate.update({"train_prompts": 4, "test_prompts": 16, "per_prompt": 1})
    c.evaluate.best_of = (1,)
    c.rounds = 1
    # All 0: every dimension that the file judges, weighed alike.
    c.align.reward = ConfigDict(dict.fromkeys(DIMENSIONS, 0.0))
    c.align.condition_dropout = 0.0
    c.align.train.best_metric = ""
    c.align.train.steps = 2000


def _data(frames: int, height: int, width: int, fps: float, buckets: tuple) -> ConfigDict:
    data = ConfigDict({"name": "preferences", "frames": frames, "height": height, "width": width})
    data.fps = fps
    data.buckets = buckets  # (height, width): the nearest in aspect ratio; () for the one above
    return data


def _wan2_1_1_3b(c: ConfigDict) -> None:
    c.data = _data(81, 480, 832, 16.0, ((480, 832), (832, 480)))
    c.model = ConfigDict({"name": "wan", "wan": ConfigDict(wan_sizes.T2V_1_3B)})
    c.model.wan.attention = "auto"
    c.model.autoencoder = ConfigDict()
    c.text = _text("umt5", 512, "hidden", clean=True)
    c.diffusion = ConfigDict({"name": "flow", "prediction": "velocity", "error_in": "velocity"})
    c.diffusion.flow = ConfigDict({"time": "logit_normal", "shift": 3.0, "spacing": "unipc"})
    c.diffusion.flow.min_time = 1e-3
    c.sampler = ConfigDict({"name": "unipc", "steps": 50, "eta": 0.0, "guidance_scale": 5.0})
    c.align.lora.targets = (r"(self|cross)/(query|key|value|out)/",)


def _wan2_1_14b(c: ConfigDict) -> None:
    _wan2_1_1_3b(c)
    c.model.wan = ConfigDict(wan_sizes.T2V_14B)
    c.model.wan.attention = "auto"


def _wan2_1_i2v_14b(c: ConfigDict) -> None:
    _wan2_1_1_3b(c)
    c.data.buckets = ()  # clips are drawn from first frames of encoded ones
    c.model.wan = ConfigDict(wan_sizes.I2V_14B)
    c.model.wan.attention = "auto"
    c.model.image_encoder = ConfigDict(VIT_H)


def _cogvideox(c: ConfigDict, transformer: dict, autoencoder: dict, snr_shift: float) -> None:
    c.data = _data(49, 480, 720, 8.0, ())
    c.model = ConfigDict({"name": "cogvideox", "cogvideox": ConfigDict(transformer)})
    c.model.cogvideox.attention = "auto"
    c.model.autoencoder = ConfigDict(autoencoder)
    c.text = _text("t5", 226, "seen", clean=False)
    c.diffusion = ConfigDict({"name": "ddpm", "prediction": "v", "error_in": "v"})
    c.diffusion.ddpm = ConfigDict({"schedule": "scaled_linear", "steps": 1000})
    c.diffusion.ddpm.update({"snr_shift": snr_shift, "zero_terminal_snr": True})
    c.diffusion.ddpm.spacing = "trailing"
    c.sampler = ConfigDict({"name": "cogvideox_ddim", "steps": 50, "eta": 0.0})
    c.sampler.guidance_scale = 6.0
    c.sampler.dynamic_guidance = False
    c.align.error_in = "v"
    c.align.lora.targets = (r"blocks/(query|key|value|out)/",)


def _cogvideox_2b(c: ConfigDict) -> None:
    _cogvideox(c, cogvideox_sizes.T2V_2B, cogvideox_sizes.VAE_2B, 3.0)


def _cogvideox_5b(c: ConfigDict) -> None:
    _cogvideox(c, cogvideox_sizes.T2V_5B, cogvideox_sizes.VAE_5B, 1.0)
    c.mesh.update({"fsdp": 64, "context": 1})  # all weights are trained


def _cogvideox_5b_i2v(c: ConfigDict) -> None:
    _cogvideox(c, cogvideox_sizes.I2V_5B, cogvideox_sizes.VAE_5B, 1.0)


def _text(name: str, length: int, padding: str, *, clean: bool) -> ConfigDict:
    text = ConfigDict({"name": name, "length": length, "dim": 4096, "path": ""})
    text.update({"padding": padding, "clean": clean, "dtype": "bfloat16"})
    return text


_BACKBONES = {
    "wan2_1_1_3b": _wan2_1_1_3b,
    "wan2_1_14b": _wan2_1_14b,
    "wan2_1_i2v_14b": _wan2_1_i2v_14b,
    "cogvideox_2b": _cogvideox_2b,
    "cogvideox_5b": _cogvideox_5b,
    "cogvideox_5b_i2v": _cogvideox_5b_i2v,
}
NAMES = tuple(_BACKBONES)
