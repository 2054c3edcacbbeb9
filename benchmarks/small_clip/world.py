"""What a small CLIP learns from: frames of rendered clips with their prompts, and preferences."""

from collections.abc import Iterator, Sequence

import numpy as np

from vidpref.datasets.miniworld import DEFECTS, WorldPrompt, render_batch
from vidpref.datasets.miniworld.defects import Example, possible
from vidpref.rewards.verifier import Verifier
from vidpref.typing import Float, Int, UInt8


def true_clips(
    prompts: Sequence[WorldPrompt], per_prompt: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "p n t h w 3"]:
    """Renders clips that do what each of p prompts says."""
    seeds = rng.integers(0, 2**31, (len(prompts), per_prompt))
    examples = [
        Example(prompt, int(seed), "")
        for prompt, own in zip(prompts, seeds, strict=True)
        for seed in own
    ]
    clips = render_batch([example.scene() for example in examples])
    return clips.reshape(len(prompts), per_prompt, *clips.shape[1:])


def compared_clips(
    prompts: Sequence[WorldPrompt], per_prompt: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "n 2 t h w 3"], Int[np.ndarray, " n"], Float[np.ndarray, "n 2"]]:
    """Renders pairs of clips of one prompt, each true or, as often, wrong in one way.

    Args:
        prompts: of the world.
        per_prompt: pairs of a prompt.
        rng: for the clips.

    Returns:
        The clips; the number of each pair's prompt; and how the verifier prefers them, (1, 0) or
        (0, 1) where it accepts one of them alone and (1/2, 1/2) otherwise.
    """
    examples = []
    for prompt in prompts:
        ways = [name for name in DEFECTS if possible(name, prompt)]
        for _ in range(2 * per_prompt):
            defect = str(rng.choice(ways)) if rng.random() < 0.5 else ""
            examples.append(Example(prompt, int(rng.integers(2**31)), defect))
    clips = render_batch([example.scene() for example in examples])
    said = Verifier(("accept",)).score(clips, [example.prompt.text for example in examples])
    accepted = said.scores["accept"].reshape(-1, 2)
    preferred = 0.5 + 0.5 * (accepted - accepted[:, ::-1])
    numbers = np.repeat(np.arange(len(prompts)), per_prompt)
    return clips.reshape(-1, 2, *clips.shape[1:]), numbers, preferred.astype(np.float32)


def captioned_frames(
    clips: UInt8[np.ndarray, "p n t h w 3"], size: int, rng: np.random.Generator
) -> Iterator[tuple[UInt8[np.ndarray, "b h w 3"], Int[np.ndarray, " b"]]]:
    """Yields a frame each of `size` prompts, which are others, and the numbers of the prompts."""
    count, per_prompt, length = clips.shape[:3]
    size = min(size, count)
    while True:
        prompts = rng.permutation(count)[:size]
        chosen = rng.integers(per_prompt, size=size), rng.integers(length, size=size)
        yield clips[prompts, *chosen], prompts


def compared_frames(
    clips: UInt8[np.ndarray, "n 2 t h w 3"],
    prompts: Int[np.ndarray, " n"],
    preferred: Float[np.ndarray, "n 2"],
    size: int,
    rng: np.random.Generator,
) -> Iterator[tuple]:
    """Yields frames of one time of both clips of a pair, their prompts, and the preferences."""
    while True:
        rows, times = rng.integers(len(clips), size=size), rng.integers(clips.shape[2], size=size)
        yield clips[rows, :, times], prompts[rows], preferred[rows]
