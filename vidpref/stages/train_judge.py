"""The judge stage: a reward model is trained on pairs of videos, normalised and written whole."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from absl import logging
from flax.core import meta
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.config.training import loop_settings
from vidpref.coordination.agreeing import decided
from vidpref.datasets.pipeline import training_batches
from vidpref.files import write_table, write_text
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.interop.video_reward import (
    export_video_reward,
    load_base,
    make_reader,
)
from vidpref.interop.video_reward_settings import VideoRewardSettings
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.reward_scores import Normalisation
from vidpref.language.reward_template import RewardTemplate
from vidpref.language.video_reward import RewardReader
from vidpref.losses.video_reward import VideoRewardLoss
from vidpref.models.lora import LoRA
from vidpref.models.qwen_vl.packing import Room
from vidpref.models.qwen_vl.reward import (
    QwenVLReward,
    RewardInputs,
    shapes_of,
    smallest_rows,
)
from vidpref.objectives.preference import Preference, pair_metrics
from vidpref.rewards.registry import JUDGE
from vidpref.rewards.video_reward import scoring
from vidpref.stages.judge_rows import JudgeRows, SeenClips, room_of
from vidpref.training.loop import fit
from vidpref.training.parts_and_adapters import PartsAndAdapters
from vidpref.training.plan import Plan, make_plan
from vidpref.training.processes import padded, share_of
from vidpref.training.sharding import (
    abstract_params,
    batch_sharding,
    filled_up,
)
from vidpref.training.tuning import Adapters, Parts
from vidpref.typing import Array, Float, Int, PyTree

ACCOUNT, SCORES = "judge.json", "scores.parquet"  # in the stage's folder
_TEMPLATES = PROJECT_ROOT / "data" / "reward_templates"


@dataclasses.dataclass(frozen=True)
class JudgeTraining:
    """What the `judge` section of a config trains.

    Attributes:
        plan: the run.
        module: the network.
        reader: how videos are seen.
        settings: what goes into the folder of the model.
        section: the `judge` section.
        base: the model that it starts from.
    """

    plan: Plan
    module: QwenVLReward
    reader: RewardReader
    settings: VideoRewardSettings
    section: ConfigDict
    base: QwenVLFolder

    @functools.cached_property
    def scorer(self) -> Callable[[PyTree, RewardInputs], Array]:
        """The compiled `(policy, rows) -> raw scores`, see `scoring`."""
        return scoring(self.module, self.plan.mesh)

    def arguments(self, room: Room) -> dict[str, PyTree]:
        """Returns what the training step is given, in shapes with shardings, by name.

        Args:
            room: size of the arrays of a row, of which nothing is None.
        """
        tuning, mesh = self.plan.tuning, self.plan.mesh
        params = abstract_params(jax.eval_shape(tuning.network, jax.random.key(0)), mesh)
        batch, sharding = self.plan.settings.batch_size, batch_sharding(mesh)
        own = shapes_of(self.module.config, self.module.dimensions, room, self.module.dtype)
        rows = {name: ((batch, 2, *x.shape), x.dtype) for name, x in own.items()}
        rows["preference"] = (batch, self.module.dimensions), jnp.dtype("int32")
        if self.section.loss == "regression":
            rows["rating"] = (batch, 2, self.module.dimensions), jnp.dtype("float32")
        found = {
            name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
            for name, (shape, dtype) in rows.items()
        }
        return {"state": self.plan.state, "frozen": tuning.frozen(params), "batch": found}

    def start(self, seed: int) -> PyTree:
        """Returns the parameters to start from: the base's, and a fresh head.

        What stands still is kept as `lora.base` says.

        Args:
            seed: seed of the head.
        """
        network = self.plan.tuning.network
        target = abstract_params(jax.eval_shape(network, jax.random.key(0)), self.plan.mesh)
        params = {"model": load_base(self.base, target["model"])}
        place = {"head": jax.tree.map(lambda x: x.sharding, target["head"])}
        fresh = jax.jit(lambda key: {"head": meta.unbox(network(key))["head"]}, out_shardings=place)
        params |= fresh(jax.random.key(seed))
        if "tokens" in target:
            numbers = np.array(self.reader.token_ids)
            take = jax.jit(lambda x: x[numbers], out_shardings=target["tokens"].sharding)
            params["tokens"] = take(params["model"]["embed"]["embedding"])
        tuning = self.plan.tuning
        if not isinstance(tuning, PartsAndAdapters):
            return params
        trained = flatten_dict(tuning.parts.start(params))
        rest = {path: x for path, x in flatten_dict(params).items() if path not in trained}
        kept = tuning.adapters.keeping.take(unflatten_dict(rest))
        return unflatten_dict(flatten_dict(kept) | trained)


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Clips that nothing is learnt from.

    Attributes:
        numbers: of the clips, in `SeenClips.index`.
        pairs: likewise, of those that are compared.
        labels: numbers of `Preference` of each pair.
    """

    numbers: Int[np.ndarray, " n"]
    pairs: Int[np.ndarray, "p 2"]
    labels: Int[np.ndarray, "p d"]


