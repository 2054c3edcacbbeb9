"""The mini world: coloured shapes doing one of sixteen things in 8 frames of 16x16 pixels.

Prompts fall in AIF's five categories, and on request in a sixth in which the camera pans;
`vidpref.rewards.verifier` fits a clip with what its prompt should show.
"""

from vidpref.datasets.miniworld.defects import DEFECTS, defective_scene
from vidpref.datasets.miniworld.rendering import render, render_batch
from vidpref.datasets.miniworld.vocabulary import WORDS
from vidpref.datasets.miniworld.world import (
    CAMERA_PROMPTS,
    PROMPTS,
    Scene,
    WorldPrompt,
    prompts,
    scene,
)

__all__ = [
    "CAMERA_PROMPTS",
    "DEFECTS",
    "PROMPTS",
    "WORDS",
    "Scene",
    "WorldPrompt",
    "defective_scene",
    "prompts",
    "render",
    "render_batch",
    "scene",
]
