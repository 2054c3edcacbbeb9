"""The stages of one config in one work directory, from the data to a policy and its clips."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.scenes import Scene
from vidpref.files import write_text
from vidpref.generation import guided
from vidpref.generation.adapters import ADAPTERS, load_adapters, lora_spec, merge_into
from vidpref.generation.autoencoder import Decoder
from vidpref.generation.cascade import Sampler, chunked
from vidpref.generation.generator import Generator, build_base, build_superres
from vidpref.interop.pipelines import TRANSFORMER
from vidpref.runs.artifacts import Artifact
from vidpref.runs.inputs import Sources, target
from vidpref.runs.runner import DRAWING, NETWORK, Runner
from vidpref.stages import align, label, latent_reward, pretrain, sample
from vidpref.stages.rows import sampled as rows
from vidpref.stages.rows.inputs import Material
from vidpref.training.checkpoints import load_params
from vidpref.training.sharding import make_mesh
from vidpref.typing import Array, PyTree

PRETRAINED = "pretrained"

_IMPORTED = "import.json"

# Noise of evaluation and validation never repeats the noise of the training samples.
_EVALUATION_SEED = 10_000
_VALIDATION_SEED = 20_000


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Sampled clips with their labels; without a judge they have none."""

    samples: Artifact
    labels: Artifact | None


@dataclasses.dataclass(frozen=True)
class Policy:
    """What draws clips.

    Attributes:
        params: its folder holds `params/`, or `adapters/` of `base`.
        guidance: folder of a reward that guides the sampler.
        base: the policy that the adapters stand on.
    """

    params: Artifact
    guidance: Artifact | None = None
    base: "Policy | None" = None


