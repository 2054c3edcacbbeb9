"""The stages that train a judge: preferences, the frames of their clips, the judge.

They are a run of launch/train_judge.py, or those of a run that labels its clips with the judge that
it trained: the same stages, found by the same fingerprints.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from vidpref.config.causes import Causes
from vidpref.config.judge import ANSWERS, DRAWN
from vidpref.config.schema import PREFERENCES
from vidpref.datasets.miniworld import prompts
from vidpref.datasets.preferences import Preferences
from vidpref.datasets.prompts import SPLITS
from vidpref.datasets.video_folder import split_of
from vidpref.digests import digest_files, files_below
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.rewards.registry import JUDGE
from vidpref.runs.graph import Stage, in_order, remembered_in
from vidpref.runs.inputs import Inputs
from vidpref.runs.policies import Labelled
from vidpref.seeds import fold_seed
from vidpref.stages import judge_rows, preferences
from vidpref.stages.judge_frames import write_frames
from vidpref.stages.judge_given import HELD_OUT, Given
from vidpref.stages.judge_kinds import KINDS, scratch_tokenizer, train_drawn
from vidpref.stages.judged_world import PREFERENCE_CLIPS, write_drawn, write_world
from vidpref.stages.lessons import lessons
from vidpref.stages.own_answers import PHASES, phases
from vidpref.stages.scratch_model import scratch_config, write_scratch_model
from vidpref.storage import mirror
from vidpref.storage.copies import here

_WORLD = "miniworld"
_TRAINING = (
    *("lora", "parts", "loss", "theta", "masks", "rating_center", "head", "train"),
    *("critic.grades", "critic.thirds", "critic.instruct", "critic.together", "critic.ranking"),
    "critic.reasons",
    *("reasoning", "hierarchy"),
)
_OF_DRAWING = tuple(
    f"judge.{section}.{name}"
    for section in PHASES
    for name in ("group", "temperature", "clip", "kl", "train")
)
_MODEL = "model"  # folder in that of the base's stage


def judge_stage(
    config: ConfigDict, workdir: Path, inputs: Inputs, drawn: Callable[[], Mapping[str, Labelled]]
) -> Stage:
    """Returns the stage that trains the judge which a run asks, and all that it stands on.

    Args:
        config: the config of the run.
        workdir: where the stages' folders lie.
        inputs: those of the run.
        drawn: returns clips of the pre-trained generator with the verifier's labels, by split.

    Raises:
        ValueError: the config trains none.
    """
    if not config.judge.name:
        raise ValueError(
            f"config.reward.{config.reward.name}.folder is empty, and so is config.judge.name: "
            "give the folder of a judge, or a config that trains one, such as videoalign"
        )
    return JudgeRecipe(config, workdir, inputs, drawn).last


class JudgeRecipe:
    """The stages of a config in a work directory; nothing runs by making it.

    Args:
        config: the config of a run.
        workdir: where the stages' folders lie.
        inputs: those of the run that the judge is trained for; by default its own.
        drawn: see `judge_stage`; None where there is no generator.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        inputs: Inputs | None = None,
        drawn: Callable[[], Mapping[str, Labelled]] | None = None,
    ):
        self.config, self.workdir, self._drawn = config, workdir, drawn
        self.inputs = inputs or Inputs(config, workdir)
        self._kind = KINDS[config.judge.name]

    @property
    def stages(self) -> list[Stage]:
        """The stages in the order in which they are done; the judge's is the last."""
        return in_order([self.last])

    @functools.cached_property
    def base(self) -> Stage | None:
        """Makes the model to start from, where it starts from nothing."""
        section, seed = self.config.judge, fold_seed(self.config.seed, "judge base")
        if not section.scratch.layers:
            return None
        tokenizer = scratch_tokenizer(self.config)

        def body(folder: Path) -> None:
            config = scratch_config(section, tokenizer)
            write_scratch_model(folder / _MODEL, config, tokenizer, seed)

        known = self.inputs.causes.of("judge.scratch", "seed")
        known |= {"tokens": tokenizer.special, "words": tokenizer.digest}
        if section.name == ANSWERS:
            known["head"] = "own"
        return Stage("judge-base", body, known)

    @functools.cached_property
    def frames(self) -> Stage:
        """What the model sees of the clips; of the mini world, the preferences too."""
        section, data = self.config.judge, self.config.data
        if data.name == _WORLD and section.world.clips == DRAWN:
            return self._judged_clips()
        if data.name == _WORLD:
            seed = fold_seed(self.config.seed, "judged world")

            def body(folder: Path) -> dict[str, int]:
                return write_world(
                    folder, section.world, section.dimensions, camera=data.camera, seed=seed
                )

            known = self.inputs.causes.of("judge.world", "judge.dimensions", "data.camera", "seed")
            return Stage("judged-world", body, known)

        def body(folder: Path) -> dict[str, int]:
            reader = self._kind.reader(self.config, self.model())
            return write_frames(folder, preferences.clips_of(data), reader, data)

        without = [f"judge.{name}" for name in _TRAINING]
        known = self.inputs.causes.of("judge", *self._kind.seen, without=without)
        known["files"] = self._digest(weights=False)
        return Stage("frames", body, known, self._with_base({"data": self.inputs.data_stage}))

    def _judged_clips(self) -> Stage:
        """Clips that the generator of the run drew, and what the verifier prefers."""
        section, drawn = self.config.judge, self._drawn()
        seed = fold_seed(self.config.seed, "judged clips")

        def body(folder: Path) -> dict[str, int]:
            folders = {
                split: (self._folder(own.samples), self._folder(own.labels))
                for split, own in drawn.items()
            }
            return write_drawn(folder, folders, section.world, section.dimensions, seed=seed)

        known = self.inputs.causes.of("judge.world", "judge.dimensions", "seed")
        inputs = {}
        for split, own in drawn.items():
            inputs |= {f"{split} samples": own.samples, f"{split} labels": own.labels}
        return Stage("judged-clips", body, known, inputs)

    @functools.cached_property
    def last(self) -> Stage:
        """Makes the judge that is asked: that of what it is told, or of its own answers."""
        last = None
        for name, told in lessons(self.config).items():
            last = self._training(name, self._kind.train, told, _OF_DRAWING, last)
        for section in phases(self.config):
            train = functools.partial(train_drawn, section=section)
            others = [f"judge.{name}" for name in PHASES if name != section]
            without = ["judge.train", "judge.critic.reasons", *others]
            last = self._training(f"judge-{section}", train, self.config, without, last)
        return last

    def _training(
        self,
        name: str,
        train: Callable[[Path, Given], None],
        config: ConfigDict,
        without: Sequence[str],
        before: Stage | None,
    ) -> Stage:
        """Trains a judge as `config` says, but for some fields of it, from what stands before."""
        inputs = self._learnt_from() | ({} if before is None else {"judge": before})

        def body(folder: Path) -> None:
            model = self.model()
            if before is not None:
                model = QwenVLFolder(self._folder(before) / JUDGE)
            train(folder, self.given(config, model))

        fields = ("judge", *self._kind.seen, "seed", "compute_dtype")
        known = Causes(config).of(*fields, without=["judge.world", *without])
        known["files"] = self._digest(weights=before is None)
        return Stage(name, body, known, self._with_base(inputs))

    def _learnt_from(self) -> dict[str, Stage]:
        """The stages of clips and of what is said about them."""
        inputs = {"frames": self.frames}
        if self.config.data.name == PREFERENCES:
            inputs["data"] = self.inputs.data_stage
        return inputs

    def given(self, config: ConfigDict, model: QwenVLFolder) -> Given:
        """What a model is trained from; the stages before it must be done."""
        seen = judge_rows.SeenClips.open(self._folder(self.frames))
        return Given(config, model, seen, self._said(), self.inputs.mesh)

    def _with_base(self, inputs: Mapping[str, Stage]) -> dict[str, Stage]:
        return {**inputs, **({} if self.base is None else {"base": self.base})}

    def _folder(self, stage: Stage) -> Path:
        return mirror.pull(self.workdir / stage.folder)

    def model(self) -> QwenVLFolder:
        """The model to start from; its stage must be done."""
        if self.base is None:
            return QwenVLFolder(self.config.judge.base)
        return QwenVLFolder(self._folder(self.base) / _MODEL)

    def _digest(self, *, weights: bool) -> str:
        """Digits of the texts and of the files of the base."""
        section = self.config.judge
        files = self._kind.texts(self.config)
        if self.base is None:
            below = files_below(here(section.base))
            files += [
                (f"base/{name}", path)
                for name, path in below
                if weights or path.suffix != ".safetensors"
            ]
        return digest_files(files, remembered_in(self.workdir))

    def _said(self) -> dict[str, Preferences]:
        """The preferences by the split of their prompts."""
        data = self.config.data
        if data.name == _WORLD:
            folder, clips = self._folder(self.frames), PREFERENCE_CLIPS
            splits = {p.text: name for name in SPLITS for p in prompts(name, camera=data.camera)}
        else:
            folder, clips, splits = self._folder(self.inputs.data_stage), "clips", None
        names = {"clips": clips, "comparisons": "comparisons", "scores": "scores"}
        said = Preferences(
            **{field: pd.read_parquet(folder / f"{name}.parquet") for field, name in names.items()}
        )
        if splits is None:
            splits = {t: split_of(t, data.held_out) for t in said.clips["prompt"].unique()}
        return {name: _of_split(said, splits, name) for name in ("train", *HELD_OUT)}


def _of_split(said: Preferences, splits: Mapping[str, str], name: str) -> Preferences:
    clips = said.clips[said.clips["prompt"].map(dict(splits)) == name]
    return dataclasses.replace(
        said,
        clips=clips,
        comparisons=said.comparisons[said.comparisons["clip_a"].isin(clips["id"])],
        scores=said.scores[said.scores["clip"].isin(clips["id"])],
    )
