"""Which frames of a video a vision-language model sees."""

import math
from collections.abc import Callable

import numpy as np

from vidpref.config.nearest import nearest
from vidpref.typing import Int

PAIR = 2  # frames that become one patch in time


def choose_frames(
    count: int,
    fps: float,
    rule: str,
    *,
    rate: float = 2.0,
    least: int = 4,
    most: int = 768,
) -> Int[np.ndarray, " n"]:
    """Returns the numbers of the frames that are seen, in order.

    Args:
        count: frames of the video.
        fps: frames a second of the video.
        rule: "qwen2_vl" (also of Qwen2.5-VL) and "qwen3_vl" choose as the video processors of
            transformers do with `fps`, "videoreward" as VideoAlign does, and "unified_reward" takes
            eight.
        rate: frames a second that are wanted.
        least: fewest frames that are wanted.
        most: most frames that are wanted.

    Raises:
        ValueError: unknown rule, a video of too few frames, or without a rate.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} chooses no frames; {nearest(rule, RULES)}")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"a video of {fps} frames a second: its rate must be known to choose some")
    if not (math.isfinite(rate) and rate > 0 and 1 <= least <= most):
        raise ValueError(
            f"rate={rate}, least={least}, most={most} choose no frames: wanted are a positive rate "
            "and 1 <= least <= most"
        )
    if count < PAIR:
        raise ValueError(
            f"a video of {count} frame{'s' * (count != 1)} has no two to look at; give an image"
        )
    return RULES[rule](count, count / fps * rate, least, most).astype(np.int32)


def frames_per_second(chosen: int, count: int, fps: float) -> float:
    """Returns the rate of the frames that were chosen.

    Args:
        chosen: their number.
        count: frames of the video.
        fps: frames a second of the video.
    """
    return chosen / count * fps


def pair_times(indices: Int[np.ndarray, " n"], fps: float) -> list[float]:
    """Returns the mean time of every pair of frames in seconds, as Qwen3-VL writes it.

    Args:
        indices: result of `choose_frames`; of an odd number the last counts twice.
        fps: frames a second of the video.
    """
    times = [int(i) / fps for i in indices]
    times += times[-1:] * (len(times) % PAIR)
    return [(a + b) / 2 for a, b in zip(times[::PAIR], times[1::PAIR], strict=True)]


def _qwen2_vl(count: int, wanted: float, least: int, most: int) -> np.ndarray:
    most = min(most, count) // PAIR * PAIR
    chosen = math.floor(min(max(wanted, least), most, count) / PAIR) * PAIR
    step = count / max(chosen, PAIR)
    # float32, as torch.arange; the last frame is never among them
    return np.floor(np.float32(np.arange(math.ceil(count / step)) * step))


def _qwen3_vl(count: int, wanted: float, least: int, most: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(max(int(wanted), least), most, count)).round()


def _videoreward(count: int, wanted: float, least: int, most: int) -> np.ndarray:
    least = -(-least // PAIR) * PAIR
    chosen = min(max(wanted, least), min(most, count) // PAIR * PAIR)
    return np.rint(_linspace(count, round(chosen / PAIR) * PAIR))


def _unified_reward(count: int, wanted: float, least: int, most: int) -> np.ndarray:
    del wanted, least, most
    return np.floor(np.linspace(0, count - 1, 8))


def _linspace(count: int, number: int) -> np.ndarray:
    """0 to count - 1 in float32, from both ends to the middle as torch.linspace does."""
    step = np.float32(count - 1) / np.float32(max(number - 1, 1))
    steps = np.arange(number, dtype=np.float32) * step
    return np.where(np.arange(number) < number // 2, steps, np.float32(count - 1) - steps[::-1])


RULES: dict[str, Callable[[int, float, int, int], np.ndarray]] = {
    "qwen2_vl": _qwen2_vl,
    "qwen3_vl": _qwen3_vl,
    "videoreward": _videoreward,
    "unified_reward": _unified_reward,
}
