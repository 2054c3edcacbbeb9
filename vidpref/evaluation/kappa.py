"""Agreement beyond chance of two judges, or of a judge and people."""

import numpy as np

from vidpref.typing import Array, Float


def cohens_kappa(first: Float[Array, " n"], second: Float[Array, " n"]) -> float:
    """Returns (p_o - p_e) / (1 - p_e) of the share p_o on which two raters say the same, and the
    share p_e that chance would give raters who use each verdict as often (Cohen 1960).

    Args:
        first: verdicts of one rater, any numbers that stand for categories; nan agrees with none.
        second: those of the other, on the same n items.

    Returns:
        1 for full agreement, 0 for that of chance; nan where chance alone agrees in full.

    Raises:
        ValueError: no items.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not len(first):
        raise ValueError("no verdicts to compare")
    categories = np.unique(np.concatenate([first, second]))
    categories = categories[~np.isnan(categories)]
    observed = float(np.mean(first == second))
    chance = float(sum(np.mean(first == c) * np.mean(second == c) for c in categories))
    return float("nan") if chance == 1.0 else (observed - chance) / (1.0 - chance)
