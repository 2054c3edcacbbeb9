"""The graph of a config: which stages its run has, and what each reads and depends on."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.causes import Causes
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
from vidpref.runs import draws
from vidpref.runs.draws import Draws
from vidpref.runs.graph import Stage, in_order
from vidpref.runs.inputs import Inputs, target
from vidpref.runs.judge_recipe import judge_stage
from vidpref.runs.method import Method
from vidpref.runs.policies import PRETRAINED, Labelled, Policy, load_whole
from vidpref.seeds import fold_seed
from vidpref.stages import label, pretrain, sample
from vidpref.storage import mirror
from vidpref.storage.copies import here
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
            known["lora"] = digest_files(lora_files(here(self.config.model.lora)).items())
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
        return self._labelled(policy, draws.to_learn_from(self.config, round_))

    def evaluation(self, policy: Policy) -> Labelled:
        """Clips of the train and test prompts, with labels, that policies are compared on.

        With `evaluate.verifier` the labels are the verifier's, and those of the judge stand beside.
        """
        of = draws.to_compare(self.config)
        found = self._labelled(policy, of)
        if not (self._verified and found.labels):
            return found
        verified = self._verify(policy, of, found.samples)
        return dataclasses.replace(verified, proxy=found.labels)

    def _verify(self, policy: Policy, of: Draws, samples: Stage) -> Labelled:
        name = f"verify-{of.name}-{policy.name}"
        return Labelled(samples, self.label_stage(name, samples, verifying(self.config.reward)))

    def verified(self) -> dict[str, Labelled]:
        """Returns clips of the pre-trained policy with the verifier's labels, by split.

        They are those that a first round learns from, that hyper-parameters are chosen on, and
        that policies are compared on, which hold clips of train prompts besides.
        """
        policy = self.pretrained
        every = {
            "train": draws.to_learn_from(self.config, 1),
            "validation": draws.to_validate(self.config),
            "test": draws.to_compare(self.config),
        }
        return {
            split: self._verify(policy, of, self._drawn(policy, of)) for split, of in every.items()
        }

    @property
    def _verified(self) -> bool:
        return counts_in("evaluate.verifier", self.config) and self.config.evaluate.verifier

    def validation(self, policy: Policy) -> Labelled:
        """Clips of the validation prompts, with labels, that hyper-parameters are chosen on."""
        return self._labelled(policy, draws.to_validate(self.config))

    def loser_samples(self, policy: Policy, round_: int) -> Stage:
        """Clips for the scenes of the real clips (RealDPO: drawn once, before a round)."""
        section = self.config.align

        def scenes() -> list[Scene]:
            return self.inputs.data.real_scenes(section.real_clips)

        which = {"align.real_clips": section.real_clips, "align.losers": section.losers}
        name = f"sample-losers-{policy.name}"
        seed = fold_seed(self.config.seed, "losers", round_)
        return self._sample_stage(name, policy, scenes, section.losers, seed, which)

    def _labelled(self, policy: Policy, of: Draws) -> Labelled:
        samples, name = self._drawn(policy, of), f"{of.name}-{policy.name}"
        if self.config.reward.name == NO_JUDGE:
            return Labelled(samples, None)
        return Labelled(samples, self.label_stage(f"label-{name}", samples, self.judged))

    def _drawn(self, policy: Policy, of: Draws) -> Stage:
        config = self.config

        def scenes() -> list[Scene]:
            return of.scenes(self.inputs.data, config)

        name, count = f"sample-{of.name}-{policy.name}", of.per_prompt(config)
        return self._sample_stage(name, policy, scenes, count, of.seed, of.causes(config))

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

    def label_stage(self, name: str, samples: Stage, reward: ConfigDict) -> Stage:
        """Returns the stage that labels drawn clips.

        Args:
            name: of the stage.
            samples: draws them, for this recipe or for another in the same work directory.
            reward: the section of the judge, or of the verifier.
        """
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
        of = draws.to_validate(self.config)
        scenes, count = of.scenes(self.inputs.data, self.config), of.per_prompt(self.config)
        chunks = chunked(scenes, count, self.drawn_at_once)
        artifacts = self.judge_folders
        with self.cascade(policy).with_params(params).loaded() as loaded:
            drawn = (self.sampler(policy)(loaded, chunk, of.seed) for chunk in chunks)
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


# Stages that make what a judge is built from: artifact's name -> stage of a recipe.
ARTIFACTS: dict[str, Callable[[Recipe], Stage]] = {
    JUDGE: lambda recipe: judge_stage(recipe.config, recipe.workdir, recipe.inputs, recipe.verified)
}
