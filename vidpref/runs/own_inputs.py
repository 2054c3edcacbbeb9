"""What a user gives the sampling program in files: prompts and noise, refused by name."""

import numpy as np

from vidpref.storage.copies import here
from vidpref.text_files import read_text
from vidpref.typing import Float

_AXES = {
    5: "(clips, channels, frames, height, width)",
    6: "(clips, steps, channels, frames, height, width)",
}


def read_prompts(flag: str, path: str) -> list[str]:
    """Returns the prompts of a text file, one a line; empty lines do not count.

    Args:
        flag: name of the flag, for messages.
        path: the file, in UTF-8.

    Raises:
        ValueError: see `read_text`; and no prompt.
    """
    try:
        text = read_text(here(path))
    except ValueError as error:
        raise ValueError(f"--{flag}={error}") from error
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"--{flag}={path} has no prompt")
    return prompts


def read_noise(flag: str, path: str, axes: int) -> Float[np.ndarray, "..."]:
    """Returns the noise of a .npy file, with its channels last.

    Args:
        flag: name of the flag, for messages.
        path: the file; channels first, as `_AXES` has it.
        axes: 5 for the noise that clips start from, 6 for that of every step.

    Raises:
        ValueError: no such file, no array of numbers, another number of axes, or a NaN.
    """
    what = f"--{flag}={path}"
    file = here(path)
    if not file.is_file():
        raise ValueError(f"{what}: no such file")
    try:
        noise = np.load(file)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{what}: no array of numpy can be read: {error}") from error
    if not isinstance(noise, np.ndarray):
        raise ValueError(f"{what}: several arrays; save one with numpy.save")
    if noise.ndim != axes:
        raise ValueError(f"{what} has shape {noise.shape}, wanted {_AXES[axes]} of the latents")
    if noise.dtype.kind not in "fiu" or not np.isfinite(noise).all():
        raise ValueError(f"{what}: wanted finite numbers, of a type such as float32")
    return np.moveaxis(noise, -4, -1).astype(np.float32)
