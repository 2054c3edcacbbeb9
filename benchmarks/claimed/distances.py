"""Distances of policies' clips from true ones, by features of a small CLIP (AIF Table 3)."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from small_clip import world
from small_clip.folder import read_params

from claimed import feedback
from claimed.claim import PRETRAINED, Group
from claimed.proxies import mean_of_seeds, policies_of
from claimed.settings import SFT
from vidpref.datasets.miniworld import prompts
from vidpref.evaluation.frechet import Moments, distance_of
from vidpref.evaluation.inception_score import inception_score
from vidpref.evaluation.tables import Table
from vidpref.interop.clip_folders import ClipFolder
from vidpref.rewards.metrics.frames import ClipFrames
from vidpref.runs.recipe import Recipe
from vidpref.stages.sample import SampledClips, seen_clip
from vidpref.typing import Float, UInt8

POLICIES = Group(
    (*feedback.VARIANTS, SFT),
    feedback.FEEDBACK.claims,
    overrides=feedback.FEEDBACK.overrides,
    variants=feedback.VARIANTS,
)
TRUE = "other true clips"  # how far these lie is what is to be had
_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Measured:
    """Of a policy.

    Attributes:
        frames: Frechet distance of single frames' features from those of true clips.
        clips: of those of all frames of a clip.
        inception_score: of frames, whose classes are the prompts, by the CLIP's own probabilities.
        clip_score: mean cosine of frames and their prompt.
    """

    frames: float
    clips: float
    inception_score: float
    clip_score: float


class Reader:
    """A CLIP that reads frames and prompts.

    Args:
        folder: of its weights.
    """

    def __init__(self, folder: ClipFolder):
        settings = {"fit": "crop", "frames": 0, "batch_size": _AT_ONCE, "dtype": "float32"}
        self._model, self._tokens = ClipFrames(folder, **settings), folder.tokens()
        self.scale = float(np.exp(read_params(folder)["logit_scale"]))  # of cosines, as logits

    def images(self, clips: UInt8[np.ndarray, "b t h w 3"]) -> Float[np.ndarray, "b t d"]:
        """Returns the features of frames, of length one."""
        return np.asarray(self._model.images(clips))

    def texts(self, texts: list[str]) -> Float[np.ndarray, "b d"]:
        """Returns the features of prompts, of length one."""
        return np.asarray(self._model.texts(self._tokens(texts)))


def of_policies(recipes: Mapping[str, Recipe], reader: Reader) -> dict[str, Measured]:
    """Returns how far the last clips of held-out prompts of each policy lie from true ones, and how
    far others of these do, `TRUE`.

    Args:
        recipes: by policy; their runs must be done.
        reader: of the CLIP.

    Raises:
        BrokenRecords: clips that are not there.
    """
    recipe, found, true = next(iter(recipes.values())), {}, None
    for policy, (samples, _) in policies_of(recipes).items():
        clips = SampledClips(recipe.folder(samples))
        numbers = np.flatnonzero(clips.index["split"] == "test")
        texts = clips.index["prompt"].iloc[numbers].tolist()
        if true is None:
            true = reader.images(true_clips(texts, 0))
            again = reader.images(true_clips(texts, 1))
            found[TRUE] = measured(again, true, reader.texts(texts), reader.scale)
        videos = np.stack([seen_clip(clips[int(number)]) for number in numbers])
        found[policy] = measured(reader.images(videos), true, reader.texts(texts), reader.scale)
    return found


def measured(
    own: Float[np.ndarray, "n t d"],
    true: Float[np.ndarray, "m t d"],
    texts: Float[np.ndarray, "n d"],
    scale: float,
) -> Measured:
    """Returns distances of features, their Inception Score, and the mean cosine with the prompts.

    Args:
        own, true: features of frames of both.
        texts: of the prompt of each own clip.
        scale: of cosines, for the probabilities of the prompts.
    """
    frames = distance_of(*(_moments(x.reshape(-1, x.shape[2])) for x in (own, true)))
    whole = distance_of(*(_moments(x.reshape(len(x), -1)) for x in (own, true)))
    classes = np.unique(texts, axis=0)
    score, _ = inception_score(scale * own.reshape(-1, own.shape[2]) @ classes.T, splits=1)
    return Measured(frames, whole, score, float(np.einsum("ntd,nd->nt", own, texts).mean()))


def table(found: Mapping[str, Mapping[str, Measured]]) -> Table:
    """Returns AIF's Table 3: a row a policy, the mean of all seeds.

    Args:
        found: by seed and policy.
    """
    names = [field.name for field in dataclasses.fields(Measured)]
    policies = sorted(next(iter(found.values())), key=lambda name: name != PRETRAINED)
    rows = []
    for policy in policies:
        values = {n: [getattr(of[policy], n) for of in found.values()] for n in names}
        rows.append([policy, *(mean_of_seeds(values[name], ".4f") for name in names)])
    columns = ["Policy", "Distance of frames", "Distance of clips", "Inception Score", "CLIP score"]
    caption = f"Means of seeds {', '.join(found)}, with t-intervals over them."
    return Table("Distance from true clips", columns, rows, caption)


def true_clips(texts: list[str], seed: int) -> UInt8[np.ndarray, "n t h w 3"]:
    """Renders as many true clips of each prompt as there are texts of it.

    Args:
        texts: of held-out prompts, each as often.
        seed: of what prompts leave open.
    """
    known = {prompt.text: prompt for prompt in prompts("test")}
    chosen = [known[text] for text in dict.fromkeys(texts)]
    each = -(-len(texts) // len(chosen))
    clips = world.true_clips(chosen, each, np.random.default_rng(seed))
    return clips.reshape(-1, *clips.shape[2:])


def _moments(rows: Float[np.ndarray, "n d"]) -> Moments:
    found = Moments(rows.shape[1])
    found.add(rows)
    return found
