"""The whole way of a clip: data -> pretrain -> (sample -> label -> align) x rounds -> evaluate."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.text import TextCache, build_text_encoder
from vidpref.stages import align, label, pretrain, sample
from vidpref.stages.artifacts import Artifact, run_stage
from vidpref.stages.data import Data, Scene, build_data, open_data
from vidpref.stages.generator import Generator, build_base, build_superres
from vidpref.training.checkpoints import load_params
from vidpref.training.sharding import abstract_params, make_mesh
from vidpref.typing import PyTree

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
            encoder = build_text_encoder(self.config.text)
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
    def pretrained(self) -> Artifact:
        return self._pretrained("pretrain", self.generator)

    @functools.cached_property
    def _superres_artifact(self) -> Artifact:
        return self._pretrained("superres", build_superres(self.config))

    @functools.cached_property
    def superres(self) -> tuple[Generator, PyTree] | None:
        """The super-resolution generator and its parameters, where the cascade is on."""
        if not self.config.superres.enabled:
            return None
        upsampler = build_superres(self.config)
        return upsampler, _load(upsampler, self._superres_artifact, self.mesh)

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

    def align(self, policy: Artifact, labelled: Labelled, round_: int) -> Artifact:
        """Trains `policy` on labelled clips by `config.align`; `policy` is also the reference."""

        def body(folder: Path) -> None:
            align.align(
                folder,
                generator=self.generator,
                params=self.load(policy),
                clips_folder=labelled.samples.path,
                labels_folder=labelled.labels.path,
                texts=self.texts,
                config=self.config.align,
                error_in=self.config.diffusion.error_in,
                seed=self.config.seed + round_,
                mesh=self.mesh,
                validate=self._validation_acceptance,
            )

        fields = [*_NETWORK, "align", "seed"]
        if self.config.align.train.best_metric:  # clips are drawn and judged on the way
            fields += [*_DRAWING, "reward"]
        inputs = {"policy": policy, "samples": labelled.samples, "labels": labelled.labels}
        name = f"align-{self.config.align.method}-round{round_}"
        return self._stage(name, body, fields, inputs)

    def load(self, policy: Artifact) -> PyTree:
        """Returns a policy's parameters, sharded over the mesh."""
        return _load(self.generator, policy, self.mesh)

    # Clips of a policy and what the judge says of them.

    def label_samples(self, policy: Artifact, name: str) -> Labelled:
        """Samples and labels the train prompts that the alignment learns from."""
        section = self.config.label
        scenes = self.data.scenes("train", section.prompts)
        return self._labelled(policy, scenes, section.per_prompt, self.config.seed, f"train-{name}")

    def evaluation_samples(self, policy: Artifact, name: str) -> Labelled:
        """Samples and labels the train and test prompts that policies are compared on."""
        section = self.config.evaluate
        scenes = self.data.scenes("train", section.train_prompts)
        scenes = scenes + self.data.scenes("test", section.test_prompts)
        seed = _EVALUATION_SEED + self.config.seed
        return self._labelled(policy, scenes, section.per_prompt, seed, f"evaluation-{name}")

    def validation_samples(self, policy: Artifact, name: str) -> Labelled:
        """Samples and labels the validation prompts that hyper-parameters are chosen on."""
        section = self.config.align.validation
        scenes = self.data.scenes("validation", section.prompts)
        seed = _VALIDATION_SEED + self.config.seed
        return self._labelled(policy, scenes, section.per_prompt, seed, f"validation-{name}")

    def _labelled(
        self, policy: Artifact, scenes: list[Scene], per_scene: int, seed: int, name: str
    ) -> Labelled:
        def draw(folder: Path) -> None:
            params = [self.load(policy)]
            if self.superres:
                params.append(self.superres[1])
            chunks = sample.chunked(scenes, per_scene, self.config.sampler.batch_size)
            sample.sample_clips(
                folder, self._sampler, params, chunks, seed=seed, name=f"sample-{name}"
            )

        which = {"scenes": [scene.id for scene in scenes], "per_scene": per_scene, "seed": seed}
        inputs = {**self._sources, "policy": policy}
        if self.superres:
            inputs["superres"] = self._superres_artifact
        samples = self._stage(
            f"sample-{name}", draw, (*_NETWORK, *_DRAWING), inputs, settings=which
        )

        def judge(folder: Path) -> None:
            label.label_clips(folder, samples.path, self.config.reward, name=f"label-{name}")

        labels = self._stage(f"label-{name}", judge, ("reward",), {"samples": samples})
        return Labelled(samples, labels)

    @functools.cached_property
    def _sampler(self) -> sample.Sampler:
        return sample.Sampler(
            [self.generator, *([self.superres[0]] if self.superres else [])],
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
        if field in ("model", "reward"):  # one sub-section for each name that could be chosen
            return {
                name: value
                for name, value in section.items()
                if name == section.name or not isinstance(value, ConfigDict)
            }
        if field == "superres" and not section.enabled:
            return {"enabled": False}
        if field == "align" and not section.train.best_metric:
            return {name: value for name, value in section.items() if name != "validation"}
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
            announce=lambda state: _say(f"{heading}: {state}"),
        )
        self.artifacts.append(artifact)
        return artifact


def policy_name(method: str, round_: int) -> str:
    """The name of a policy in tables: "dpo", "dpo_round2"."""
    return method if round_ == 1 else f"{method}_round{round_}"


def run(config: ConfigDict, workdir: Path) -> tuple[Recipe, dict[str, Labelled]]:
    """Runs every stage of a config, from data to labelled evaluation clips.

    Returns:
        The recipe with its artifacts, and the evaluation clips of each policy by its name.
    """
    align.hyper_parameters(config.align)  # refuse a bad config before anything is computed
    label.build_reward(config.reward)
    _say(_header(config))
    stages = 3 + config.superres.enabled + 3 * config.rounds + 2 * (config.rounds + 1)
    recipe = Recipe(config, workdir, heading=f"{{n}}/{stages}")
    policy = recipe.pretrained
    policies = {PRETRAINED: policy}
    for round_ in range(1, config.rounds + 1):
        labelled = recipe.label_samples(policy, list(policies)[-1])
        policy = recipe.align(policy, labelled, round_)
        policies[policy_name(config.align.method, round_)] = policy
    evaluated = {name: recipe.evaluation_samples(p, name) for name, p in policies.items()}
    return recipe, evaluated


def _load(owner: Generator, artifact: Artifact, mesh: Mesh) -> PyTree:
    abstract = jax.eval_shape(owner.init, jax.random.key(0))
    return load_params(artifact.path / "params", abstract_params(abstract, mesh))


def _header(config: ConfigDict) -> str:
    """What runs, where, and the scale of beta, which means nothing without its reduction."""
    hyper = {**align.hyper_parameters(config.align), "reduction": config.align.reduction}
    settings = ", ".join(f"{name}={value}" for name, value in hyper.items())
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    expected = f"; {config.expected_time}" if config.expected_time else ""
    return (
        f"{config.name}:{config.scale}: {config.align.method} with {settings}, "
        f"{config.rounds} round(s), on {devices}{expected}"
    )


def _say(line: str) -> None:
    if jax.process_index() == 0:
        print(line, flush=True)
