"""The training steps of a config, planned for devices that need not be there."""

import dataclasses

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.align import FRESH_ROWS
from vidpref.generation import guided
from vidpref.generation.autoencoder import build_autoencoder
from vidpref.generation.generator import build_base, build_superres
from vidpref.models.registry import backbone
from vidpref.stages.align import alignment
from vidpref.stages.latent_reward import reward_training
from vidpref.stages.online.training import abstract_step_batch
from vidpref.stages.pretrain import pretraining
from vidpref.stages.rows.shapes import abstract_batch
from vidpref.stages.train import Training
from vidpref.training.sharding import abstract_params
from vidpref.typing import PyTree

SECTIONS = ("align", "pretrain", "superres")


@dataclasses.dataclass(frozen=True)
class Planned:
    """A training step and the shapes of what it is given.

    Attributes:
        training: what is trained.
        params: parameters of the whole network that is trained or stands beside what is.
        frozen: what the loss needs besides the trainable parameters.
        batch: the global batch.
        scenes: the batch of scenes that the policy draws it for; None where clips are there.
    """

    training: Training
    params: PyTree
    frozen: PyTree
    batch: PyTree
    scenes: PyTree | None = None

    def lower(self) -> jax.stages.Lowered:
        """Returns the step, lowered for the mesh."""
        return self.training.plan.lower(self.frozen, self.batch)


def trained_sections(config: ConfigDict) -> list[str]:
    """Returns the sections of a config that a run of it trains by."""
    fresh = not backbone(config.model.name).pretrained
    used = {"align": True, "pretrain": fresh, "superres": config.superres.enabled}
    return [section for section in SECTIONS if used[section]]


def section_training(config: ConfigDict, section: str, mesh: Mesh) -> Training:
    """Returns what a section of a config trains.

    Args:
        config: the whole config.
        section: one of `SECTIONS`.
        mesh: devices.

    Raises:
        ValueError: a setting that cannot work.
    """
    generator = build_superres(config) if section == "superres" else build_base(config)
    if section != "align":
        return pretraining(config, section, generator, mesh)
    if config.align.method == guided.METHOD:
        return reward_training(config.align, generator, mesh)
    return alignment(config, generator, mesh)


def plan_section(config: ConfigDict, section: str, mesh: Mesh) -> Planned:
    """Returns the training step of a section, of a first round; arguments as `section_training`.

    The step, what is frozen and the batch are those that the stage runs with.
    """
    training = section_training(config, section, mesh)
    boxed = jax.eval_shape(training.plan.tuning.network, jax.random.key(0))
    params = abstract_params(boxed, mesh)
    network = backbone(config.model.name)
    fresh = section == "align" and config.align.rows in FRESH_ROWS
    guided = fresh and config.sampler.guidance_scale != 1.0
    dropped = section == "align" and config.align.condition_dropout > 0
    batch = abstract_batch(
        training.row,
        training.generator,
        training.plan.settings.batch_size,
        mesh,
        text_dtype="float32" if config.text.name == "words" else config.text.dtype,
        null_text=(dropped or guided) and network.null_text == "words",
        image_steps=build_autoencoder(config.model).image_steps if network.latents else None,
    )
    inside = training.judge
    judge = None if inside is None else inside.params(mesh)
    frozen, scenes = training.frozen(params, judge=judge), None
    if fresh:
        scenes = {name: x for name, x in batch.items() if name not in ("clips", "reward", "motion")}
        scenes["scene"] = jax.ShapeDtypeStruct(
            scenes["text"].shape[:1], "int32", sharding=scenes["text"].sharding
        )
        if inside is not None:
            rows, sharding = len(scenes["text"]), scenes["text"].sharding
            scenes |= {
                name: jax.ShapeDtypeStruct((rows, *x.shape), x.dtype, sharding=sharding)
                for name, x in inside.rows.items()
            }
        batch = abstract_step_batch(config, build_base(config), training, frozen, scenes)
    return Planned(training, params, frozen, batch, scenes)
