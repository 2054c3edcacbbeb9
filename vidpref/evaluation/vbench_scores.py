"""VBench's scores of a model: dimensions on one scale, and its leaderboard's averages of them.

The bounds and weights are those of scripts/constant.py of Vchitect/VBench (at 45e79ec).
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Scale:
    """What becomes of a dimension: (value - low) / (high - low), counted `weight` times."""

    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0


QUALITY = {
    "subject_consistency": Scale(low=0.1462),
    "background_consistency": Scale(low=0.2615),
    "temporal_flickering": Scale(low=0.6293),
    "motion_smoothness": Scale(low=0.706, high=0.9975),
    "aesthetic_quality": Scale(),
    "imaging_quality": Scale(),
    "dynamic_degree": Scale(weight=0.5),
}
SEMANTIC = {
    "object_class": Scale(),
    "multiple_objects": Scale(),
    "human_action": Scale(),
    "color": Scale(),
    "spatial_relationship": Scale(),
    "scene": Scale(high=0.8222),
    "appearance_style": Scale(low=0.0009, high=0.2855),
    "temporal_style": Scale(high=0.364),
    "overall_consistency": Scale(high=0.364),
}
DIMENSIONS = {**QUALITY, **SEMANTIC}
_QUALITY_WEIGHT, _SEMANTIC_WEIGHT = 4.0, 1.0


def normalised(dimension: str, value: float) -> float:
    """Returns a dimension's value on VBench's common scale; it is not cut off at its ends.

    Raises:
        ValueError: no such dimension.
    """
    if dimension not in DIMENSIONS:
        raise ValueError(f"VBench has no dimension {dimension!r}: {', '.join(DIMENSIONS)}")
    scale = DIMENSIONS[dimension]
    return (value - scale.low) / (scale.high - scale.low)


@dataclasses.dataclass(frozen=True)
class VBenchScores:
    """The averages of a model's dimensions; None where one of them is missing.

    VBench's own script takes a missing dimension for 0.

    Attributes:
        quality: weighted mean of the 7 normalised dimensions of `QUALITY`.
        semantic: that of the 9 of `SEMANTIC`.
        total: (4 quality + semantic) / 5.
        missing: dimensions that are not known.
    """

    quality: float | None
    semantic: float | None
    total: float | None
    missing: tuple[str, ...]


def vbench_scores(values: Mapping[str, float]) -> VBenchScores:
    """Returns a model's scores.

    Args:
        values: by dimension, each the mean over the clips of its prompts, as VBench measures it.

    Raises:
        ValueError: no such dimension.
    """
    unknown = set(values) - set(DIMENSIONS)
    if unknown:
        raise ValueError(f"VBench has no dimension {', '.join(sorted(unknown))}")
    quality, semantic = _mean(values, QUALITY), _mean(values, SEMANTIC)
    total = None
    if quality is not None and semantic is not None:
        total = (_QUALITY_WEIGHT * quality + _SEMANTIC_WEIGHT * semantic) / (
            _QUALITY_WEIGHT + _SEMANTIC_WEIGHT
        )
    missing = tuple(name for name in DIMENSIONS if name not in values)
    return VBenchScores(quality, semantic, total, missing)


def _mean(values: Mapping[str, float], scales: Mapping[str, Scale]) -> float | None:
    if any(name not in values for name in scales):
        return None
    weighted = sum(scales[name].weight * normalised(name, values[name]) for name in scales)
    return weighted / sum(scale.weight for scale in scales.values())
