"""What goes into a generator's first layer: noisy clip, first frame, low-resolution clip."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.condition import Condition
from vidpref.models.convolution import space_to_channels
from vidpref.typing import Array, Float


def network_inputs(
    x: Float[Array, "b t h w c"],
    condition: Condition,
    *,
    patch: tuple[int, int, int],
    residual: str,
    dtype: DTypeLike,
) -> tuple[Float[Array, "b t2 h2 w2 d"], Float[Array, "b t1 h w c"] | None]:
    """Moves patches into channels and concatenates what the condition has on the channels.

    The first frame is repeated over time (AIF, appendix A); the low-resolution clip is enlarged
    bilinearly.

    Args:
        x: the noisy clip.
        condition: its first frame and low-resolution clip are used where present.
        patch: (t, h, w) positions moved into channels.
        residual: see the generators.
        dtype: type of the first result.

    Returns:
        The first layer's input, and what the network's output is added to in float32: the first
        frame (t1 = 1), the enlarged clip (t1 = t) or None.
    """
    b, t, h, w, _ = x.shape
    inputs = [space_to_channels(x.astype(dtype), patch)]
    base = None
    if condition.first_frame is not None:
        frame = condition.first_frame[:, None].astype(jnp.float32)
        if residual == "first_frame":
            base = frame
        # one frame has nothing to move from time into channels, so it is repeated after that
        still = space_to_channels(frame.astype(dtype), (1, *patch[1:]))
        inputs.append(jnp.broadcast_to(still, (b, t // patch[0], *still.shape[2:])))
    if condition.low_res is not None:
        low = condition.low_res.astype(jnp.float32)
        large = jax.image.resize(low, (b, t, h, w, low.shape[-1]), "linear")
        if residual == "low_res":
            base = large
        inputs.append(space_to_channels(large.astype(dtype), patch))
    return jnp.concatenate(inputs, axis=-1), base


def check_inputs(
    x: Float[Array, "b t h w c"],
    condition: Condition,
    *,
    multiple: tuple[int, int, int],
    text_dim: int,
    first_frame: bool,
    low_res: bool,
    residual: str,
) -> None:
    """Checks a call of a generator against its fields.

    Raises:
        ValueError: clip no multiple of `multiple` (t, h, w), text of another width, a condition
            missing or too many, or a residual to an input that the model is not given.
    """
    if any(size % m for size, m in zip(x.shape[1:4], multiple, strict=True)):
        raise ValueError(
            f"a clip of {x.shape[1:4]} (t, h, w) does not fit the network: "
            f"it must be a multiple of {multiple}"
        )
    if condition.text.shape[-1] != text_dim:
        raise ValueError(
            f"the text embedding has width {condition.text.shape[-1]}, "
            f"the network was built for {text_dim}"
        )
    given = {"first_frame": first_frame, "low_res": low_res}
    for field, expected in given.items():
        if (getattr(condition, field) is not None) != expected:
            raise ValueError(
                f"condition.{field} {'is missing' if expected else 'is given'}, "
                f"but the network has {field}={expected}"
            )
    if residual and not given.get(residual):
        raise ValueError(
            f"residual={residual!r} must be '', 'first_frame' or 'low_res', "
            "and the network must be given that input"
        )
