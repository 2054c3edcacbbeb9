"""The graph of a config: which stages its run has, and what each reads and depends on."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.causes import Causes
from vidpref.config.fields import lookup
from vidpref.config.schema import NO_JUDGE, counts_in
from vidpref.datasets.scenes import Scene
from vidpref.digests import digest_files
from vidpref.files import write_text
from vidpref.generation.adapters import policy_lora
from vidpref.generation.cascade import Cascade, CascadeNetwork, Sampler, chunked
from vidpref.generation.generator import Generator, build_base, build_superres
from vidpref.generation.scene_conditions import SceneConditions
from vidpref.interop.lora.files import lora_files
from vidpref.interop.pipelines import TRANSFORMER
from vidpref.models.frozen import Keeping
from vidpref.models.lora import merge_into
from vidpref.rewards.registry import JUDGE, artifacts_of, judge_version, scoring, verifying
from vidpref.runs.graph import Stage, in_order
from vidpref.runs.inputs import Inputs, target
from vidpref.runs.judge_recipe import judge_stage
from vidpref.runs.policies import PRETRAINED, Labelled, Policy, load_whole
from vidpref.seeds import fold_seed
from vidpref.stages import label, pretrain, sample
from vidpref.storage import mirror
from vidpref.training.sharding import filled_up
from vidpref.typing import PyTree

# Fields that say what the network computes, and how clips are drawn from it.
NETWORK = ("model", "diffusion", "compute_dtype")
DRAWING = (*NETWORK, "sampler", "superres.enabled", "superres.sampler_steps")
# Fields of these that training alone reads.
_OF_TRAINING = (
    *("diffusion.error_in", "diffusion.flow.time"),
    *("diffusion.flow.logit_mean", "diffusion.flow.logit_std"),
)


@runtime_checkable
class Method(Protocol):
    """What a round makes of a policy; one object a kind, without state."""

    def check(self, config: ConfigDict, generator: Generator, rounds: int) -> None:
        """Refuses a config that this cannot work with; ValueError names the field."""
        ...

    def judged_dimensions(self, config: ConfigDict) -> tuple[str, ...]:
        """Returns the dimensions that the judge must score for it."""
        ...

    def needs_labels(self, config: ConfigDict) -> bool:
        """Returns whether it learns from clips that a judge scored."""
        ...

    def settings(self, config: ConfigDict) -> Mapping[str, Any]:
        """Returns what the first line of a run says of it."""
        ...

    def improve(self, recipe: "Recipe", policy: Policy, round_: int) -> Policy:
        """Returns the policy after a round, by stages that have not run yet.

        Args:
            recipe: where the stages belong.
            policy: where to start.
            round_: number of the round, from 1.
        """
        ...


class Recipe:
    """The stages of one config in one work directory; nothing runs by making it.

    Stages are found by what they depend on, so recipes of several methods in one work directory
    share their pre-training and their labelled set.

    Args:
        config: the config of a run.
        workdir: where the stages' folders lie.
        method: what a round makes of a policy.
    """

    def __init__(self, config: ConfigDict, workdir: Path, method: Method):
        self.config, self.workdir, self.method = config, workdir, method
        self.inputs = Inputs(config, workdir)
        self._samplers: dict[str, Sampler] = {}
        self._artifacts: dict[str, Stage] = {}

    @property
    def mesh(self) -> Mesh:
        """The devices of the run."""
        return self.inputs.mesh

    @property
    def drawn_at_once(self) -> int:
        """Clips of a batch of the sampler: `sampler.batch_size`, filled up for the devices."""
        return filled_up(self.config.sampler.batch_size, self.mesh)

    @functools.cached_property
    def generator(self) -> Generator:
        """The base generator."""
        return build_base(self.config)

    def folder(self, stage: Stage) -> Path:
        """Returns where a stage's files lie, once they are here."""
        return mirror.pull(self.workdir / stage.folder)

    def check_data(self) -> None:
        """Refuses a config that asks the data for more than it has; the data must be there.

        Raises:
            ValueError: names the field.
        """
        section = self.config.align
        if not counts_in("align.real_clips", self.config):
            return
        if section.real_clips > (there := len(self.inputs.data.clips)):
            raise ValueError(
                f"config.align.real_clips={section.real_clips}: the data has {there} clips; ask "
                "for fewer, or for all there are with 0"
            )

    # The graph.

    def policies(self, rounds: int) -> dict[str, Policy]:
        """Returns the policy of every round by its name, the pre-trained one first."""
        found = {PRETRAINED: self.pretrained}
        for round_ in range(1, rounds + 1):
            policy = self.method.improve(self, list(found.values())[-1], round_)
            found[policy.name] = policy
        return found

    def stages(self, rounds: int) -> list[Stage]:
        """Returns every stage of a run in the order in which they are done."""
        policies = self.policies(rounds)
        evaluated = [s for policy in policies.values() for s in self.evaluation(policy).targets]
        made = [stage for policy in policies.values() for stage in policy.stages.values()]
        return in_order([*made, *evaluated])

    @functools.cached_property
    def pretrained(self) -> Policy:
        """The policy that alignment starts from."""
        stage = self._import_stage if self.config.model.init else self._pretrain_stage("pretrain")
        return self.generator_policy(PRETRAINED, stage, functools.partial(self._load_first, stage))

    def generator_policy(self, name: str, stage: Stage, load) -> Policy:
        """Returns a policy that is the base generator with parameters of its own.

        Args:
            name: name of the policy.
            stage: the stage that makes the parameters.
            load: returns the parameters, placed on the devices.
        """
        return Policy(name, {"policy": stage}, "base", lambda: self.generator, load, load)

    @functools.cached_property
    def _import_stage(self) -> Stage:
        """Names the folder whose weights are the policy; they are read from there every time."""
        pipeline = self.inputs.pipeline

        def body(folder: Path) -> None:
            source = {"pipeline": str(pipeline.path.resolve())}
            write_text(folder / "import.json", json.dumps(source))

        known = {"transformer": pipeline.fingerprint(TRANSFORMER)}
        if counts_in("model.lora", self.config) and self.config.model.lora:
            known["lora"] = digest_files(lora_files(Path(self.config.model.lora)).items())
        return Stage("import", body, known)

    def _pretrain_stage(self, section: str) -> Stage:
        config = self.config

        def body(folder: Path) -> None:
            generator = build_superres(config) if section == "superres" else self.generator
            training = pretrain.pretraining(config, section, generator, self.mesh)
            data, texts = self.inputs.data, self.inputs.texts
            seed = fold_seed(config.seed, section)
            pretrain.pretrain(folder, training, data, texts, seed=seed)

        known = self.inputs.causes.of(*NETWORK, section, "seed")
        return Stage(section, body, known, self.inputs.stages)

    @functools.cached_property
    def _superres_stage(self) -> Stage:
        return self._pretrain_stage("superres")

    def label_samples(self, policy: Policy, round_: int) -> Labelled:
        """Clips of the train prompts, with labels, that a round learns from."""
        return self._labelled(policy, self._label_draws(round_))

    def _label_draws(self, round_: int) -> "_Draws":
        seed = fold_seed(self.config.seed, "label", round_)
        return _Draws("train", "label", (("train", "prompts"),), seed)

    def evaluation(self, policy: Policy) -> Labelled:
        """Clips of the train and test prompts, with labels, that policies are compared on.

        With `evaluate.verifier` the labels are the verifier's, and those of the judge stand beside.
        """
        found = self._labelled(policy, self._evaluation_draws)
        if not (self._verified and found.labels):
            return found
        verified = self._verify(policy, self._evaluation_draws, found.samples)
        return dataclasses.replace(verified, proxy=found.labels)

    @property
    def _evaluation_draws(self) -> "_Draws":
        sets = (("train", "train_prompts"), ("test", "test_prompts"))
        return _Draws("evaluation", "evaluate", sets, fold_seed(self.config.seed, "evaluation"))

    def _verify(self, policy: Policy, draws: "_Draws", samples: Stage) -> Labelled:
        name = f"verify-{draws.name}-{policy.name}"
        return Labelled(samples, self._label_stage(name, samples, verifying(self.config.reward)))

    def verified(self) -> dict[str, Labelled]:
        """Returns clips of the pre-trained policy with the verifier's labels, by split.

        They are those that a first round learns from, that hyper-parameters are chosen on, and
        that policies are compared on, which hold clips of train prompts besides.
        """
        policy = self.pretrained
        draws = {
            "train": self._label_draws(1),
            "validation": self._validation_draws,
            "test": self._evaluation_draws,
        }
        samples = {split: self._drawn(policy, own) for split, own in draws.items()}
        return {split: self._verify(policy, own, samples[split]) for split, own in draws.items()}

    @property
    def _verified(self) -> bool:
        return counts_in("evaluate.verifier", self.config) and self.config.evaluate.verifier

    def validation(self, policy: Policy) -> Labelled:
        """Clips of the validation prompts, with labels, that hyper-parameters are chosen on."""
        return self._labelled(policy, self._validation_draws)

    @property
    def _validation_draws(self) -> "_Draws":
        seed = fold_seed(self.config.seed, "validation")
        return _Draws("validation", "align.validation", (("validation", "prompts"),), seed)

    def loser_samples(self, policy: Policy, round_: int) -> Stage:
        """Clips for the scenes of the real clips (RealDPO: drawn once, before a round)."""
        section = self.config.align

        def scenes() -> list[Scene]:
            return self.inputs.data.real_scenes(section.real_clips)

        which = {"align.real_clips": section.real_clips, "align.losers": section.losers}
        name = f"sample-losers-{policy.name}"
        seed = fold_seed(self.config.seed, "losers", round_)
        return self._sample_stage(name, policy, scenes, section.losers, seed, which)

    def _labelled(self, policy: Policy, draws: "_Draws") -> Labelled:
        samples, name = self._drawn(policy, draws), f"{draws.name}-{policy.name}"
        if self.config.reward.name == NO_JUDGE:
            return Labelled(samples, None)
        return Labelled(samples, self._label_stage(f"label-{name}", samples, self.judged))

    def _drawn(self, policy: Policy, draws: "_Draws") -> Stage:
        name, section = f"{draws.name}-{policy.name}", lookup(self.config, draws.section)

        def scenes() -> list[Scene]:
            data = self.inputs.data
            return [
                scene
                for split, field in draws.sets
                if len(draws.sets) == 1 or data.has(split)
                for scene in data.scenes(split, section[field])
            ]

        which = {f"{draws.section}.{field}": section[field] for _, field in draws.sets}
        which[f"{draws.section}.per_prompt"] = section.per_prompt
        return self._sample_stage(
            f"sample-{name}", policy, scenes, section.per_prompt, draws.seed, which
        )

    def _sample_stage(self, name: str, policy: Policy, scenes, per_scene, seed, which) -> Stage:
        config = self.config

        def body(folder: Path) -> dict[str, int]:
            chunks = chunked(scenes(), per_scene, self.drawn_at_once)
            with self.cascade(policy).loaded() as params:
                return sample.sample_clips(
                    folder, self.sampler(policy), params, chunks, seed=seed, name=name
                )

        known = self.drawing_causes | which | {"noise": seed} | policy.causes
        inputs = {**self.inputs.stages, **policy.stages}
        if config.superres.enabled:
            inputs["superres"] = self._superres_stage
        return Stage(name, body, known, inputs)

    def _label_stage(self, name: str, samples: Stage, reward: ConfigDict) -> Stage:
        made = self._made_for(reward)

        def body(folder: Path) -> dict[str, int]:
            return label.label_clips(
                folder,
                self.folder(samples),
                reward,
                name=name,
                artifacts={name: self.folder(stage) for name, stage in made.items()},
                given=self.given,
            )

        known = self._causes_of(reward) | {"reward.dimensions": list(reward.dimensions)}
        known["templates"] = judge_version(reward)
        return Stage(name, body, known, {"samples": samples, **made})

    def _causes_of(self, reward: ConfigDict) -> dict[str, Any]:
        if reward.name == self.config.reward.name:
            return self.inputs.causes.of("reward")
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.reward = reward
        return Causes(config).of("reward")

    def _made_for(self, reward: ConfigDict) -> dict[str, Stage]:
        """The stages whose folders a judge is built from."""
        return {name: self._artifact(name) for name in artifacts_of(reward)}

    def _artifact(self, name: str) -> Stage:
        if name not in self._artifacts:
            self._artifacts[name] = ARTIFACTS[name](self)
        return self._artifacts[name]

    @property
    def judge_stages(self) -> dict[str, Stage]:
        """The stages whose folders the judge is built from, by the names of the artifacts."""
        reward = self.config.reward
        return {} if reward.name == NO_JUDGE else self._made_for(reward)

    @property
    def judge_folders(self) -> dict[str, Path]:
        """The folder of each artifact that the judge is built from, by its name."""
        return {name: self.folder(stage) for name, stage in self.judge_stages.items()}

    @functools.cached_property
    def judged(self) -> ConfigDict:
        """The reward section with all dimensions that are scored."""
        return scoring(self.config.reward, self.method.judged_dimensions(self.config))

    @property
    def drawing_causes(self) -> dict[str, Any]:
        """What drawn clips depend on besides the parameters."""
        known = self.inputs.causes.of(*DRAWING, without=_OF_TRAINING)
        return known | (self.inputs.autoencoder_causes if self.inputs.latent else {})

    # What stages do.

    def cascade(self, policy: Policy) -> Cascade:
        """Returns the networks that draw clips of a policy; they are loaded where they draw."""
        return Cascade(CascadeNetwork(policy.build(), policy.load), self._second)

    @functools.cached_property
    def _second(self) -> CascadeNetwork | None:
        """The second network of the cascade: VAE decoder, super-resolution or none."""
        if self.inputs.latent:
            return self.inputs.decoder
        if not self.config.superres.enabled:
            return None
        upsampler = build_superres(self.config)
        folder = self.folder(self._superres_stage)
        return CascadeNetwork(upsampler, lambda: load_whole(upsampler.init, folder, self.mesh))

    def sampler(self, policy: Policy) -> Sampler:
        """Returns what draws a policy's clips; policies of the same networks share it, compiled."""
        if policy.network not in self._samplers:
            self._samplers[policy.network] = Sampler(
                self.cascade(policy).networks,
                self.seen,
                batch_size=self.drawn_at_once,
                mesh=self.mesh,
            )
        return self._samplers[policy.network]

    @property
    def seen(self) -> SceneConditions:
        """What the generator sees of a scene; the stages of the inputs must be done."""
        guided = self.config.sampler.guidance_scale != 1.0
        return SceneConditions(
            self.inputs.texts,
            self.inputs.negative_prompt if guided else None,
            self.inputs.data.clips if self.generator.image == "image_latent" else None,
        )

    def validation_score(self, policy: Policy, params: PyTree) -> dict[str, float]:
        """Returns the mean score of validation clips drawn by a policy with other parameters."""
        section, draws = self.config.align.validation, self._validation_draws
        scenes = self.inputs.data.scenes("validation", section.prompts)
        chunks = chunked(scenes, section.per_prompt, self.drawn_at_once)
        artifacts = self.judge_folders
        with self.cascade(policy).with_params(params).loaded() as loaded:
            drawn = (self.sampler(policy)(loaded, chunk, draws.seed) for chunk in chunks)
            return label.mean_score(drawn, self.config.reward, artifacts, given=self.given)

    @property
    def given(self) -> bool:
        """Whether clips begin with their scene's first frame, in pixels."""
        return bool(getattr(self.generator.module, "first_frame", False))

    def _load_first(self, stage: Stage) -> PyTree:
        if not self.config.model.init:
            return load_whole(self.generator.init, self.folder(stage), self.mesh)
        lora = policy_lora(self.config, self.generator)
        return self.load_base() if lora is None else merge_into(self.load_base(), *lora)

    def load_base(self, keeping: Keeping | None = None) -> PyTree:
        """Returns the weights of `model.init`, without `model.lora`.

        Args:
            keeping: how they are kept; None for as they are stored.
        """
        wanted = target(self.generator.init, self.mesh)
        return self.inputs.pipeline.load_transformer(
            self.generator.module, wanted, keep=None if keeping is None else keeping.one
        )


@dataclasses.dataclass(frozen=True)
class _Draws:
    """Which scenes clips are drawn for.

    Attributes:
        name: name of the set, in the names of stages.
        section: path of the section with `per_prompt` and the numbers of prompts.
        sets: (split, field with its number of prompts).
        seed: seed of the noise.
    """

    name: str
    section: str
    sets: tuple[tuple[str, str], ...]
    seed: int


# Stages that make what a judge is built from: artifact's name -> stage of a recipe.
ARTIFACTS: dict[str, Callable[[Recipe], Stage]] = {
    JUDGE: lambda recipe: judge_stage(recipe.config, recipe.workdir, recipe.inputs, recipe.verified)
}
