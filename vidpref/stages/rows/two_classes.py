"""Good clips against bad ones (KTO): what of the two classes is refused, and warned of."""

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vidpref.objectives.alignment import OBJECTIVES

_UNEQUAL = 1.5  # at 2, the pull of one class alone ended runs of the mini world (docs/claims.md)


def check_classes(rewards: np.ndarray, config: ConfigDict) -> None:
    """Warns where one class pulls harder than the other, for an objective that has two classes.

    Every undesirable clip asks for a larger error and every desirable one for a smaller. The method
    asks for weights that make up for unequal counts (Ethayarajh et al. 2024, "KTO").

    Args:
        rewards: rewards of all clips.
        config: the `align` section.

    Raises:
        ValueError: no clip is desirable.
    """
    if not OBJECTIVES[config.method].needs_two_classes:
        return
    threshold = config.threshold
    good = int((rewards > threshold).sum())
    bad = rewards.size - good
    if not good:
        raise ValueError(
            f"{config.method}: none of {bad} clips has a reward above "
            f"config.align.threshold={threshold}, so there is nothing to learn towards: lower it, "
            "label more clips, or use another judge"
        )
    weights = config.desirable_weight, config.undesirable_weight
    pull = [count * weight for count, weight in zip((good, bad), weights, strict=True)]
    if bad and not 1 / _UNEQUAL <= pull[0] / pull[1] <= _UNEQUAL:
        logging.warning(
            "%s: %d clips are desirable and %d are not; config.align.desirable_weight=%.2g would "
            "weigh the classes alike, it is %.2g",
            config.method,
            good,
            bad,
            weights[1] * bad / good,
            weights[0],
        )