def template_file(section: ConfigDict) -> Path:
    """Returns where the template of a `judge` section lies."""
    path = Path(section.template).expanduser()
    return path if path.is_file() else _TEMPLATES / section.template


def template_of(section: ConfigDict) -> RewardTemplate:
    """Returns the template of a `judge` section.

    Raises:
        ValueError: see `RewardTemplate.read`.
    """
    shared = section.token == "shared"
    return RewardTemplate.read(template_file(section), tuple(section.dimensions), shared=shared)


def make_reader_of(section: ConfigDict, base: QwenVLFolder) -> RewardReader:
    """Returns how the model of a `judge` section sees videos.

    Raises:
        ValueError: a template, tokenizer or setting that does not fit.
    """
    template = template_of(section)
    tokens = ChatTokens(base.path, new=template.tokens)
    return make_reader(_settings(section), base.config, tokens, template)


def judge_training(
    section: ConfigDict,
    base: QwenVLFolder,
    mesh: Mesh,
    *,
    dtype: str,
    seed: int,
    name: str = "judge",
) -> JudgeTraining:
    """Returns what a `judge` section trains.

    Args:
        section: the config's section.
        base: the model that it starts from.
        mesh: devices.
        dtype: type of the computation.
        seed: seed of fresh adapters.
        name: name of the run, in messages.

    Raises:
        ValueError: a setting that cannot work.
    """
    reader, settings = make_reader_of(section, base), _settings(section)
    module = QwenVLReward(
        base.config,
        len(settings.dimensions),
        settings.outputs,
        own_tokens=not settings.shared,
        attention=section.attention,
        remat=section.remat,
        dtype=dtype,
    )

    def network(key: Array) -> PyTree:
        rows = smallest_rows(base.config, module.dimensions)
        return module.init(key, rows)["params"]

    always = ("^head/", *([] if settings.shared else ["^tokens$"]))
    tuning: Parts | PartsAndAdapters = Parts(network, (*section.parts, *always))
    lora = section.lora
    if lora.rank:
        spec = LoRA(lora.rank, float(lora.alpha), tuple(lora.targets), float(lora.dropout))
        tuning = PartsAndAdapters(tuning, Adapters(network, spec, lora.base), seed)
    loss = VideoRewardLoss(
        module,
        tuning,
        settings.dimensions,
        section.loss,
        theta=float(section.theta),
        masks=section.masks,
    )
    plan = make_plan(tuning, loss, loop_settings(section.train), mesh, name=name)
    return JudgeTraining(plan, module, reader, settings, section, base)


def train_judge(
    folder: Path,
    training: JudgeTraining,
    rows: JudgeRows,
    clips: SeenClips,
    held_out: Mapping[str, HeldOut],
    *,
    seed: int,
) -> None:
    """Trains a reward model, and writes it to `folder/judge` with the scale of its scores.

    Scores are normalised by the mean and deviation of the validation clips. `folder/judge.json`
    holds that, and of each held-out split the accuracy without ties, `folder/scores.parquet` the
    scores of its clips.

    Args:
        folder: the stage's folder; a run that was stopped there goes on.
        training: result of `judge_training`.
        rows: pairs to train on.
        clips: all clips.
        held_out: by split, "validation" among them.
        seed: seed of the head, the order of the rows and dropout.

    Raises:
        ValueError: fewer than two validation clips.
    """
    validation = held_out["validation"].numbers
    if len(validation) < 2:
        raise ValueError(
            f"{len(validation)} clips of validation prompts: scores cannot be normalised by them. "
            "Raise config.data.held_out, or add prompts"
        )
    plan = training.plan
    size = plan.settings.batch_size
    said = ", ".join(f"{r.tokens}x{r.frames}x{r.patches}" for r in rows.rooms)
    logging.info("judge: %d pairs; tokens x frames x patches of batches: %s", len(rows), said)
    batches = training_batches(
        rows,
        batch_size=size,
        seed=seed,
        shapes=rows.shapes,
        positions=share_of(batch_sharding(plan.mesh), size).held,
    )
    params = training.start(seed)
    tuning = plan.tuning
    state = fit(
        plan,
        batches,
        folder,
        seed=seed,
        start=tuning.start(params),
        frozen=tuning.frozen(params),
    )
    trained = state.ema if plan.settings.ema_decay else state.params
    adapted = isinstance(tuning, PartsAndAdapters)
    policy = (tuning.adapted if adapted else tuning.whole)(trained, params)
    scores = {
        split: score_clips(training, policy, clips, own.numbers) for split, own in held_out.items()
    }
    dimensions = training.settings.dimensions
    scale = Normalisation.fit(
        dict(zip(dimensions, scores["validation"].T, strict=True)),
        f"{len(validation)} clips of validation prompts",
    )
    if not (folder / JUDGE).exists():  # it is put whole
        export_video_reward(
            folder / JUDGE,
            training.module,
            policy,
            dataclasses.replace(training.settings, normalisation=scale),
            training.reader,
            step=plan.settings.steps,
            dtype=training.section.export_dtype,
        )
    account = {"normalisation": {"mean": dict(scale.mean), "std": dict(scale.std), "of": scale.of}}
    for split, own in held_out.items():
        account[split] = _accuracy(dimensions, scores[split], own)
    decided("judge: account", lambda: _write(folder, account, clips, held_out, scores, scale))
    logging.info("judge: scores are normalised by %s", scale)
    for split in held_out:
        logging.info("judge: %s: %s", split, account[split])


