"""What an alignment on fresh clips refuses before anything is computed."""

import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.align import FRESH_ROWS
from vidpref.config.online import BACKPROPAGATED, FROM_ADVANTAGES, TRAJECTORIES
from vidpref.diffusion.samplers import Chain
from vidpref.diffusion.stochastic import step_weights
from vidpref.generation.generator import Generator
from vidpref.stages.online import backpropagation
from vidpref.stages.online.training import rule, step_noise
from vidpref.training.sharding import row_shards

ONLINE = (TRAJECTORIES, *FROM_ADVANTAGES, *BACKPROPAGATED)  # what learns from fresh clips alone
_ONE_ROW_A_PROMPT = (TRAJECTORIES, *BACKPROPAGATED)


def check(config: ConfigDict, generator: Generator) -> None:
    """Refuses an alignment on fresh clips that cannot work, before anything is computed.

    Raises:
        ValueError: names the field.
    """
    section, online = config.align, config.align.online
    if section.method in ONLINE and section.rows != FRESH_ROWS[0]:
        grouped = "" if section.method in BACKPROPAGATED else "groups of "
        raise ValueError(
            f"config.align.rows={section.rows!r}: {section.method} learns from {grouped}clips "
            f"that the policy draws; set it to {FRESH_ROWS[0]!r}"
        )
    if config.superres.enabled:
        raise ValueError(
            "config.superres.enabled: fresh clips are judged as the base generator draws them; "
            "align without super-resolution"
        )
    if section.method == TRAJECTORIES:
        try:
            step_weights(_silent_chain(generator), step_noise(section))
        except ValueError as error:
            raise ValueError(f"config.align.online: {error}") from error
        rule(section)
    elif section.method in BACKPROPAGATED:
        backpropagation.check(config, generator)
    if section.condition_dropout and generator.latent and config.sampler.guidance_scale != 1.0:
        raise ValueError(
            f"config.align.condition_dropout={section.condition_dropout}: what stands for no text "
            "is the prompt of guidance where clips are drawn; set it to 0"
        )
    if online.updates > 1 and section.train.best_metric and section.train.checkpoint_every:
        every = section.train.checkpoint_every
        if every % online.updates:
            raise ValueError(
                f"config.align.train.checkpoint_every={every}: runs are saved between drawings, "
                f"each for config.align.online.updates={online.updates} steps; a multiple of it"
            )


def check_rows(section: ConfigDict, mesh: Mesh) -> None:
    """Refuses numbers of clips that do not divide over updates and devices.

    Raises:
        ValueError: names the fields.
    """
    online, train = section.online, section.train
    by_prompt = section.method in _ONE_ROW_A_PROMPT or section.rows != FRESH_ROWS[0]
    rows = train.batch_size * (1 if by_prompt else online.group)
    parts = online.updates * train.accumulate * row_shards(mesh)
    if rows % parts:
        raise ValueError(
            f"config.align.train.batch_size={train.batch_size}: gives {rows} rows, which do not "
            f"divide over config.align.online.updates={online.updates} times accumulate="
            f"{train.accumulate} times {row_shards(mesh)} devices"
        )


def _silent_chain(generator: Generator) -> Chain:
    """The times of a generator's sampler, without a network."""
    nothing = jnp.zeros((1, *generator.clip_shape))
    return Chain(generator.process, lambda x_tau, tau: x_tau, nothing, generator.sampler.steps)
