"""Times of several contenders in one interleaved run, as a table."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Times = dict[str, list[list[float]]]


def times(works: Mapping[str, Sequence[Callable]], rounds: int) -> Times:
    """Returns the seconds of every contender's works, a row a round.

    Every round times each contender once, so that whatever else the machine does falls on all.

    Args:
        works: contender -> what to time, each done when it returns; called before, to compile.
        rounds: how often.
    """
    rows: Times = {name: [] for name in works}
    for _ in range(rounds):
        for name, own in works.items():
            rows[name].append([_seconds(work) for work in own])
    return rows


def print_table(found: Times, works: Sequence[str], against: str) -> None:
    """Prints medians over rounds with the fastest and slowest, and the median of rounds' ratios.

    Args:
        found: what `times` returned.
        works: the names of each contender's works.
        against: the contender whose time over another's is the other's ratio.
    """
    ratios = ", ".join(works)
    print(f"\n| contender | {' | '.join(f'{w} ms' for w in works)} | {against} / this: {ratios} |")
    print("| --- " * (len(works) + 2) + "|")
    for name, rows in found.items():
        columns = list(zip(*rows, strict=True))
        spans = [f"{_ms(statistics.median(c))} ({_ms(min(c))}-{_ms(max(c))})" for c in columns]
        ratios = [
            f"{statistics.median(np.divide(theirs, ours)):.2f}"
            for theirs, ours in zip(zip(*found[against], strict=True), columns, strict=True)
        ]
        print(f"| {name} | {' | '.join(spans)} | {', '.join(ratios)} |")


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.2g}"


def _seconds(work: Callable) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