class Recipe:
    """The stages of one config in one work directory; every method is re-entrant.

    Artifacts are found by what they depend on, so recipes of several methods in one work
    directory share their pre-training and their labelled set.

    Args:
        config: a config with the fields of `configs/shared/aif.py`.
        workdir: where the artifacts lie.
        heading: of the n-th stage's line, e.g. "{n}/10".
        only_finished: run no stage, in silence; one that is not done is an error.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        heading: str = "{n}",
        *,
        only_finished: bool = False,
    ):
        self.config = config
        self.workdir = workdir
        self.mesh = make_mesh(config.mesh.to_dict())
        self.generator = build_base(config)
        runner = Runner(config, workdir, heading, only_finished=only_finished)
        self.artifacts, self._run = runner.artifacts, runner.run
        self.sources = Sources(runner, self.generator.image, self.mesh)

    def check_data(self) -> None:
        """Refuses a config that asks the data for more than it has, before anything is trained."""
        wanted = self.config.align.get("real_clips", 0)
        if wanted and wanted > (there := len(self.sources.data.clips)):
            raise ValueError(
                f"config.align.real_clips={wanted}: the data has {there} clips; ask for fewer, or "
                "for all there are with 0"
            )

    # Policies.

    @functools.cached_property
    def pretrained(self) -> Policy:
        if self.config.model.get("init"):
            return Policy(self._imported)
        return Policy(self._pretrained("pretrain", self.generator))

    @functools.cached_property
    def _imported(self) -> Artifact:
        """Names the folder whose weights are the policy; they are read from there every time."""

        def body(folder: Path) -> None:
            source = {"pipeline": str(self.sources.pipeline.path.resolve())}
            write_text(folder / _IMPORTED, json.dumps(source))

        settings = {"transformer": self.sources.pipeline.fingerprint(TRANSFORMER)}
        return self._run("import", body, (), settings=settings)

    @functools.cached_property
    def _superres_artifact(self) -> Artifact:
        return self._pretrained("superres", build_superres(self.config))

    @functools.cached_property
    def second(self) -> tuple[Generator | Decoder, PyTree] | None:
        """What clips go through after the generator, and its parameters.

        The autoencoder where they are latents, the super-resolution generator where that is on.
        """
        if self.generator.latent:
            return self.sources.decoder
        if not self.config.superres.enabled:
            return None
        upsampler = build_superres(self.config)
        return upsampler, _load(upsampler.init, self._superres_artifact, self.mesh)

    def _pretrained(self, section: str, generator: Generator) -> Artifact:
        body = functools.partial(
            pretrain.pretrain,
            generator=generator,
            data=self.sources.data,
            texts=self.sources.texts,
            config=self.config[section],
            error_in=self.config.diffusion.error_in,
            seed=self.config.seed,
            mesh=self.mesh,
        )
        return self._run(section, body, (*NETWORK, section, "seed"), self.sources.artifacts)

    def align(self, policy: Policy, name: str, round_: int) -> Policy:
        """Makes a better policy of `policy` by `config.align`.

        Args:
            policy: where to start.
            name: of that policy, for the names of its samples.
            round_: number of this round, from 1.
        """
        if self.config.align.method == guided.METHOD:
            return self._guided(policy, self.label_samples(policy, name))
        section = self.config.align
        kind = rows.kind_of(section)
        inputs = {"policy": policy.params}
        reference = None
        if round_ > 1 and section.get("reference") == "pretrained":
            reference = self.pretrained.params
            inputs["reference"] = reference
        material = self._material
        if kind.labels:
            labelled = self.label_samples(policy, name)
            inputs |= {"samples": labelled.samples, "labels": labelled.labels}
            material = dataclasses.replace(
                material, clips=labelled.samples.path, labels=labelled.labels.path
            )
        if kind.losers:
            inputs["losers"] = self._loser_samples(policy, name)
            material = dataclasses.replace(material, losers=inputs["losers"].path)
        if kind.file or align.needs_data(section):
            inputs |= self.sources.artifacts

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

        fields = [*NETWORK, "align", "seed"]
        if section.train.best_metric:  # clips are drawn and judged on the way
            fields += [*DRAWING, "reward"]
        stage = f"align-{policy_name(self.config, 1)}-round{round_}"
        return Policy(self._run(stage, body, fields, inputs), base=policy)

    def _guided(self, policy: Policy, labelled: Labelled) -> Policy:
        section = self.config.align
        material = dataclasses.replace(
            self._material, clips=labelled.samples.path, labels=labelled.labels.path
        )

        def body(folder: Path) -> None:
            latent_reward.train_reward(
                folder,
                generator=self.generator,
                params=self.load(policy),
                material=material,
                config=section,
                seed=self.config.seed,
                mesh=self.mesh,
            )

        learnt = {k: v for k, v in section.items() if k not in guided.NOT_LEARNT}
        inputs = {"policy": policy.params, "samples": labelled.samples, "labels": labelled.labels}
        reward = self._run(
            "latent-reward", body, (*NETWORK, "seed"), inputs, settings={"align": learnt}
        )
        return Policy(policy.params, reward)

    @functools.cached_property
    def _material(self) -> Material:
        dropout = self.config.align.get("condition_dropout", 0.0)
        return Material(
            self.sources.data,
            self.sources.texts,
            encoded=self.sources.encoded,
            output=self.generator.output,
            null_prompt=self.sources.null_prompt if dropout else None,
        )

    def load(self, policy: Policy) -> PyTree:
        """Returns a policy's parameters, sharded over the mesh."""
        network = self._load_network(policy)
        if policy.guidance is None:
            return network
        init = guided.reward_init(self.generator, self.config.align)
        return network, _load(init, policy.guidance, self.mesh)

    def _load_network(self, policy: Policy) -> PyTree:
        folder = policy.params.path
        if (folder / _IMPORTED).exists():
            wanted = target(self.generator.init, self.mesh)
            return self.sources.pipeline.load_transformer(self.generator.module, wanted)
        if not (folder / ADAPTERS).exists():
            return _load(self.generator.init, policy.params, self.mesh)
        spec = lora_spec(self.config.align)
        adapters = load_adapters(folder, spec, self._boxed, self.mesh)
        return merge_into(self._load_network(policy.base), adapters, spec)

    @functools.cached_property
    def _boxed(self) -> PyTree:
        return jax.eval_shape(self.generator.init, jax.random.key(0))

    # Clips of a policy and what the judge says of them.

    def label_samples(self, policy: Policy, name: str) -> Labelled:
        """Samples and labels the train prompts that the alignment learns from."""
        section = self.config.label
        scenes = self.sources.data.scenes("train", section.prompts)
        return self._labelled(policy, scenes, section.per_prompt, self.config.seed, f"train-{name}")

    def evaluation_samples(self, policy: Policy, name: str) -> Labelled:
        """Samples and labels the train and test prompts that policies are compared on."""
        section = self.config.evaluate
        scenes = [
            scene
            for split, count in (("train", section.train_prompts), ("test", section.test_prompts))
            if self.sources.data.has(split)
            for scene in self.sources.data.scenes(split, count)
        ]
        seed = _EVALUATION_SEED + self.config.seed
        return self._labelled(policy, scenes, section.per_prompt, seed, f"evaluation-{name}")

    def validation_samples(self, policy: Policy, name: str) -> Labelled:
        """Samples and labels the validation prompts that hyper-parameters are chosen on."""
        section = self.config.align.validation
        scenes = self.sources.data.scenes("validation", section.prompts)
        seed = _VALIDATION_SEED + self.config.seed
        return self._labelled(policy, scenes, section.per_prompt, seed, f"validation-{name}")

    def _loser_samples(self, policy: Policy, name: str) -> Artifact:
        """Samples clips for the scenes of the real clips (RealDPO: drawn once, before training)."""
        section = self.config.align
        _, scenes = self.sources.data.real_clips(section.real_clips)
        return self._sampled(policy, scenes, section.losers, self.config.seed, f"losers-{name}")

    def _labelled(
        self, policy: Policy, scenes: list[Scene], per_scene: int, seed: int, name: str
    ) -> Labelled:
        samples = self._sampled(policy, scenes, per_scene, seed, name)
        if self.config.reward.name == label.NO_JUDGE:
            return Labelled(samples, None)

        def judge(folder: Path) -> None:
            label.label_clips(folder, samples.path, self.config.reward, name=f"label-{name}")

        labels = self._run(f"label-{name}", judge, ("reward",), {"samples": samples})
        return Labelled(samples, labels)

    def _sampled(
        self, policy: Policy, scenes: list[Scene], per_scene: int, seed: int, name: str
    ) -> Artifact:
        def draw(folder: Path) -> None:
            params = [self.load(policy), *([self.second[1]] if self.second else [])]
            chunks = chunked(scenes, per_scene, self.config.sampler.batch_size)
            sampler = self._sampler if policy.guidance is None else self._guided_sampler
            sample.sample_clips(folder, sampler, params, chunks, seed=seed, name=f"sample-{name}")

        which = {"scenes": [scene.id for scene in scenes], "per_scene": per_scene, "seed": seed}
        inputs = {**self.sources.artifacts, "policy": policy.params}
        if policy.guidance is not None:
            inputs["guidance"] = policy.guidance
            which |= {field: self.config.align[field] for field in guided.GUIDING}
        if self.config.superres.enabled:
            inputs["superres"] = self._superres_artifact
        if self.generator.latent:
            which["autoencoder"] = self.sources.autoencoder_fingerprint
        return self._run(f"sample-{name}", draw, (*NETWORK, *DRAWING), inputs, settings=which)

    @functools.cached_property
    def _sampler(self) -> Sampler:
        return self._make_sampler(self.generator)

    @functools.cached_property
    def _guided_sampler(self) -> Sampler:
        return self._make_sampler(guided.build_guided(self.generator, self.config.align))

    def _make_sampler(self, base: Generator | guided.GuidedGenerator) -> Sampler:
        classifier_free = self.config.sampler.guidance_scale != 1.0
        return Sampler(
            [base, *([self.second[0]] if self.second else [])],
            self.sources.texts,
            batch_size=self.config.sampler.batch_size,
            mesh=self.mesh,
            null_prompt=self.sources.null_prompt if classifier_free else None,
            clips=self.sources.data.clips if self.generator.image == "image_latent" else None,
        )

    def _validation_acceptance(self, params: PyTree) -> dict[str, float]:
        section = self.config.align.validation
        scenes = self.sources.data.scenes("validation", section.prompts)
        chunks = chunked(scenes, section.per_prompt, self.config.sampler.batch_size)
        cascade = [params, *([self.second[1]] if self.second else [])]
        seed = _VALIDATION_SEED + self.config.seed
        return label.mean_score(
            (self._sampler(cascade, chunk, seed) for chunk in chunks), self.config.reward
        )


def policy_name(config: ConfigDict, round_: int) -> str:
    """The name of a config's policy in tables: "dpo", "dpo_round2"."""
    name = config.align.get("policy") or config.align.method
    return name if round_ == 1 else f"{name}_round{round_}"


def _load(init: Callable[[Array], PyTree], artifact: Artifact, mesh: Mesh) -> PyTree:
    return load_params(artifact.path / "params", target(init, mesh))
