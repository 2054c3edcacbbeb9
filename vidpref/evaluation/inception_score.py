"""Inception Score (Salimans et al. 2016): pictures that are clear, and of many kinds."""

import numpy as np
from scipy import special

from vidpref.typing import Array, Float


def inception_score(logits: Float[Array, "n c"], splits: int = 10) -> tuple[float, float]:
    """Returns mean and standard deviation, over splits, of `exp(mean_i KL(p(y|x_i) || p(y)))`.

    p(y) is the mean of p(y|x) within a split. The score lies between 1 and c, and grows with the
    number of pictures in a split: compare scores of as many.

    Args:
        logits: of c classes, for n pictures.
        splits: successive parts, each of n / splits pictures as in the original code; what is
            left over behind them is in none.

    Raises:
        ValueError: fewer pictures than splits, or a number that is not finite.
    """
    logits = np.asarray(logits, np.float64)
    if not 1 <= splits <= len(logits):
        raise ValueError(f"{len(logits)} pictures cannot be divided into {splits} splits")
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
    size = len(logits) // splits
    log_p = special.log_softmax(logits[: size * splits], axis=1).reshape(splits, size, -1)
    log_marginal = special.logsumexp(log_p, axis=1, keepdims=True) - np.log(size)
    gain = np.exp(log_p) * (log_p - log_marginal)
    scores = np.exp(gain.sum(axis=2).mean(axis=1))
    return float(scores.mean()), float(scores.std())
