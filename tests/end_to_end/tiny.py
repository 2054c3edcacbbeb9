"""A config small enough to run the whole recipe in a test.

One level and Adam, because compiling takes most of the time; the networks and Muon have tests of
their own.
"""

TINY = (
    "model.unet3d.features=(32,)",
    "model.unet3d.blocks=(1,)",
    "model.unet3d.spatial=(False,)",
    "model.unet3d.temporal=(True,)",
    "model.unet3d.cross=(True,)",
    "text.dim=8",
    "pretrain.train.steps=6",
    "pretrain.train.optimizer.name=adam",
    "pretrain.train.optimizer.learning_rate=1e-3",
    "pretrain.train.batch_size=8",
    "pretrain.train.checkpoint_every=0",
    "pretrain.train.log_every=1",
    "align.train.steps=6",
    "align.train.batch_size=8",
    "align.train.checkpoint_every=0",
    "align.train.log_every=1",
    "align.validation.prompts=4",
    "align.validation.per_prompt=1",
    "sampler.steps=2",
    "sampler.batch_size=8",
    "label.prompts=6",
    "label.per_prompt=4",
    "evaluate.train_prompts=5",
    "evaluate.test_prompts=5",
    "evaluate.per_prompt=4",
)

# The same for the configs whose generator is the transformer with rectified flow.
TINY_FLOW = (
    *(field for field in TINY if not field.startswith("model.")),
    "model.dit.width=32",
    "model.dit.layers=2",
    "model.dit.head_dim=16",
    "model.dit.cond_dim=16",
)
