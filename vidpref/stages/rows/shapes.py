"""What a batch of training rows looks like, before there is one."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vidpref.generation.generator import Generator
from vidpref.training.sharding import batch_sharding


@dataclasses.dataclass(frozen=True)
class RowShape:
    """What a row of `ClipRows` holds besides its clips and what the generator sees of them.

    Attributes:
        k: number of clips.
        motion: whether it has McDPO's two motion scores of each clip.
        preferences: number of dimensions in which it says which of two clips is better.
        real: whether there is a row of one real clip beside it.
        pair_score: whether it has the probability of its pair's scores.
    """

    k: int
    motion: bool = False
    preferences: int = 0
    real: bool = False
    pair_score: bool = False


def abstract_batch(
    row: RowShape,
    generator: Generator,
    batch_size: int,
    mesh: Mesh,
    *,
    text_dtype: str = "float32",
    null_text: bool = False,
    image_steps: int | None = None,
) -> dict:
    """Returns the global batch of `ClipRows` as `jax.ShapeDtypeStruct`s, spread over the mesh.

    Args:
        row: what a row holds.
        generator: network that is trained on the rows.
        batch_size: number of rows.
        mesh: devices.
        text_dtype: dtype of the embedded texts.
        null_text: whether rows have the embedding of what stands for no text.
        image_steps: steps in time of a record's `image_latent`; None: as many as the clip has.
    """
    sharding = batch_sharding(mesh)
    t, h, w, c = generator.clip_shape

    def struct(dtype: str, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, *shape), jnp.dtype(dtype), sharding=sharding)

    batch = {
        "clips": struct("float16" if generator.latent else "uint8", row.k, t, h, w, c),
        "reward": struct("float32", row.k),
        "text": struct(text_dtype, *generator.text_shape),
        "text_mask": struct("bool", generator.text_shape[0]),
    }
    if null_text:
        batch |= {f"null_{name}": batch[name] for name in ("text", "text_mask")}
    if row.motion:
        batch["motion"] = struct("float32", row.k, 2)
    if row.pair_score:
        batch["pair_score"] = struct("float32")
    if row.preferences:
        batch["preference"] = struct("int32", row.preferences)
    if generator.output == "video":
        batch["first_frame"] = struct("uint8", h, w, c)
    if generator.low_res_shape:
        batch["low_res"] = struct("uint8", t, *generator.low_res_shape, c)
    seen = generator.example()[2]
    if seen.image_latent is not None:
        _, steps, *grid = seen.image_latent.shape
        batch["image_latent"] = struct("float16", image_steps or steps, *grid)
    if seen.image_states is not None:
        batch["image_states"] = struct("float16", *seen.image_states.shape[1:])
    if row.real:
        batch["real"] = abstract_batch(
            RowShape(1),
            generator,
            batch_size,
            mesh,
            text_dtype=text_dtype,
            null_text=null_text,
            image_steps=image_steps,
        )
    return batch
