"""What the three methods of the AIF paper share: data, generator, judge, training settings.

Paper: "Improving Dynamic Object Interactions in Text-to-Video Generation with AI Feedback";
appendix A gives every constant of the `paper` scale. The `mini` scale runs the same code on the
embedded mini world in minutes on a CPU; docs/measurements.md says how its constants were chosen.
"""

from ml_collections import ConfigDict

from vidpref.models.unet3d import sizes as unet3d_sizes

PAPER = "Improving Dynamic Object Interactions in Text-to-Video Generation with AI Feedback"


def base(scale: str) -> ConfigDict:
    """Returns the fields that do not depend on the method, at `scale` ("mini" or "paper")."""
    return {"mini": _mini, "paper": _paper}[scale]()


def _training(*, learning_rate: float, warmup_steps: int, **fields) -> ConfigDict:
    """One section for `vidpref.training.loop.fit`; Adam and clipping as in the paper."""
    c = ConfigDict()
    c.steps = 0
    c.batch_size = 64
    c.accumulate = 1
    c.optimizer = ConfigDict({"name": "adam", "learning_rate": learning_rate})
    c.optimizer.warmup_steps = warmup_steps
    c.optimizer.decay = "linear"
    c.optimizer.clip_norm = 1.0
    c.optimizer.weight_decay = 0.0
    c.optimizer.b1, c.optimizer.b2 = 0.9, 0.999
    c.ema_decay = 0.0
    c.log_every = 10
    c.checkpoint_every = 500
    c.keep_last = 5
    c.best_metric = ""
    c.update(fields)
    return c


def _paper() -> ConfigDict:
    c = ConfigDict()
    c.paper = PAPER
    c.expected_time = ""  # printed at the start
    c.seed = 0
    c.rounds = 1
    c.compute_dtype = "bfloat16"
    # 128 cores: 64 rows over data 8 x fsdp 8; the two clips of a pair over context.
    c.mesh = ConfigDict({"data": -1, "fsdp": 8, "context": 2, "tensor": 1})

    c.data = ConfigDict({"name": "something_something_v2"})
    c.data.path = ""  # the data set's folder; README, "Your own videos"
    c.data.prompts = "something_something_v2.csv"  # in data/prompts/, or a path
    c.data.validation_fraction = 0.1  # of the train prompts, for choosing the checkpoint
    c.data.frames, c.data.height, c.data.width = 16, 24, 40
    c.data.high_height, c.data.high_width = 192, 320
    c.data.max_bad_fraction = 0.01

    c.text = ConfigDict({"name": "t5", "length": 64, "dim": 4096})
    c.text.path = ""  # folder of the encoder, or of a diffusers pipeline that has it
    c.text.update({"padding": "hidden", "clean": False, "dtype": "bfloat16"})
    c.model = ConfigDict({"name": "unet3d", "unet3d": ConfigDict(unet3d_sizes.PAPER_BASE)})
    c.diffusion = ConfigDict({"name": "ddpm", "prediction": "eps", "error_in": "eps"})
    c.diffusion.ddpm = ConfigDict({"schedule": "cosine", "steps": 1000})
    c.diffusion.flow = ConfigDict({"time": "uniform", "shift": 1.0, "min_time": 1e-3})
    c.sampler = ConfigDict({"name": "ddim", "steps": 50, "eta": 0.0, "guidance_scale": 5.0})
    c.sampler.batch_size = 128

    c.pretrain = ConfigDict({"condition_dropout": 0.1})
    c.pretrain.train = _training(learning_rate=1e-4, warmup_steps=10_000, steps=125_000)
    c.superres = ConfigDict({"enabled": True, "low_res_augmentation": 0.3, "sampler_steps": 50})
    c.superres.model = ConfigDict({"name": "unet3d"})
    c.superres.model.unet3d = ConfigDict(unet3d_sizes.PAPER_SUPERRES)
    c.superres.train = _training(learning_rate=1e-4, warmup_steps=10_000, steps=125_000)

    c.label = ConfigDict({"prompts": 0, "per_prompt": 128})  # 0: every train prompt
    c.reward = ConfigDict({"name": "remote_judge", "dimension": "accept"})
    c.reward.remote_judge = ConfigDict(
        {"base_url": "", "model": "", "api_key_env": "OPENAI_API_KEY", "concurrency": 16}
    )

    c.search = ()  # what launch/compare.py tries: each a string of overrides
    c.align = ConfigDict({"policy": "", "reduction": "mean"})  # policy "": named by its method
    c.align.train = _training(
        learning_rate=1e-4, warmup_steps=10_000, steps=10_000, best_metric="accept"
    )
    c.align.validation = ConfigDict({"prompts": 12, "per_prompt": 8})

    c.evaluate = ConfigDict({"train_prompts": 0, "test_prompts": 0, "per_prompt": 32})
    c.evaluate.best_of = (8, 32)
    return c


def _mini() -> ConfigDict:
    c = _paper()
    c.expected_time = "about 6 minutes on 2 CPU cores"
    c.compute_dtype = "float32"
    c.mesh.update({"fsdp": 1, "context": 1})
    c.data = ConfigDict({"name": "miniworld", "scenes_per_prompt": 1, "camera": False})
    c.data.frames, c.data.height, c.data.width = 8, 16, 16
    c.data.high_height, c.data.high_width = 32, 32
    c.text.update({"name": "words", "length": 12, "dim": 32, "dtype": "float32"})
    c.model.unet3d = ConfigDict(unet3d_sizes.MINI)
    c.model.dit = ConfigDict({"patch": (4, 4, 4), "width": 128, "layers": 4, "head_dim": 32})
    c.model.dit.update({"cond_dim": 128, "residual": "first_frame"})
    # A network that predicts x0 as the first frame plus a residual, with its error measured there:
    # equal weight for all times puts the most into high noise, where the motion is decided.
    c.diffusion.update({"prediction": "x0", "error_in": "x0"})
    c.sampler.update({"steps": 8, "guidance_scale": 1.0, "batch_size": 200})

    c.pretrain.condition_dropout = 0.0
    c.pretrain.train = _training(
        learning_rate=0.02, warmup_steps=20, steps=600, batch_size=32, ema_decay=0.99
    )
    c.pretrain.train.optimizer.name = "muon"
    c.superres.update({"enabled": False, "sampler_steps": 4})
    c.superres.model.unet3d = ConfigDict(unet3d_sizes.MINI_SUPERRES)
    c.superres.train = c.pretrain.train.copy_and_resolve_references()
    c.superres.train.steps = 300

    c.label = ConfigDict({"prompts": 400, "per_prompt": 8})
    c.reward = ConfigDict({"name": "verifier", "dimension": "accept"})

    # 64 clips a step for every method: 64 rows of one clip, or 32 pairs.
    c.align.train = _training(learning_rate=1e-3, warmup_steps=10, steps=300, batch_size=64)
    c.align.train.optimizer.name = "adamw"
    c.align.validation = ConfigDict({"prompts": 100, "per_prompt": 2})

    c.evaluate = ConfigDict({"train_prompts": 250, "test_prompts": 0, "per_prompt": 4})
    c.evaluate.best_of = (1, 4)
    return c
