"""What a judge says of the clips that a policy has just drawn, in all processes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.coordination.agreeing import gathered
from vidpref.datasets.scenes import Scene
from vidpref.pixels import check_finite
from vidpref.rewards.registry import verifying
from vidpref.rewards.reward import JudgeError, Reward, complaint
from vidpref.stages.label import first_frames, raise_in_all
from vidpref.stages.online.watching import looks
from vidpref.training.processes import Share, share_of
from vidpref.training.sharding import batch_sharding
from vidpref.typing import Array, Float, PyTree

Scores = dict[str, Float[np.ndarray, "b g"]]


@dataclasses.dataclass(frozen=True)
class GroupJudge:
    """Scores the groups of a drawing; each process asks for the rows that it owns.

    Attributes:
        judge: the judge.
        reward: the config's `reward` section.
        scenes: scenes by their numbers in a batch.
        mesh: devices.
        watch: the verifier, which scores them too, as `truth/...`; None for none.
        given: clips begin with their scene's first frame; a judge that can will compare.
        decode: of latents [b, t, h, w, c], the pixels [b, t, h, w, c]; None where clips are pixels.
    """

    judge: Reward
    reward: ConfigDict
    scenes: Sequence[Scene]
    mesh: Mesh
    watch: Reward | None = None
    given: bool = False
    decode: Callable[[Array], Array] | None = None

    def __call__(self, drawn: Mapping[str, PyTree], step: int) -> Scores:
        """Returns the scores of all clips by dimension, in every process; nan where one failed.

        Beside the judge's there are those of `watch`, and how the clips look (`looks`).

        Args:
            drawn: from `group_drawing`.
            step: of the training, for messages.

        Raises:
            JudgeError: no clip got a verdict, or the judge broke, in all processes alike.
            ValueError: clips whose values are no numbers.
        """
        clips = drawn["clips"]
        share = share_of(batch_sharding(self.mesh), clips.shape[0])
        groups = range(clips.shape[1])
        pixels = clips if self.decode is None else [self.decode(clips[:, i]) for i in groups]
        said, error = {}, None
        try:
            said = self._own(share, drawn, pixels, step)
        except Exception as caught:  # told to all: the others would wait for this process for ever
            error = caught
        raise_in_all(error)
        told = gathered(f"scores of step {step}", said)
        if not any(part["scored"] for part in told):
            raise JudgeError(f"step {step}: {next(p['words'] for p in told if p['words'])}")
        names = dict.fromkeys(name for part in told for name in part["scores"])
        found = {name: np.full(clips.shape[:2], np.nan, np.float32) for name in names}
        for part in told:
            for name, scores in part["scores"].items():
                rows = np.array(scores, np.float32).reshape(len(part["rows"]), len(groups))
                found[name][part["rows"]] = rows
        return found

    def _own(self, share: Share, drawn: Mapping, pixels: Array | list[Array], step: int) -> dict:
        """The scores of the rows that this process owns, as JSON."""
        scenes = [self.scenes[number] for number in share.read(drawn["scene"])]
        bad = share.read(drawn["not_finite"])
        names = [f"{scene.id}/{i}" for scene in scenes for i in range(bad.shape[1])]
        check_finite(bad.reshape(-1), names, f"step {step}: drawing for {len(scenes)} prompts")
        if isinstance(pixels, list):
            clips = np.stack([share.read(x) for x in pixels], axis=1)
        else:
            clips = share.read(pixels)
        if not scenes:
            return {"rows": [], "scores": {}, "scored": 0, "words": ""}
        each = [scene for scene in scenes for _ in range(clips.shape[1])]
        frames = [scene.first_frame for scene in each] if self.given else []
        shown, prompts = clips.reshape(-1, *clips.shape[2:]), [scene.text for scene in each]
        judgement = self.judge.score(shown, prompts, **first_frames(self.reward, frames))
        words = complaint(self.judge, judgement, names) if judgement.failures else ""
        scores = {name: judgement.scores[name] for name in self.judge.dimensions} | looks(shown)
        if self.watch is not None:
            told = first_frames(verifying(self.reward), frames)
            truth = self.watch.score(shown, prompts, **told).scores
            scores |= {f"truth/{name}": truth[name] for name in self.watch.dimensions}
        return {
            "rows": share.owned.tolist(),
            "scores": {name: _json(values) for name, values in scores.items()},
            "scored": len(each) - len(judgement.failures),
            "words": words,
        }


def _json(scores: np.ndarray) -> list[float | None]:
    return [None if np.isnan(score) else float(score) for score in scores]
