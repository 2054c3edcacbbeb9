"""Every compiled program of a run that takes memory, planned for devices that need not be there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.generation.autoencoder import Decoder, build_autoencoder
from vidpref.generation.cascade import DrawsClips, drawing
from vidpref.generation.generator import build_base, build_superres
from vidpref.models.registry import backbone
from vidpref.stages.encode import encoding
from vidpref.stages.planning import plan_section, trained_sections
from vidpref.stages.rows.shapes import RowShape, abstract_batch
from vidpref.training.sharding import abstract_params, batch_sharding
from vidpref.typing import PyTree


def programs(config: ConfigDict, mesh: Mesh) -> dict[str, Callable[[], jax.stages.Lowered]]:
    """Returns {name: what lowers it}: the training steps, and how clips are encoded and drawn.

    Names are those of `trained_sections`, and "encode", "sample", "decode", "sample-superres" where
    the config has them. The text encoder is not among them: only its folder says how large it is.

    Args:
        config: the whole config.
        mesh: devices.
    """
    found = {
        section: lambda section=section: plan_section(config, section, mesh).lower()
        for section in trained_sections(config)
    }
    base = build_base(config)
    found["sample"] = lambda: _lower_drawing(base, _seen_by(base, config, mesh), mesh)
    if backbone(config.model.name).latents:
        decoder = Decoder(build_autoencoder(config.model))
        clips = jax.ShapeDtypeStruct(
            (config.sampler.batch_size, *base.clip_shape),
            jnp.float32,
            sharding=batch_sharding(mesh),
        )
        found["encode"] = lambda: _lower_encoding(decoder, config, mesh)
        found["decode"] = lambda: _lower_drawing(decoder, {"latent": clips}, mesh)
    if config.superres.enabled:
        large = build_superres(config)
        found["sample-superres"] = lambda: _lower_drawing(
            large, _seen_by(large, config, mesh), mesh
        )
    return found


def _lower_encoding(decoder: Decoder, config: ConfigDict, mesh: Mesh) -> jax.stages.Lowered:
    """The largest bucket; first frames of image-to-video, a frame each, are left out."""
    data = config.data
    sizes = [tuple(size) for size in data.buckets] or [(data.height, data.width)]
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    shape = (data.encode_batch, data.frames, height, width, 3)
    clips = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=batch_sharding(mesh))
    return encoding(decoder, None, mesh).lower(_params(decoder, mesh), None, clips, {})


def _lower_drawing(network: DrawsClips, batch: PyTree, mesh: Mesh) -> jax.stages.Lowered:
    rows = jax.tree.leaves(batch)[0].shape[0]
    keys = jax.ShapeDtypeStruct((rows, 2), jnp.uint32, sharding=batch_sharding(mesh))
    return drawing(network, mesh).lower(_params(network, mesh), keys, batch)


def _seen_by(generator: Any, config: ConfigDict, mesh: Mesh) -> dict:
    """What a generator's clips are drawn from, without clips and rewards."""
    network = backbone(config.model.name)
    batch = abstract_batch(
        RowShape(1),
        generator,
        config.sampler.batch_size,
        mesh,
        text_dtype="float32" if config.text.name == "words" else config.text.dtype,
        null_text=network.null_text == "words",
        image_steps=build_autoencoder(config.model).image_steps if network.latents else None,
    )
    return {name: value for name, value in batch.items() if name not in ("clips", "reward")}


def _params(network: Any, mesh: Mesh) -> PyTree:
    return abstract_params(jax.eval_shape(network.init, jax.random.key(0)), mesh)
