"""A run in Python: started, opened when it is finished, looked at, drawn from, judged by.

What `import vidpref` offers to notebooks. Errors are the exceptions of what does the work, with the
sentences that the programs print. Devices and caches are the caller's; on a pod all hosts call the
same, after `jax.distributed.initialize()`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from vidpref.config.schema import NO_JUDGE
from vidpref.datasets.scenes import Scene
from vidpref.datasets.video import decode_clip
from vidpref.rewards.registry import build_reward
from vidpref.runs import report, rounds
from vidpref.runs import workdir as workdirs
from vidpref.runs.places import refuse_address
from vidpref.runs.policies import Policy
from vidpref.runs.prompt_scenes import borrow_first_frames, nearest_scene, own_scenes
from vidpref.runs.prompted import MESH, Drawable, draw, open_policy
from vidpref.runs.recipe import Recipe
from vidpref.runs.run_folder import REPORT, run_folder
from vidpref.runs.stored_clips import Wanted, choose, clip_sets, read_rows
from vidpref.stages.label import first_frames
from vidpref.storage.copies import here
from vidpref.storage.mirror import address, open_folder, pull
from vidpref.training.metrics import read_metrics
from vidpref.typing import UInt8


def run(config: ConfigDict, workdir: os.PathLike | str) -> "FinishedRun":
    """Runs every stage of a config that is not done and writes the report, as launch/tpu_run.py.

    Args:
        config: from `vidpref.load_config`.
        workdir: folder of the run, or gs://BUCKET/FOLDER; made if it does not exist. A stopped run
            goes on there.

    Raises:
        ValueError: a config that cannot work, data with less than it asks for, or an address other
            than gs://.
        StorageError: a bucket that cannot be used.
        WorkdirInUse: another run holds the folder.
        JudgeError: clips without a verdict; the others are kept.
        TrainingDiverged: a training came to a NaN.
    """
    refuse_address("workdir", workdir)
    workdir = open_folder(workdir)
    with workdirs.locked(workdir):
        done = rounds.run(config, workdir)
        report.write_run_report(done, command=f"vidpref.run(config, {address(workdir)!r})")
    return FinishedRun(done.recipe, done.recipe.policies(config.rounds))


def open_run(workdir: os.PathLike | str) -> "FinishedRun":
    """Opens a finished run; nothing is computed.

    Args:
        workdir: its work directory, for the newest run there, or `WORKDIR/runs/NAME` of any.

    Raises:
        ValueError: the folder holds no finished run.
    """
    refuse_address("workdir", workdir)
    return FinishedRun(*rounds.open_finished(open_folder(workdir), MESH))


class FinishedRun:
    """A finished run, from `run` or `open_run`.

    Attributes:
        config: its config, locked.
        workdir: its work directory.
        folder: where its own tables and its report are, also when newer runs share the directory.
        policies: names of its policies, the pre-trained one first.
    """

    def __init__(self, recipe: Recipe, policies: dict[str, Policy]):
        config = recipe.config
        self.config, self.workdir = config, recipe.workdir
        self.policies = tuple(policies)
        self._recipe, self._policies = recipe, policies
        self._stages = recipe.stages(config.rounds)
        name = f"{config.name}:{config.scale}"
        folders = (stage.folder for stage in self._stages)
        self.folder = pull(run_folder(self.workdir, name, folders))

    def __repr__(self) -> str:
        return f"FinishedRun({self.config.name}:{self.config.scale}, {', '.join(self.policies)})"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / REPORT

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of the report's folder: "evaluation", or without a judge "training"."""
        return {path.stem: pd.read_csv(path) for path in sorted(self.folder.glob("*.csv"))}

    @property
    def evaluation(self) -> pd.DataFrame:
        """A row for each policy, split, score and category, with intervals and differences.

        Raises:
            ValueError: the run has no judge.
        """
        self._check_judged()
        return self.tables["evaluation"]

    @property
    def scores(self) -> pd.DataFrame:
        """A row an evaluation clip: policy, split, category, prompt, scene_id, sample, accept, and
        the other dimensions of the judge.

        Raises:
            ValueError: the run has no judge.
        """
        self._check_judged()
        return pd.read_parquet(self.folder / "evaluation.parquet")

    @property
    def metrics(self) -> dict[str, pd.DataFrame]:
        """Stage -> its training's metrics, indexed by the step."""
        read = {s.name: read_metrics(self._recipe.folder(s)) for s in self._stages}
        return {name: pd.DataFrame(m).set_index("step") for name, m in read.items() if m}

    def clips(
        self,
        *,
        set: str = "evaluation",
        policy: str = "",
        split: str = "",
        prompt: str = "",
        accepted: bool | None = None,
        limit: int | None = None,
    ) -> tuple[pd.DataFrame, UInt8[np.ndarray, "n t h w 3"]]:
        """Returns stored clips, as launch/clips.py shows them: a table, and the clip of each row.

        Args:
            set: what they were drawn for, "evaluation" or "train" and others, see `ClipSet`.
            policy, split: of the clips; all if empty.
            prompt: a part of the prompt.
            accepted: the judge's verdict; None for any.
            limit: clips at most, the first ones.

        Returns:
            (a row a clip: clip_id, prompt, category, split, sample, policy, and of a judge accepted
            and reason, bytes of the clips).

        Raises:
            ValueError: none is of these; says what there is.
        """
        sets = clip_sets(self.folder)
        table = choose(sets, Wanted(set, policy, split, prompt, accepted))
        table = table.head(len(table) if limit is None else limit).reset_index(drop=True)
        rows = read_rows(sets, table, set)
        return table, np.stack([clip for row in rows for clip in row.clips.values()])

    def draw(
        self,
        prompts: Sequence[str],
        *,
        policy: str = "",
        seed: int = 0,
        per_prompt: int = 1,
        image: UInt8[np.ndarray, "h w 3"] | os.PathLike | str | None = None,
    ) -> UInt8[np.ndarray, "n t h w 3"]:
        """Draws clips for prompts of one's own, as launch/sample.py does.

        Args:
            prompts: what the clips show, a text each.
            policy: whose clips; the last one's if empty.
            seed: seed of the noise.
            per_prompt: clips of each prompt, which follow each other.
            image: first frame of all clips, of the size of the run's clips, or a file of any size.
                Where none is given and the generator starts from one, each prompt takes that of the
                held-out scene with the nearest prompt.

        Raises:
            ValueError: no such policy, no prompt, an image that the generator does not take or of
                another size, or none for a generator without scenes.
        """
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts={prompts!r}: give a list of one text or more")
        name = policy or self.policies[-1]
        if name not in self._policies:
            raise ValueError(f"policy={name!r}: the run has {', '.join(self.policies)}")
        source = open_policy(self._recipe, self._policies[name])
        scenes = _scenes(source, prompts, image)
        drawn = draw(source, scenes, seed=seed, per_scene=per_prompt)
        return np.stack([clip for _, clip, _ in drawn])

    def score(
        self,
        clips: UInt8[np.ndarray, "n t h w 3"],
        prompts: Sequence[str],
        *,
        image: UInt8[np.ndarray, "h2 w2 3"] | os.PathLike | str | None = None,
    ) -> pd.DataFrame:
        """Returns what the run's judge says of clips, a row a clip.

        Columns are prompt, every dimension of the judge (the higher the better), and reason. A clip
        without a verdict has nan for scores, and in reason what went wrong.

        Args:
            clips: bytes.
            prompts: the prompt of each.
            image: first frame that all clips were given, as `draw` takes it; a judge that can
                compares them.

        Raises:
            ValueError: the run has no judge, not a prompt a clip, or an image of another size.
        """
        self._check_judged()
        if isinstance(prompts, str) or len(clips) != len(prompts):
            raise ValueError(f"{len(clips)} clips: give as many prompts, a list of texts")
        reward, frame = self._recipe.judged, _first_frame(image, self.config)
        judge = build_reward(reward, self._recipe.judge_folders)
        said = judge.score(clips, prompts, **first_frames(reward, [frame] * len(clips)))
        reasons = [said.failures.get(row, words) for row, words in enumerate(said.reasons)]
        return pd.DataFrame({"prompt": list(prompts), **said.scores, "reason": reasons})

    def _check_judged(self) -> None:
        if self.config.reward.name == NO_JUDGE:
            raise ValueError("the run has no judge (config.reward.name='none'), so no scores")


def _scenes(
    source: Drawable,
    prompts: Sequence[str],
    image: UInt8[np.ndarray, "h w 3"] | os.PathLike | str | None,
) -> list[Scene]:
    image = _first_frame(image, source.config)
    if image is not None or not source.generator.image or source.data is None:
        return own_scenes(prompts, image)
    return borrow_first_frames(prompts, [nearest_scene(source.data, p) for p in prompts])


def _first_frame(
    image: UInt8[np.ndarray, "h w 3"] | os.PathLike | str | None, config: ConfigDict
) -> UInt8[np.ndarray, "h w 3"] | None:
    size = config.data.height, config.data.width
    if isinstance(image, str | os.PathLike):
        return decode_clip(here(image), frames=1, height=size[0], width=size[1])[0]
    if image is not None and image.shape[:2] != size:
        raise ValueError(f"the image has {image.shape[:2]} pixels, the run's clips {size}")
    return image
