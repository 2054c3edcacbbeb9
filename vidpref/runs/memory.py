"""Too little memory on a device or host: which stage asked, and what would make it smaller."""

import contextlib
import re
from collections.abc import Iterator

import jax

# First word of a stage's name -> fields that shrink what it holds at once, and how.
_ROWS = "config.{0}.train.accumulate higher or config.{0}.train.batch_size lower"
_REMAT = "config.model.NETWORK.remat=full, or offload"
_DRAWN = "config.sampler.batch_size lower"
_SMALLER = {
    "latents": ("config.data.encode_batch lower", "config.model.tiled=True"),
    "text": ("config.text.dtype=bfloat16", "config.text.length lower"),
    "pretrain": (_ROWS.format("pretrain"), _REMAT),
    "superres": (_ROWS.format("superres"), _REMAT),
    "sample": (_DRAWN, "config.model.tiled=True for latents"),
    "align": (
        *(_ROWS.format("align"), _REMAT, "config.align.lora.rank=64"),
        *("config.align.lora.base=int8", _DRAWN),
    ),
    "latent": (_ROWS.format("align"), "config.align.layers lower"),  # latent-reward
    "import": (),
}
_BYTES = re.compile(r"allocat\w* (\d{7,}) ?bytes")


class OutOfMemory(MemoryError):
    """A stage asked for more memory than there is."""


@contextlib.contextmanager
def naming_the_stage(name: str) -> Iterator[None]:
    """Turns an allocation that failed into `OutOfMemory`, which says what would make it smaller.

    Args:
        name: the stage's name.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        device = isinstance(error, jax.errors.JaxRuntimeError)
        if (device and "RESOURCE_EXHAUSTED" not in str(error)) or isinstance(error, OutOfMemory):
            raise
        raise OutOfMemory(_sentence(name, str(error), "device" if device else "host")) from error


def _sentence(name: str, said: str, whose: str) -> str:
    asked = _BYTES.search(said)
    size = f" {int(asked[1]) / 2**30:.1f} GiB in one piece" if asked else ""
    smaller = [*_SMALLER.get(name.partition("-")[0], ()), "more devices by config.mesh.fsdp"]
    return (
        f"the stage {name} asked for{size or ' more memory'}, and the {whose} has not that much. "
        f"What makes it smaller: {'; '.join(smaller)}. One GPU: --config=NAME:SCALE@24gb (README). "
        "What is done is kept."
    )
