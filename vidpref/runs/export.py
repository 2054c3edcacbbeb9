"""The policy of a finished run as files that diffusers loads, with a card that says what it is."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

import vidpref
from vidpref.config.by_name import config_yaml
from vidpref.evaluation.model_card import model_card
from vidpref.interop.export import export_pipeline
from vidpref.interop.peft import export_lora
from vidpref.interop.pipelines import FAMILIES, PipelineFolder
from vidpref.runs.policies import PRETRAINED, Policy
from vidpref.runs.recipe import Recipe
from vidpref.stages.align import hyper_parameters
from vidpref.training.metrics import read_metrics
from vidpref.training.tuning import Adapters, lora_spec

FORMATS = ("diffusers", "peft")


def export_policy(
    recipe: Recipe, policies: Mapping[str, Policy], name: str, *, out: Path, form: str, dtype: str
) -> None:
    """Writes a policy of a run to a new folder.

    Args:
        recipe: recipe of the finished run.
        policies: its policies by name.
        name: name of the one to write.
        out: the folder; must not exist or be empty.
        form: "diffusers", a whole pipeline with the policy as its transformer; or "peft", the
            adapters alone.
        dtype: type of a pipeline's weights.

    Raises:
        ValueError: a generator that diffusers does not know, an unknown policy or format, or
            adapters that are not there or not enough.
    """
    config = recipe.config
    if config.model.name not in FAMILIES:
        raise ValueError(
            f"a {config.model.name} generator has no counterpart in diffusers; these have: "
            + ", ".join(FAMILIES)
        )
    if form not in FORMATS:
        raise ValueError(f"--format={form!r}: known are {', '.join(FORMATS)}")
    if name not in policies:
        raise ValueError(f"--policy={name!r}: this run has {', '.join(policies)}")
    folder = PipelineFolder(config.model.init)
    module, policy = recipe.generator.module, policies[name]
    if form == "diffusers":
        export_pipeline(out, folder, module, policy.load(), dtype=dtype)
    else:
        spec = lora_spec(config.align)
        if spec is None:
            raise ValueError(
                "this run trained the whole network (config.align.lora.rank=0): --format=diffusers"
            )
        if name != list(policies)[1]:
            raise ValueError(
                f"{name} is not a LoRA on the pre-trained network (it has none, or continues that "
                "of the round before): use --format=diffusers"
            )
        tuning = Adapters(recipe.generator.init, spec)
        adapters = tuning.load(recipe.folder(policy.stages["policy"]), recipe.mesh)
        export_lora(out, folder.family, module, adapters, spec)
    if jax.process_index() == 0:
        (out / "README.md").write_text(_card(recipe, policy, name, form, folder), encoding="utf-8")


def _card(recipe: Recipe, policy: Policy, name: str, form: str, folder: PipelineFolder) -> str:
    config = recipe.config
    evaluation = recipe.workdir / "evaluation.json"
    scores = json.loads(evaluation.read_text()) if evaluation.exists() else None
    last = read_metrics(recipe.folder(policy.stages["policy"]))[-1:]
    return model_card(
        policy=name,
        form=form,
        pipeline=folder.pipeline,
        base=folder.path.resolve().name,
        config=f"{config.name}:{config.scale}",
        paper=config.paper,
        method=config.align.method,
        hyper=hyper_parameters(config.align),
        lora=_lora(config.align),
        metrics=_numbers(last[0]) if last else {},
        scores=_scores(scores, name),
        version=vidpref.__version__,
        yaml=config_yaml(config),
    )


def _lora(align: ConfigDict) -> str:
    spec = lora_spec(align)
    return "" if spec is None else f"rank {spec.rank}, alpha {spec.alpha:g}"


def _numbers(record: Mapping) -> dict[str, str]:
    return {k: f"{v:.4g}" for k, v in record.items() if isinstance(v, float)}


def _scores(evaluation: dict | None, name: str) -> list[tuple[str, str, str]]:
    """(policy, prompts, acceptance with its interval) of a run with a judge."""
    if evaluation is None:
        return []
    rows = []
    for policy in dict.fromkeys((PRETRAINED, name)):
        for split, found in evaluation["policies"].get(policy, {}).items():
            low, high = (100 * bound for bound in found["ci"])
            rows.append((policy, split, f"{100 * found['accept']:.1f} % [{low:.1f}, {high:.1f}]"))
    return rows
