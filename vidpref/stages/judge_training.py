"""What the `judge` section of a config trains: network, reader, loss and plan."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.config.training import loop_settings
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.interop.video_reward import (
    load_base,
    make_reader,
)
from vidpref.interop.video_reward_settings import VideoRewardSettings
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.reward_template import RewardTemplate
from vidpref.language.video_reward import RewardReader
from vidpref.losses.video_reward import VideoRewardLoss
from vidpref.models.qwen_vl.packing import Room
from vidpref.models.qwen_vl.reward import (
    QwenVLReward,
    RewardInputs,
    shapes_of,
    smallest_rows,
)
from vidpref.rewards.video_reward import scoring
from vidpref.stages.judge_tuning import judge_tuning, kept
from vidpref.storage.copies import here
from vidpref.training.plan import Plan, make_plan
from vidpref.training.sharding import (
    abstract_params,
    batch_sharding,
)
from vidpref.typing import Array, PyTree

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
        return kept(self.plan.tuning, params)


def template_file(section: ConfigDict) -> Path:
    """Returns where the template of a `judge` section lies."""
    path = here(section.template)
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
    tuning = judge_tuning(section, network, seed, always)
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
