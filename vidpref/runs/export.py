"""The policy of a finished run for diffusers or PyTorch, with a card that says what it is."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax

import vidpref
from vidpref.config.align import GUIDANCE
from vidpref.config.by_name import config_yaml
from vidpref.evaluation.model_card import model_card
from vidpref.generation.adapters import goes_on, policy_lora, trained_adapters
from vidpref.interop.export import export_pipeline
from vidpref.interop.lora.writing import export_lora, stack
from vidpref.interop.pipelines import FAMILIES, PipelineFolder
from vidpref.models.lora import LoRA
from vidpref.runs.policies import PRETRAINED, Policy
from vidpref.runs.recipe import Recipe
from vidpref.runs.run_folder import run_folder
from vidpref.runs.torch_folder import export_policy_folder
from vidpref.stages.align import settings
from vidpref.training.metrics import read_metrics
from vidpref.training.tuning import Adapters
from vidpref.typing import PyTree

FORMATS = ("diffusers", "peft", "torch")


def export_policy(
    recipe: Recipe, policies: Mapping[str, Policy], name: str, *, out: Path, form: str, dtype: str
) -> str:
    """Writes a policy of a run to a new folder; returns which policy it was, of which stage.

    Args:
        recipe: recipe of the finished run.
        policies: its policies by name.
        name: name of the one to write.
        out: the folder; must not exist or be empty.
        form: "diffusers", a whole pipeline with the policy as its transformer; or "peft", the
            adapters alone; or "torch", one PyTorch file and weights, for the networks of this
            project; "" takes the first that the generator has.
        dtype: type of the weights; adapters are float32.

    Raises:
        ValueError: a format that the generator does not have, an unknown policy or format, or
            adapters that are not there or not enough.
    """
    config = recipe.config
    form = form or ("diffusers" if config.model.name in FAMILIES else "torch")
    _check_form(config.model.name, form)
    if name not in policies:
        raise ValueError(f"--policy={name!r}: this run has {', '.join(policies)}")
    policy = policies[name]
    if form == "torch":
        command = export_policy_folder(recipe, policy, out, dtype)
        what = {"base": config.model.name, "command": command}
    else:
        what = _export_for_diffusers(recipe, policies, name, out=out, form=form, dtype=dtype)
    if jax.process_index() == 0:
        (out / "README.md").write_text(_card(recipe, policy, name, form, what), encoding="utf-8")
        for path in (out, *out.rglob("*")):  # whatever the umask: they are made to be given away
            path.chmod(0o755 if path.is_dir() else 0o644)
    return f"{name}, of stage {policy.stages['policy'].folder}, as {form}"


def _check_form(network: str, form: str) -> None:
    """Refuses a format that is unknown, or not of this network."""
    if form not in FORMATS:
        raise ValueError(f"--format={form!r}: known are {', '.join(FORMATS)}")
    if form == "torch" and network in FAMILIES:
        raise ValueError(
            f"--format=torch is for the networks of this project; a {network} generator leaves for "
            "PyTorch with --format=diffusers (the whole pipeline) or --format=peft (its LoRA)"
        )
    if form != "torch" and network not in FAMILIES:
        raise ValueError(
            f"--format={form}: a {network} generator has no counterpart in diffusers (these have: "
            f"{', '.join(FAMILIES)}); --format=torch writes it as one PyTorch file with its weights"
        )


def _export_for_diffusers(
    recipe: Recipe, policies: Mapping[str, Policy], name: str, *, out: Path, form: str, dtype: str
) -> dict[str, str]:
    """Writes a pipeline or its adapters; returns what the card says of the pipeline."""
    config = recipe.config
    folder = PipelineFolder(config.model.init)
    module, policy = recipe.generator.module, policies[name]
    if form == "diffusers":
        export_pipeline(out, folder, module, policy.load(), dtype=dtype)
    else:
        export_lora(out, folder.family, module, *stack(_adapters(recipe, policies, name)))
    return {"pipeline": folder.pipeline, "base": folder.path.resolve().name}


def _adapters(
    recipe: Recipe, policies: Mapping[str, Policy], name: str
) -> list[tuple[PyTree, LoRA]]:
    """The adapters that make a policy of the weights of `model.init`, one after another."""
    config, generator = recipe.config, recipe.generator
    rounds = list(policies)[1 : 1 + list(policies).index(name)]
    spec = trained_adapters(config, generator) if config.align.method != GUIDANCE else None
    if rounds and spec is None:
        raise ValueError(
            "this run trained the whole network (config.align.lora.rank=0) or none: "
            "--format=diffusers"
        )
    first = policy_lora(config, generator)
    if not rounds and first is None:
        raise ValueError(f"{name} has no LoRA: it is the pipeline of config.model.init")
    if goes_on(config) and rounds:  # the adapters of a round are those of the last, trained on
        first, rounds = None, rounds[-1:]
    found = [] if first is None else [first]
    for policy in rounds:
        folder = recipe.folder(policies[policy].stages["policy"])
        found.append((Adapters(generator.init, spec).load(folder, recipe.mesh), spec))
    return found


def _card(recipe: Recipe, policy: Policy, name: str, form: str, what: Mapping[str, str]) -> str:
    config = recipe.config
    stages = [stage.folder for stage in recipe.stages(config.rounds)]
    own = run_folder(recipe.workdir, f"{config.name}:{config.scale}", stages)
    evaluation = own / "evaluation.json"
    scores = json.loads(evaluation.read_text()) if evaluation.exists() else None
    last = read_metrics(recipe.folder(policy.stages["policy"]))[-1:]
    return model_card(
        policy=name,
        form=form,
        **what,
        config=f"{config.name}:{config.scale}",
        paper=config.paper,
        method=config.align.method,
        hyper=settings(config),
        lora=_lora(recipe),
        metrics=_numbers(last[0]) if last else {},
        scores=_scores(scores, name),
        version=vidpref.__version__,
        yaml=config_yaml(config),
    )


def _lora(recipe: Recipe) -> str:
    spec = trained_adapters(recipe.config, recipe.generator)
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