def score_clips(
    training: JudgeTraining, policy: PyTree, clips: SeenClips, numbers: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n d"]:
    """Returns raw scores of clips, the same in every process.

    Args:
        training: result of `judge_training`.
        policy: what `apply_network` takes.
        clips: all clips.
        numbers: which of them, in `clips.index`.
    """
    reader, mesh = training.reader, training.plan.mesh
    size = filled_up(training.section.score_batch, mesh)
    share = share_of(batch_sharding(mesh), size)
    found = np.zeros((len(numbers), training.module.dimensions), np.float32)
    rooms: dict[Room, list[int]] = {}
    for i, number in enumerate(numbers):
        rooms.setdefault(room_of(clips.index.iloc[number], reader), []).append(i)
    for room, places in rooms.items():
        for start in range(0, len(places), size):
            part = places[start : start + size]
            full = np.array(padded(part, size))
            held = [clips.record(int(numbers[i])) for i in full[share.held]]
            rows = [reader.row(r["video"], r["fps"], r["prompt"]) for r in held]
            scores = training.scorer(policy, share.place(reader.pack(rows, room)))
            found[part] = np.asarray(scores)[: len(part)]
    return found


def _settings(section: ConfigDict) -> VideoRewardSettings:
    dimensions = tuple(section.dimensions)
    return VideoRewardSettings(
        dimensions,
        1 if section.head == "shared" else len(dimensions),
        section.base or "a model from nothing",
        shared=section.token == "shared",
        rate=float(section.fps),
        frames=(section.min_frames, section.max_frames),
        pixels=(section.min_pixels, section.max_pixels),
        positions=section.positions,
        most_tokens=section.most_tokens,
    )


def _accuracy(
    dimensions: Sequence[str],
    scores: Float[np.ndarray, "n d"],
    held_out: HeldOut,
) -> dict[str, Any]:
    """Clips and pairs of a split, and the accuracy on pairs with a winner, a dimension."""
    numbers, pairs, labels = held_out.numbers.tolist(), held_out.pairs, held_out.labels
    found: dict[str, Any] = {"clips": len(numbers), "pairs": len(pairs)}
    if not len(pairs):
        return found
    place = {number: i for i, number in enumerate(numbers)}
    a, b = (jnp.asarray(scores[[place[n] for n in side]]) for side in pairs.T.tolist())
    accuracy = pair_metrics(a, b, labels)["accuracy"]
    for i, name in enumerate(dimensions):
        decided_ = int((labels[:, i] < Preference.TIE).sum())
        found[name] = {"decided": decided_, "accuracy": float(accuracy[i]) if decided_ else None}
    return found


def _write(
    folder: Path,
    account: dict[str, Any],
    clips: SeenClips,
    held_out: Mapping[str, HeldOut],
    scores: Mapping[str, np.ndarray],
    scale: Normalisation,
) -> None:
    tables = []
    for split, own in held_out.items():
        raw = dict(zip(scale.mean, scores[split].T, strict=True))
        chosen = clips.index.iloc[own.numbers]
        about = {"clip": chosen.index, "prompt": chosen["prompt"].to_numpy(), "split": split}
        about |= {name: chosen[name].to_numpy() for name in ("frames", "height", "width")}
        as_read = {f"raw_{name}": values for name, values in raw.items()}
        tables.append(pd.DataFrame({**about, **scale(raw), **as_read}))
    write_table(folder / SCORES, pd.concat(tables, ignore_index=True))
    write_text(folder / ACCOUNT, json.dumps(account, indent=2) + "\n")
