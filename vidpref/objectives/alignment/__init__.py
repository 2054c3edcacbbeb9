"""Alignment objectives: pure functions of the denoising errors of k clips of each prompt.

The errors are those of `vidpref.diffusion.denoising`; clip 0 of a row is the winner. A loss is the
mean over the rows of the global batch, weighted by `Labels.weight` where it is given.
"""

from vidpref.objectives.alignment.advantage import awm, diffusion_nft
from vidpref.objectives.alignment.dpo import dpo, mcdpo
from vidpref.objectives.alignment.errors import Errors, Labels, Metrics
from vidpref.objectives.alignment.kto import kto, kto_statistics
from vidpref.objectives.alignment.leash import LEASHES, leash_warning
from vidpref.objectives.alignment.likelihood import flow_rwr, rwr, sft
from vidpref.objectives.alignment.registry import (
    OBJECTIVES,
    ObjectiveSpec,
    check_hyper,
    hyper_field,
    needs_real_clips,
)

__all__ = [
    "LEASHES",
    "OBJECTIVES",
    "Errors",
    "Labels",
    "Metrics",
    "ObjectiveSpec",
    "awm",
    "check_hyper",
    "diffusion_nft",
    "dpo",
    "flow_rwr",
    "hyper_field",
    "kto",
    "kto_statistics",
    "leash_warning",
    "mcdpo",
    "needs_real_clips",
    "rwr",
    "sft",
]
