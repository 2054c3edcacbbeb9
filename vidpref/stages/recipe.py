"""The stages of one config in one work directory, from the data to a policy and its clips."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.text import TextCache
from vidpref.stages import align, guidance, label, pretrain, rows, sample, text_encoders
from vidpref.stages.artifacts import Artifact, run_stage
from vidpref.stages.data import Data, Scene, build_data, open_data
from vidpref.stages.generator import Generator, build_base, build_superres
from vidpref.training.checkpoints import load_params
from vidpref.training.sharding import abstract_params, make_mesh
from vidpref.typing import Array, PyTree

PRETRAINED = "pretrained"

# Sections of the config that say what the network computes, and how clips are drawn from it.
_NETWORK = ("data", "text", "model", "diffusion", "compute_dtype")
_DRAWING = ("sampler", "superres")

# Noise of evaluation and validation never repeats the noise of the training samples.
_EVALUATION_SEED = 10_000
_VALIDATION_SEED = 20_000


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Sampled clips with their labels."""

    samples: Artifact
    labels: Artifact


@dataclasses.dataclass(frozen=True)
class Policy:
    """What draws clips: a folder with `params/`, and perhaps that of a reward that guides it."""

    params: Artifact
    guidance: Artifact | None = None


class Recipe:
    """The stages of one config in one work directory; every method is re-entrant.

    Artifacts are found by what they depend on, so recipes of several methods in one work
    directory share their pre-training and their labelled set.

    Args:
        config: a config with the fields of `configs/shared/aif.py`.
        workdir: where the artifacts lie.
        heading: of the n-th stage's line, e.g. "{n}/10".
    """

    def __init__(self, config: ConfigDict, workdir: Path, heading: str = "{n}"):
        self.config = config
        self.workdir = workdir
        self.mesh = make_mesh(config.mesh.to_dict())
        self.artifacts: list[Artifact] = []
        self._heading = heading

    # What the other stages stand on.

    @functools.cached_property
    def data_artifact(self) -> Artifact:
        body = functools.partial(build_data, self.config)
        cascade = {"cascade": self.config.superres.enabled}  # needs its clips at two sizes
        return self._stage("data", body, ("data",), settings=cascade)

    @functools.cached_property
    def data(self) -> Data:
        return open_data(self.config, self.data_artifact.path)

    @functools.cached_property
    def text_artifact(self) -> Artifact:
        def body(folder: Path) -> None:
            encoder = text_encoders.build_text_encoder(self.config.text, self.mesh)
            TextCache.build(folder, encoder, self.data.prompts)

        return self._stage("text", body, ("text",), {"data": self.data_artifact})

    @functools.cached_property
    def texts(self) -> TextCache:
        return TextCache(self.text_artifact.path)

    @functools.cached_property
    def generator(self) -> Generator:
        return build_base(self.config)

    # Policies: artifacts whose folder holds `params/`.

    @functools.cached_property
    def pretrained(self) -> Policy:
        return Policy(self._pretrained("pretrain", self.generator))

    @functools.cached_property
    def _superres_artifact(self) -> Artifact:
        return self._pretrained("superres", build_superres(self.config))

    @functools.cached_property
    def superres(self) -> tuple[Generator, PyTree] | None:
        """The super-resolution generator and its parameters, where the cascade is on."""
        if not self.config.superres.enabled:
            return None
        upsampler = build_superres(self.config)
        return upsampler, _load(upsampler.init, self._superres_artifact, self.mesh)

    def _pretrained(self, section: str, generator: Generator) -> Artifact:
        body = functools.partial(
            pretrain.pretrain,
            generator=generator,
            data=self.data,
            texts=self.texts,
            config=self.config[section],
            error_in=self.config.diffusion.error_in,
            seed=self.config.seed,
            mesh=self.mesh,
        )
        return self._stage(section, body, (*_NETWORK, section, "seed"), self._sources)

    def align(self, policy: Policy, name: str, round_: int) -> Policy:
        """Makes a better policy of `policy` by `config.align`.

        Args:
            policy: where to start.
            name: of that policy, for the names of its samples.
            round_: number of this round, from 1.
        """
        if self.config.align.method == guidance.METHOD:
            return self._guided(policy, self.label_samples(policy, name))
        section = self.config.align
        kind = rows.kind_of(section)
        inputs = {"policy": policy.params}
        reference = None
        if round_ > 1 and section.get("reference") == "pretrained":
            reference = self.pretrained.params
            inputs["reference"] = reference
        material = rows.Material(self.data, self.texts)
        if kind.labels:
            labelled = self.label_samples(policy, name)
            inputs |= {"samples": labelled.samples, "labels": labelled.labels}
            material = dataclasses.replace(
                material, clips=labelled.samples.path, labels=labelled.labels.path
            )
        if kind.losers:
            inputs["losers"] = self._loser_samples(policy, name)
            material = dataclasses.replace(material, losers=inputs["losers"].path)
        if align.needs_data(section):
            inputs |= self._sources

        def body(folder: Path) -> None:
            align.align(
                folder,
                generator=self.generator,
                params=self.load(policy),
                reference=None if reference is None else self.load(Policy(reference)),
                material=material,
                config=section,
                error_in=section.get("error_in", self.config.diffusion.error_in),
                seed=self.config.seed + round_,
                mesh=self.mesh,
                validate=self._validation_acceptance,
            )

        fields = [*_NETWORK, "align", "seed"]
        if section.train.best_metric:  # clips are drawn and judged on the way
            fields += [*_DRAWING, "reward"]
        stage = f"align-{policy_name(self.config, 1)}-round{round_}"
        return Policy(self._stage(stage, body, fields, inputs))

    def _guided(self, policy: Policy, labelled: Labelled) -> Policy:
        section = self.config.align
        material = rows.Material(
            self.data, self.texts, clips=labelled.samples.path, labels=labelled.labels.path
        )

        def body(folder: Path) -> None:
            guidance.train_reward(
                folder,
                generator=self.generator,
                params=self.load(policy),
                material=material,
                config=section,
                seed=self.config.seed,
                mesh=self.mesh,
            )

        learnt = {k: v for k, v in section.items() if k not in guidance.NOT_LEARNT}
        inputs = {"policy": policy.params, "samples": labelled.samples, "labels": labelled.labels}
        reward = self._stage(
            "latent-reward", body, (*_NETWORK, "seed"), inputs, settings={"align": learnt}
        )
        return Policy(policy.params, reward)

    def load(self, policy: Policy) -> PyTree:
        """Returns a policy's parameters, sharded over the mesh."""
        network = _load(self.generator.init, policy.params, self.mesh)
        if policy.guidance is None:
            return network
        init = guidance.reward_init(self.generator, self.config.align)
        return network, _load(init, policy.guidance, self.mesh)

    # Clips of a policy and what the judge says of them.

    def label_samples(self, policy: Policy, name: str) -> Labelled:
        """Samples and labels the train prompts that the alignment learns from."""
        section = self.config.label
        scenes = self.data.scenes("train", section.prompts)
        return self._labelled(policy, scenes, section.per_prompt, self.config.seed, f"train-{name}")

    def evaluation_samples(self, policy: Policy, name: str) -> Labelled:
        """Samples and labels the train and test prompts that policies are compared on."""
        section = self.config.evaluate
        scenes = self.data.scenes("train", section.train_prompts)
        scenes = scenes + self.data.scenes("test", section.test_prompts)
        seed = _EVALUATION_SEED + self.config.seed
        return self._labelled(policy, scenes, section.per_prompt, seed, f"evaluation-{name}")

    def validation_samples(self, policy: Policy, name: str) -> Labelled:
        """Samples and labels the validation prompts that hyper-parameters are chosen on."""
        section = self.config.align.validation
        scenes = self.data.scenes("validation", section.prompts)
        seed = _VALIDATION_SEED + self.config.seed
        return self._labelled(policy, scenes, section.per_prompt, seed, f"validation-{name}")

    def _loser_samples(self, policy: Policy, name: str) -> Artifact:
        """Samples clips for the scenes of the real clips (RealDPO: drawn once, before training)."""
        section = self.config.align
        _, scenes = self.data.real_clips(section.real_clips)
        return self._sampled(policy, scenes, section.losers, self.config.seed, f"losers-{name}")

    def _labelled(
        self, policy: Policy, scenes: list[Scene], per_scene: int, seed: int, name: str
    ) -> Labelled:
        samples = self._sampled(policy, scenes, per_scene, seed, name)

        def judge(folder: Path) -> None:
            label.label_clips(folder, samples.path, self.config.reward, name=f"label-{name}")

        labels = self._stage(f"label-{name}", judge, ("reward",), {"samples": samples})
        return Labelled(samples, labels)

    def _sampled(
        self, policy: Policy, scenes: list[Scene], per_scene: int, seed: int, name: str
    ) -> Artifact:
        def draw(folder: Path) -> None:
            params = [self.load(policy)]
            if self.superres:
                params.append(self.superres[1])
            chunks = sample.chunked(scenes, per_scene, self.config.sampler.batch_size)
            sampler = self._sampler if policy.guidance is None else self._guided_sampler
            sample.sample_clips(folder, sampler, params, chunks, seed=seed, name=f"sample-{name}")

        which = {"scenes": [scene.id for scene in scenes], "per_scene": per_scene, "seed": seed}
        inputs = {**self._sources, "policy": policy.params}
        if policy.guidance is not None:
            inputs["guidance"] = policy.guidance
            which |= {field: self.config.align[field] for field in guidance.GUIDING}
        if self.superres:
            inputs["superres"] = self._superres_artifact
        return self._stage(f"sample-{name}", draw, (*_NETWORK, *_DRAWING), inputs, settings=which)

    @functools.cached_property
    def _sampler(self) -> sample.Sampler:
        return self._make_sampler(self.generator)

    @functools.cached_property
    def _guided_sampler(self) -> sample.Sampler:
        return self._make_sampler(guidance.build_guided(self.generator, self.config.align))

    def _make_sampler(self, base: Generator | guidance.GuidedGenerator) -> sample.Sampler:
        return sample.Sampler(
            [base, *([self.superres[0]] if self.superres else [])],
            self.texts,
            batch_size=self.config.sampler.batch_size,
            mesh=self.mesh,
        )

    def _validation_acceptance(self, params: PyTree) -> dict[str, float]:
        section = self.config.align.validation
        scenes = self.data.scenes("validation", section.prompts)
        chunks = sample.chunked(scenes, section.per_prompt, self.config.sampler.batch_size)
        cascade = [params, *([self.superres[1]] if self.superres else [])]
        seed = _VALIDATION_SEED + self.config.seed
        return label.mean_score(
            (self._sampler(cascade, chunk, seed) for chunk in chunks), self.config.reward
        )

    def _chosen(self, field: str) -> Any:
        """A section of the config without what it holds but does not use."""
        section = self.config[field]
        if field in (
            "model",
            "reward",
            "diffusion",
        ):  # one sub-section for each name that could be chosen
            return {
                name: value
                for name, value in section.items()
                if name == section.name or not isinstance(value, ConfigDict)
            }
        if field == "text":
            return text_encoders.chosen_fields(section)
        if field == "superres" and not section.enabled:
            return {"enabled": False}
        if field == "align":
            without = {"policy"} if section.train.best_metric else {"policy", "validation"}
            return {name: value for name, value in section.items() if name not in without}
        return section

    @property
    def _sources(self) -> dict[str, Artifact]:
        return {"data": self.data_artifact, "text": self.text_artifact}

    def _stage(
        self,
        name: str,
        body: Callable[[Path], None],
        fields: Sequence[str],
        inputs: Mapping[str, Artifact] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Artifact:
        depends = {field: self._chosen(field) for field in fields} | dict(settings or {})
        heading = f"[{self._heading.format(n=len(self.artifacts) + 1)}] {name}"
        artifact = run_stage(
            self.workdir,
            name,
            body,
            settings=depends,
            inputs=inputs,
            announce=lambda state: say(f"{heading}: {state}"),
        )
        self.artifacts.append(artifact)
        return artifact


def policy_name(config: ConfigDict, round_: int) -> str:
    """The name of a config's policy in tables: "dpo", "dpo_round2"."""
    name = config.align.get("policy") or config.align.method
    return name if round_ == 1 else f"{name}_round{round_}"


def _load(init: Callable[[Array], PyTree], artifact: Artifact, mesh: Mesh) -> PyTree:
    abstract = jax.eval_shape(init, jax.random.key(0))
    return load_params(artifact.path / "params", abstract_params(abstract, mesh))


def say(line: str) -> None:
    """Prints a line of progress, in a pod once."""
    if jax.process_index() == 0:
        print(line, flush=True)
