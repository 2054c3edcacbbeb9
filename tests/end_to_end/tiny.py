"""A config small enough to run the whole recipe in a test, through its true code path."""

TINY = (
    "model.unet3d.features=(32,32)",
    "text.dim=8",
    "pretrain.train.steps=6",
    "pretrain.train.batch_size=8",
    "pretrain.train.checkpoint_every=2",
    "pretrain.train.log_every=1",
    "align.train.steps=6",
    "align.train.batch_size=8",
    "align.train.checkpoint_every=2",
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
