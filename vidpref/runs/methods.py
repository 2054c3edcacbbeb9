"""What a round makes of a policy: a trained one, or one whose sampler a trained reward guides."""

import dataclasses
import functools
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vidpref.config.align import GUIDANCE
from vidpref.config.align import METHODS as METHOD_NAMES
from vidpref.config.online import LATENT, PIXELS
from vidpref.config.schema import PREFERENCES
from vidpref.generation import guided
from vidpref.generation.adapters import goes_on, policy_lora, trained_adapters
from vidpref.generation.generator import Generator
from vidpref.models.lora import Adapted, merge_into
from vidpref.rewards.registry import judge_version
from vidpref.runs.fresh_clips import fresh_clips, judge_of_pixels, load_judge, seen_by_judge
from vidpref.runs.graph import Stage
from vidpref.runs.method import Method
from vidpref.runs.policies import PRETRAINED, Policy, load_whole, policy_name
from vidpref.runs.recipe import NETWORK, Recipe
from vidpref.seeds import fold_seed
from vidpref.stages import align, latent_reward
from vidpref.stages.rows import sampled as rows
from vidpref.stages.rows.inputs import RowInputs
from vidpref.training.tuning import Adapters
from vidpref.typing import PyTree


class Align:
    """Trains the generator, or adapters of it, on rows of clips by an objective."""

    def check(self, config: ConfigDict, generator: Generator, rounds: int) -> None:
        if rows.row_builder(config.align).file and config.data.name != PREFERENCES:
            raise ValueError(f"config.align.rows={config.align.rows!r} needs a file of preferences")
        if config.align.method == LATENT and config.data.name == PREFERENCES:
            raise ValueError(
                "align.method=prfl learns its reward from samples in pixels, not from a file"
            )
        align.check(config, generator)

    def judged_dimensions(self, config: ConfigDict) -> tuple[str, ...]:
        if config.align.method == LATENT:  # the reward is learnt from what the judge says of them
            return tuple(config.align.dimensions)
        return rows.judged_dimensions(config.align)

    def needs_labels(self, config: ConfigDict) -> bool:
        return rows.row_builder(config.align).judged

    def settings(self, config: ConfigDict) -> Mapping[str, Any]:
        return align.settings(config)

    def improve(self, recipe: Recipe, policy: Policy, round_: int) -> Policy:
        config, section = recipe.config, recipe.config.align
        builder = rows.row_builder(section)
        inputs = {"policy": policy.stages["policy"], **recipe.inputs.stages}
        reference = None
        if round_ > 1 and section.reference == "pretrained":
            reference = recipe.pretrained
            inputs["reference"] = reference.stages["policy"]
        if builder.labels:
            labelled = recipe.label_samples(policy, round_)
            inputs |= {"samples": labelled.samples, "labels": labelled.labels}
        if builder.losers:
            inputs["losers"] = recipe.loser_samples(policy, round_)
        if section.method == LATENT:
            inputs["latent_reward"] = _latent_reward_stage(recipe, policy, round_)
        name = f"align-{policy_name(config, 1)}-round{round_}"

        def body(folder: Path) -> None:
            row_inputs = _row_inputs(recipe, inputs)
            pixels = judge_of_pixels(recipe) if section.method == PIXELS else None
            judge = None
            if section.method == LATENT:
                init = guided.reward_init(recipe.generator, section)
                judge = load_whole(init, recipe.folder(inputs["latent_reward"]), recipe.mesh)
            elif pixels is not None:
                judge = load_judge(recipe, pixels)
                row_inputs = dataclasses.replace(row_inputs, seen=seen_by_judge(recipe, pixels))
            training = align.alignment(
                config, recipe.generator, recipe.mesh, judge=pixels, name=name
            )
            with fresh_clips(recipe, training) if builder.fresh else nullcontext() as rollout:
                align.align(
                    folder,
                    training,
                    row_inputs,
                    seed=fold_seed(config.seed, "align", round_),
                    params=_start(recipe, policy),
                    reference=None if reference is None else _reference(recipe, reference),
                    validate=functools.partial(recipe.validation_score, policy),
                    rollout=rollout,
                    judge=judge,
                )

        known = recipe.inputs.causes.of(*NETWORK, "align", "seed", without=["align.policy"])
        if section.train.best_metric or builder.fresh:  # clips are drawn and judged on the way
            known |= recipe.drawing_causes | recipe.inputs.causes.of("reward")
            inputs |= recipe.judge_stages
        if builder.fresh:
            known["templates"] = judge_version(recipe.judged)
        stage = Stage(name, body, known, inputs)
        load = functools.partial(_load_tuned, recipe, policy, stage)
        return recipe.generator_policy(policy_name(config, round_), stage, load)


