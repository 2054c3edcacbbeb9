"""The tiny pipelines of diffusers beside ours: the same call of both transformers."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import diffusers
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.tiny_pipelines import IMAGE_DIM, LATENT_CHANNELS, TEXT_DIM, tiny_cogvideox, tiny_wan
from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.condition import Condition
from vidpref.typing import PyTree

GRID = (3, 4, 6)  # of the latent: t, h, w
TOKENS = 16
TOKENS_BESIDE_STATES = 512  # diffusers: the last 512 are text, those before are of the image
STEPS = np.array([36, 999])  # of the original's 1000
MAKERS: dict[str, Callable[[Path], diffusers.DiffusionPipeline]] = {
    "wan": tiny_wan,
    "wan_i2v": lambda path: tiny_wan(path, image_to_video=True),
    "cogvideox": tiny_cogvideox,
    "cogvideox_i2v": lambda path: tiny_cogvideox(path, image_to_video=True),
}


@dataclasses.dataclass
class Pair:
    """A pipeline of diffusers and its folder, and two clips to denoise."""

    pipe: diffusers.DiffusionPipeline
    folder: PipelineFolder

    def __post_init__(self):
        self.module = self.folder.transformer()
        image = self.module.in_channels - LATENT_CHANNELS
        attends = self.folder.attends_to_image
        tokens = TOKENS_BESIDE_STATES if attends else TOKENS
        rng = np.random.default_rng(0)
        shapes = [(2, *GRID, LATENT_CHANNELS), (2, tokens, TEXT_DIM), (2, *GRID, image)]
        self.x, self.text, self.image = (rng.normal(size=s).astype(np.float32) for s in shapes)
        self.states = rng.normal(size=(2, 5, IMAGE_DIM)).astype(np.float32) if attends else None

    @property
    def inputs(self) -> tuple:
        """Of our transformer."""
        condition = Condition(
            text=self.text,
            text_mask=np.ones(self.text.shape[:2], bool),
            image_latent=self.image if self.image.size else None,
            image_states=self.states,
        )
        return self.x, jnp.asarray((STEPS + 1) / 1000, jnp.float32), condition

    def shapes(self) -> PyTree:
        """Of our parameters, boxed."""
        return jax.eval_shape(self.module.init, jax.random.key(0), *self.inputs)["params"]

    def load(self) -> PyTree:
        """Our parameters, on eight devices."""
        mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("fsdp", "tensor"))

        def target(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            axes = ("fsdp", "tensor")[-leaf.ndim :]
            fitting = (
                axis if size % mesh.shape[axis] == 0 else None
                for axis, size in zip(axes, leaf.shape[-2:], strict=True)
            )
            spec = PartitionSpec(*([None] * (leaf.ndim - len(axes))), *fitting)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

        return self.folder.load_transformer(
            self.module, jax.tree.map(target, nn.unbox(self.shapes()))
        )

    def theirs(self, transformer: torch.nn.Module) -> np.ndarray:
        """What a transformer of diffusers makes of the inputs."""
        x = torch.from_numpy(np.concatenate([self.x, self.image], axis=-1))
        text = torch.from_numpy(self.text)
        with torch.no_grad():
            if self.folder.family.name == "wan":
                time = torch.from_numpy((STEPS + 1).astype(np.float32))
                states = None if self.states is None else torch.from_numpy(self.states)
                out = transformer(x.permute(0, 4, 1, 2, 3), time, text, states).sample
                return out.permute(0, 2, 3, 4, 1).numpy()
            rotary = None
            if transformer.config.use_rotary_positional_embeddings:
                t, h, w = GRID
                rotary = self.pipe._prepare_rotary_positional_embeddings(8 * h, 8 * w, t, "cpu")
            out = transformer(
                x.permute(0, 1, 4, 2, 3), text, torch.from_numpy(STEPS), image_rotary_emb=rotary
            ).sample
            return out.permute(0, 1, 3, 4, 2).numpy()


def make_pair(kind: str, path: Path) -> Pair:
    """Returns a pipeline of `MAKERS` that is written to `path`."""
    pipe = MAKERS[kind](path)
    return Pair(pipe, PipelineFolder(path))
