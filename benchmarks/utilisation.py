"""FLOP a second of contenders, and their share of what a matrix product reaches (MFU)."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import interleaved
import jax
import numpy as np


def matmul_ceiling(size: int, dtype: str) -> float:
    """Returns FLOP a second of the best of ten products of two square matrices."""
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    multiply = jax.jit(lambda x: x @ x)
    multiply(x).block_until_ready()
    seconds = interleaved.times({"": [lambda: multiply(x).block_until_ready()]}, 10)[""]
    return 2 * size**3 / min(second for (second,) in seconds)


def rows_of(
    case: str, frames: int, found: interleaved.Times, flops: float, ceiling: float
) -> list[dict[str, Any]]:
    """Returns a row a contender.

    Args:
        case: its name.
        frames: of a clip.
        found: what `interleaved.times` returned, ours first.
        flops: of a call, that the method needs.
        ceiling: FLOP a second that a matrix product reaches.
    """
    ours = next(iter(found.values()))
    rows = []
    for name, times in found.items():
        seconds = [second for (second,) in times]
        median = statistics.median(seconds)
        rows.append(
            {
                "case": case,
                "frames": frames,
                "contender": name,
                "seconds": median,
                "range": [min(seconds), max(seconds)],
                "tflops": flops / median / 1e12,
                "mfu": flops / median / ceiling,
                "against_ours": statistics.median(np.divide(times, ours).ravel().tolist()),
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows in Markdown."""
    lines = [
        "| case | frames | contender | s (least-most) | TFLOP/s | MFU | its time / ours |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        least, most = row["range"]
        lines.append(
            f"| {row['case']} | {row['frames']} | {row['contender']} "
            f"| {row['seconds']:.3g} ({least:.3g}-{most:.3g}) | {row['tflops']:.3g} "
            f"| {row['mfu']:.0%} | {row['against_ours']:.2f} |"
        )
    return "\n".join(lines)