class Guide:
    """Trains a reward of noisy clips, which guides the sampler of the unchanged generator."""

    def check(self, config: ConfigDict, generator: Generator, rounds: int) -> None:
        if config.data.name == PREFERENCES:
            raise ValueError("align.method=nrg learns from samples in pixels, not from a file")
        guided.check_guidance(config.align)
        if rounds > 1:
            raise ValueError("align.method=nrg trains no generator: there is no second round")

    def judged_dimensions(self, config: ConfigDict) -> tuple[str, ...]:
        return tuple(config.align.dimensions)

    def needs_labels(self, config: ConfigDict) -> bool:
        return True

    def settings(self, config: ConfigDict) -> Mapping[str, Any]:
        weights = {name: weight for name, weight in config.align.weights.items() if weight}
        return {"scale": config.align.scale, **weights}

    def improve(self, recipe: Recipe, policy: Policy, round_: int) -> Policy:
        config, section = recipe.config, recipe.config.align
        guiding = [f"align.{field}" for field in guided.GUIDING]
        stage = _latent_reward_stage(recipe, policy, round_)

        def load() -> tuple[PyTree, PyTree]:
            init = guided.reward_init(recipe.generator, section)
            reward = load_whole(init, recipe.folder(stage), recipe.mesh)
            return policy.load_generator(), reward

        return dataclasses.replace(
            policy,
            name=policy_name(config, round_),
            stages={**policy.stages, "guidance": stage},
            network="guided",
            build=lambda: guided.build_guided(recipe.generator, section),
            load=load,
            causes=recipe.inputs.causes.of(*guiding),
        )


METHODS: dict[str, Method] = {**dict.fromkeys(METHOD_NAMES, Align()), GUIDANCE: Guide()}


def open_recipe(config: ConfigDict, workdir: Path) -> Recipe:
    """Returns the recipe of a config, with the method that its `align` section names."""
    return Recipe(config, workdir, METHODS[config.align.method])


def _latent_reward_stage(recipe: Recipe, policy: Policy, round_: int) -> Stage:
    """Trains a reward of noisy clips, which guides the sampler or teaches a policy."""
    config, section = recipe.config, recipe.config.align
    labelled = recipe.label_samples(policy, round_)
    inputs = {
        "policy": policy.stages["policy"],
        "samples": labelled.samples,
        "labels": labelled.labels,
    }

    def body(folder: Path) -> None:
        training = latent_reward.reward_training(section, recipe.generator, recipe.mesh)
        latent_reward.train_reward(
            folder,
            training,
            _row_inputs(recipe, inputs),
            seed=fold_seed(config.seed, "latent-reward"),
            params=policy.load_generator(),
        )

    if section.method == LATENT:
        fields = [f"align.{field}" for field in guided.LEARNT]
        known = recipe.inputs.causes.of(*NETWORK, "seed", *fields, "align.reward_train")
    else:
        guiding = [f"align.{field}" for field in guided.GUIDING]
        known = recipe.inputs.causes.of(
            *NETWORK, "align", "seed", without=[*guiding, "align.policy"]
        )
    return Stage("latent-reward", body, known, inputs)


def _row_inputs(recipe: Recipe, inputs: Mapping[str, Stage]) -> RowInputs:
    """What rows are made of, opened; the stages must be done."""
    folders = {name: recipe.folder(stage) for name, stage in inputs.items()}
    dropout = recipe.config.align.condition_dropout
    return RowInputs(
        recipe.inputs.data,
        recipe.inputs.texts,
        clips=folders.get("samples"),
        labels=folders.get("labels"),
        losers=folders.get("losers"),
        encoded=recipe.inputs.encoded,
        output=recipe.generator.output,
        null_prompt=recipe.inputs.no_text if dropout else None,
        seen=recipe.seen,
    )


def _load_tuned(recipe: Recipe, policy: Policy, stage: Stage) -> PyTree:
    """Returns what an align stage wrote, with adapters merged into the policy they stand on."""
    folder, spec = recipe.folder(stage), trained_adapters(recipe.config, recipe.generator)
    if spec is None:
        return load_whole(recipe.generator.init, folder, recipe.mesh)
    adapters = Adapters(recipe.generator.init, spec).load(folder, recipe.mesh)
    base = recipe.load_base() if goes_on(recipe.config) else policy.load_generator()
    return merge_into(base, adapters, spec)


def _start(recipe: Recipe, policy: Policy) -> PyTree:
    """Returns the network that an alignment starts from; with adapters that are trained on.

    A base of adapters is kept as `align.lora.base` says; the weights of a pipeline are never on the
    devices in another form. Where clips are drawn on the way, with the adapters merged into it, it
    stays as it is stored.
    """
    config = recipe.config
    spec = trained_adapters(config, recipe.generator)
    if spec is None:
        return policy.load_generator()
    tuning = Adapters(recipe.generator.init, spec, config.align.lora.base)
    keeping = None if config.align.train.best_metric else tuning.keeping
    if not goes_on(config):
        if policy.name == PRETRAINED and config.model.init and not config.model.lora:
            return recipe.load_base(keeping)
        whole = policy.load_generator()
        return whole if keeping is None else keeping.take(whole)
    if policy.name == PRETRAINED:
        adapters, _ = policy_lora(recipe.config, recipe.generator)
        adapters = tuning.place(adapters, recipe.mesh)
    else:
        adapters = tuning.load(recipe.folder(policy.stages["policy"]), recipe.mesh)
    return Adapted(recipe.load_base(keeping), adapters, spec)


def _reference(recipe: Recipe, policy: Policy) -> PyTree:
    """Returns a policy that an alignment is held to, kept like the base of adapters."""
    spec = trained_adapters(recipe.config, recipe.generator)
    whole = policy.load_generator()
    if spec is None:
        return whole
    tuning = Adapters(recipe.generator.init, spec, recipe.config.align.lora.base)
    return tuning.keeping.take(whole)
