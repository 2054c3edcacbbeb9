"""Seeds of their own for the parts of a run, folded from its one seed and their names."""

import hashlib


def fold_seed(seed: int, *names: str | int) -> int:
    """Returns the seed of what `names` name, in [0, 2^31).

    A sum such as seed + round gives the second round of seed 0 the noise and the order of the first
    round of seed 1. Here names that differ anywhere give unrelated seeds, on every machine alike.

    Args:
        seed: the run's seed.
        *names: the part, e.g. "align", 2.
    """
    named = "/".join(str(part) for part in (seed, *names)).encode()
    return int.from_bytes(hashlib.blake2s(named, digest_size=4).digest(), "big") >> 1
