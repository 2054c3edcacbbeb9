"""A reward model of videos that scores drawn clips with a gradient: VADER's judge."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.judge import SCORES
from vidpref.datasets.preferences import OVERALL
from vidpref.generation.autoencoder import Decoder, build_autoencoder
from vidpref.generation.generator import Generator
from vidpref.interop.video_reward import VideoRewardFolder, policy_shapes
from vidpref.language.reward_scores import Normalisation
from vidpref.language.seen_pixels import PIXELS, SeenPixels
from vidpref.models.lora import Adapted, LoRA, apply_network
from vidpref.models.qwen_vl.reward import QwenVLReward, from_arrays, shapes_of
from vidpref.pixels import clip_to_unit
from vidpref.rewards.registry import JUDGE
from vidpref.rewards.video_reward import ROW_TOKENS, keeping, open_folder
from vidpref.stages.judge_programs import judge_of_run, tokens_of_drawn
from vidpref.training.sharding import abstract_params
from vidpref.typing import Array, Float, PyTree

PREFIX = "judge_"  # of the arrays in a batch that the judge reads


@dataclasses.dataclass(frozen=True)
class PixelJudge:
    """Scores clips of the policy in training, with a gradient by their pixels.

    Attributes:
        module: the network.
        spec: its adapters; None for none.
        seen: how it sees clips.
        dimensions: what it scores, d names.
        normalisation: of its scores; None for none.
        decoder: makes pixels of latents; None where clips are pixels.
        folder: where its weights are; None where they need not be there.
        longest: tokens of a row at most, where no prompts are known.
        decoded: steps of a latent clip that are decoded, its first; None for all.
    """

    module: QwenVLReward
    spec: LoRA | None
    seen: SeenPixels
    dimensions: tuple[str, ...]
    normalisation: Normalisation | None
    decoder: Decoder | None
    folder: VideoRewardFolder | None
    longest: int
    decoded: int | None = None

    @classmethod
    def of(
        cls, config: ConfigDict, generator: Generator, mesh: Mesh, folder: Path | None = None
    ) -> "PixelJudge":
        """Returns the judge of a run.

        Args:
            config: the whole config; its reward is a `video_reward`.
            generator: whose clips are judged.
            mesh: devices.
            folder: of the model that the run trained; None where it is not there yet: the network
                is then as the config says, and has no weights.

        Raises:
            ValueError: frames, sizes or a folder that do not fit.
        """
        own, data = config.reward.video_reward, config.data
        given = str(folder / JUDGE) if folder is not None else own.folder
        opened, normalisation, spec = None, None, None
        if given:
            opened = open_folder(given, own.base, ())
            module, reader = opened.module(), opened.reader(own.template)
            spec, dimensions = opened.lora, opened.settings.dimensions
            normalisation = opened.settings.normalisation if own.normalise else None
            bytes_a_token = 1
        else:
            module, reader, spec, bytes_a_token = judge_of_run(config, mesh)
            dimensions = tuple(config.judge.dimensions)
        # activations are computed again for the gradient, however the model was trained
        module = module.clone(attention="auto", remat="full", dtype=own.dtype)
        clip = (data.frames, data.height, data.width)
        decoder = Decoder(build_autoencoder(config.model)) if generator.latent else None
        decoded = int(config.align.online.decoded) or None
        if decoded:
            clip = decoder.clip_shape((decoded, *generator.clip_shape[1:]))[:3]
        seen = SeenPixels(reader, clip, float(own.fps), int(config.align.online.seen))
        return cls(
            module,
            spec,
            seen,
            dimensions,
            normalisation,
            decoder,
            opened,
            tokens_of_drawn(config, reader, bytes_a_token),
            decoded,
        )

    def weights(self, wanted: Mapping[str, float], overall: str) -> dict[str, float]:
        """Returns the weight of each dimension in a reward; 0 where it does not count.

        Args:
            wanted: weights of dimensions and of `overall`.
            overall: "mean" or "sum", what that is of all dimensions.

        Raises:
            ValueError: a weight of what the judge does not score.
        """
        known = (*self.dimensions, OVERALL)
        for name in wanted:
            if name not in known:
                raise ValueError(f"config.align.reward.{name}: the judge scores {', '.join(known)}")
        every = wanted.get(OVERALL, 0.0) / (1 if overall == "sum" else len(self.dimensions))
        return {name: wanted.get(name, 0.0) + every for name in self.dimensions}

    def reward(
        self, params: PyTree, state: Array, tau: Array, batch: Mapping[str, Array]
    ) -> Float[Array, "b d"]:
        """Returns normalised scores, as `RewardGradientLoss` asks for them.

        Args:
            params: from `load`.
            state: clean clips, pixels or latents.
            tau: not looked at.
            batch: with the arrays of `rows`.
        """
        del tau
        if self.decoder is None:
            pixels = clip_to_unit(state)
        else:
            keys = jnp.zeros((len(state), 2), "uint32")  # nothing is drawn
            decode = jax.checkpoint(self.decoder.sample)
            pixels = decode(params["decoder"], keys, {"latent": state[:, : self.decoded]})
        names = (name for name in batch if name.startswith(PREFIX))
        arrays = {name.removeprefix(PREFIX): batch[name] for name in names}
        rows = from_arrays({**arrays, PIXELS: self.seen.patches(pixels)})
        scores = apply_network(self.module, params["scores"], rows)
        if self.normalisation is None:
            return scores
        mean, std = (
            jnp.array([by[name] for name in self.dimensions], scores.dtype)[None]
            for by in (self.normalisation.mean, self.normalisation.std)
        )
        return (scores - mean) / std

    def rows(self, prompts: list[str]) -> dict[str, dict[str, np.ndarray]]:
        """Returns what the judge reads of every prompt, by the prompt; all rows are of one size.

        Raises:
            ValueError: a prompt that it cannot read; names it.
        """
        found = {}
        for prompt in dict.fromkeys(prompts):
            try:
                found[prompt] = len(self.seen.row(prompt).row.tokens)
            except ValueError as error:
                raise ValueError(f"the judge cannot read the prompt {prompt!r}: {error}") from error
        room = self.seen.room(-(-max(found.values()) // ROW_TOKENS) * ROW_TOKENS)
        return {prompt: _named(self.seen.arrays(prompt, room)) for prompt in found}

    @functools.cached_property
    def row_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What `rows` gives of a prompt, as shapes, with room for the longest."""
        room = self.seen.room(self.longest)
        shapes = shapes_of(self.module.config, self.module.dimensions, room, jnp.float32)
        return _named({name: x for name, x in shapes.items() if name != PIXELS})

    def abstract(self, mesh: Mesh) -> PyTree:
        """Returns what `load` gives, as shapes with shardings."""
        target = abstract_params(policy_shapes(self.module, self.spec), mesh)
        params = keeping(self.module).all(target["params"])
        if self.spec is not None:
            params = Adapted(params, target["adapters"], self.spec)
        found = {"scores": params}
        if self.decoder is not None:
            shapes = jax.eval_shape(self.decoder.init, jax.random.key(0))
            found["decoder"] = abstract_params(shapes, mesh)
        return found

    def load(self, mesh: Mesh, decoder: PyTree | None = None) -> PyTree:
        """Returns the parameters that `reward` takes.

        Args:
            mesh: devices.
            decoder: parameters of the decoder, where clips are latents.
        """
        target = abstract_params(self.folder.shapes(self.module), mesh)
        found = {"scores": self.folder.load(self.module, target, keep=keeping(self.module).one)}
        return found if decoder is None else {**found, "decoder": decoder}


def check_pixel_judge(config: ConfigDict, generator: Generator) -> None:
    """Refuses a judge that no gradient goes through, before anything is computed.

    Raises:
        ValueError: names the field.
    """
    if config.reward.name != SCORES:
        raise ValueError(
            f"config.reward.name={config.reward.name!r}: vader learns from the gradient of a "
            f"reward by the pixels, which {SCORES!r} alone gives"
        )
    online, steps = config.align.online, generator.sampler.steps
    if online.last > steps:
        raise ValueError(
            f"config.align.online.last={online.last}: the sampler has {steps} steps "
            "(config.sampler.steps)"
        )
    steps = generator.clip_shape[0] if generator.latent else 0
    if online.decoded > steps:
        what = f"a latent clip has {steps} steps" if steps else "clips are pixels here"
        raise ValueError(f"config.align.online.decoded={online.decoded}: {what}")
    if online.seen % 2:
        raise ValueError(
            f"config.align.online.seen={online.seen}: must be an even number of frames"
        )


def _named(arrays: Mapping[str, PyTree]) -> dict[str, PyTree]:
    return {f"{PREFIX}{name}": x for name, x in arrays.items()}
