"""Fingerprints follow causes: what touches results redoes what depends on it, nothing else does."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from vidpref.config.fields import lookup, touches_result
from vidpref.config.schema import FIELDS, counts_in
from vidpref.generation.adopt import load_config
from vidpref.runs.graph import in_order
from vidpref.runs.methods import open_recipe

# Names of data sets, judges and encoders: their change alone makes a config that cannot be.
CHOSEN = {"data.name", "text.name", "model.name", "reward.name", "judge.name", "align.method"}
SPECS = ["dpo_aif:mini", "flow_nrg:mini", "ipo_kto:mini", "realdpo:mini"]
CASCADE = ["superres.enabled=True", "align.train.best_metric=accept", "align.lora.rank=4"]


def folders(config):
    stages = open_recipe(config, Path("nowhere")).stages(config.rounds)
    return [stage.folder for stage in stages]


def changed(config, path):
    """A config that differs in one field."""
    config = config.copy_and_resolve_references()
    section, _, name = path.rpartition(".")
    with config.unlocked():
        (lookup(config, section) if section else config)[name] = other(path, lookup(config, path))
    return config


def other(path, value):
    """Another value that the field may have."""
    spec = FIELDS[path]
    if isinstance(spec.allowed, tuple):
        return next(word for word in spec.allowed if word != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        if "str" in spec.kind:
            return (*value, "more")
        if path == "data.buckets":
            return (*value, (64, 64))
        if path == "align.time_range":
            return (0.25, 0.75)
        return tuple(not v if isinstance(v, bool) else v + 1 for v in value)
    if isinstance(value, str) or value is None:
        return 7 if value is None else f"{value}-other"
    tried = (
        (value + 1, value * 0.5 + 0.125, value - 1) if isinstance(value, float) else (value + 1,)
    )
    return next(t for t in [*tried, 1, 2] if t != value and not spec.problem(t))


def check(config, before, path):
    if FIELDS[path].touches == "place" or FIELDS[path].allowed == (lookup(config, path),):
        return  # the only choice there is
    after = folders(changed(config, path))
    if touches_result(FIELDS[path], config):
        assert set(after) != set(before), f"{path} touches results, and no stage would run anew"
    else:
        assert after == before, f"{path} does not touch results"


@pytest.mark.parametrize("spec", [*SPECS, "dpo_aif:mini+cascade"])
def test_every_field_redoes_something_exactly_if_it_touches_results(spec):
    name, _, cascade = spec.partition("+")
    config = load_config(name, CASCADE if cascade else ["rounds=1"])
    paths = [p for p in FIELDS if counts_in(p, config) and p not in CHOSEN]
    assert len(paths) > 80
    before = folders(config)
    for path in paths:
        check(config, before, path)


@pytest.fixture(scope="module")
def latent_config(wan_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    (root / "clips").mkdir()
    for name in "ab":
        (root / "clips" / f"{name}.mp4").write_bytes(name.encode() * 100)
    row = {"prompt": "a", "clip_a": "clips/a.mp4", "clip_b": "clips/b.mp4", "verdict": "A"}
    (root / "pairs.jsonl").write_text(json.dumps(row))
    shutil.copytree(wan_folder, root / "wan")
    return root


def latents(root, *overrides):
    given = [f"model.init={root / 'wan'}", f"data.pairs={root / 'pairs.jsonl'}"]
    return load_config("flow_dpo:wan2_1_1_3b", [*given, *overrides])


def test_every_field_of_a_run_on_latents(latent_config):
    config = latents(latent_config)
    paths = [p for p in FIELDS if counts_in(p, config) and p not in CHOSEN]
    before = folders(config)
    for path in paths:
        if path not in ("data.layout", "align.rows"):  # of a file of pairs without a judge
            check(config, before, path)


def test_moved_files_redo_nothing_and_changed_ones_what_depends_on_them(latent_config, tmp_path):
    before = folders(latents(latent_config))
    moved = tmp_path / "moved"
    shutil.copytree(latent_config, moved)  # with other times of change
    assert folders(latents(moved)) == before

    (moved / "clips" / "a.mp4").write_bytes(b"x" * 100)  # the same name and size
    assert not read(folders(latents(moved))) & read(before)
    shutil.copy(latent_config / "clips" / "a.mp4", moved / "clips")
    (moved / "pairs.jsonl").write_text((moved / "pairs.jsonl").read_text().replace('"A"', '"B"'))
    assert not read(folders(latents(moved))) & read(before)
    shutil.copy(latent_config / "pairs.jsonl", moved)
    weights = next((moved / "wan" / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    after = folders(latents(moved))
    assert read(after) == read(before)  # these do not depend on the transformer
    assert set(after) & set(before) == read(before)


def test_a_lora_is_known_by_its_content(latent_config, tmp_path):
    """Another one, or none, redoes all that the network draws and learns; a moved one nothing."""
    rng, layer = np.random.default_rng(0), "diffusion_model.blocks.0.self_attn.q"
    for name in ("a", "b"):
        factors = {"lora_A": rng.normal(size=(2, 24)), "lora_B": rng.normal(size=(24, 2))}
        tensors = {f"{layer}.{n}.weight": x.astype(np.float32) for n, x in factors.items()}
        save_file(tensors, tmp_path / f"{name}.safetensors")
    (tmp_path / "moved").mkdir()
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "moved" / "b.safetensors")
    without, a, b, beside, moved = (
        folders(latents(latent_config, *given))
        for given in (
            (),
            (f"model.lora={tmp_path / 'a.safetensors'}",),
            (f"model.lora={tmp_path / 'b.safetensors'}",),
            (f"model.lora={tmp_path / 'a.safetensors'}", "align.lora.go_on=False"),
            (f"model.lora={tmp_path / 'moved'}",),
        )
    )
    assert moved == a
    for other in (without, b):
        assert set(other) & set(a) == read(a)
    assert {name.split("-")[0] for name in set(beside) - set(a)} == {"align", "sample"}
    peft = tmp_path / "moved"  # whose strength is in a file of its own
    (peft / "b.safetensors").rename(peft / "adapter_model.safetensors")
    strong, weak = set(), set()
    for found, alpha in ((strong, 4), (weak, 1)):
        (peft / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": alpha}))
        found.update(folders(latents(latent_config, f"model.lora={peft}")))
    assert strong & weak == read(a)


def read(names):
    """Of folders those of what is read from files: data, latents and text."""
    return {name for name in names if name.split("-")[0] in ("data", "latents", "text")}


@pytest.mark.parametrize("change", ["row", "caption", "clip", "gone"])
def test_a_folder_of_videos(change, tmp_path):
    videos = tmp_path / "clips" / "videos"
    videos.mkdir(parents=True)
    (tmp_path / "clips" / "captions.csv").write_text("file,caption\na.mp4,a cat\nb.mp4,a dog\n")
    for name in ("a.mp4", "b.mp4"):
        (videos / name).write_bytes(name.encode() * 1000)

    def found(root, *overrides):
        given = ["data.name=video_folder", f"data.path={root}", *overrides]
        return folders(load_config("sft_aif:mini", given))

    before = found(tmp_path / "clips")
    shutil.copytree(tmp_path / "clips", tmp_path / "moved")
    assert found(tmp_path / "moved") == before
    assert found(tmp_path / "moved", "data.workers=3", "data.max_bad_fraction=0.5") == before
    captions = tmp_path / "moved" / "captions.csv"
    clip = tmp_path / "moved" / "videos" / "a.mp4"
    if change == "row":
        captions.write_text(captions.read_text() + "c.mp4,a cow\n")
    elif change == "caption":
        captions.write_text(captions.read_text().replace("cat", "rat"))
    elif change == "clip":
        clip.write_bytes(b"b.mp4" * 1000)
    else:
        os.remove(clip)
    assert not set(found(tmp_path / "moved")) & set(before)


def test_a_stage_depends_on_no_more_than_it_reads():
    config = load_config("dpo_aif:mini")
    names = [s.name for s in open_recipe(config, Path("nowhere")).stages(1)]

    def redone(path):
        after = folders(changed(config, path))
        return {n for n, a, b in zip(names, folders(config), after, strict=True) if a != b}

    aligned = {"align-dpo-round1", "sample-evaluation-dpo", "label-evaluation-dpo"}
    evaluated = {f"{s}-evaluation-{p}" for s in ("sample", "label") for p in ("pretrained", "dpo")}
    assert redone("align.beta") == aligned
    assert redone("evaluate.per_prompt") == evaluated
    labels = {name for name in names if name.startswith("label-")}
    assert redone("reward.dimension") == labels | aligned
    assert redone("label.per_prompt") == aligned | {
        "sample-train-pretrained",
        "label-train-pretrained",
    }
    assert redone("pretrain.train.steps") == set(names) - {"data", "text"}
    assert redone("sampler.steps") == {n for n in names if "sample" in n or "label" in n} | aligned


def test_guidance_of_the_sampler_trains_no_new_reward():
    config = load_config("flow_nrg:mini")
    recipe = open_recipe(config, Path("nowhere"))
    (reward,) = [s for s in recipe.stages(1) if s.name == "latent-reward"]
    for path in ("align.scale", "align.guide_at", "align.weights.motion_quality"):
        again = open_recipe(changed(config, path), Path("nowhere"))
        assert reward.folder in {stage.folder for stage in again.stages(1)}


def test_methods_share_their_pretraining_and_samples():
    recipes = [open_recipe(load_config(f"{n}_aif:mini"), Path("nowhere")) for n in ("rwr", "dpo")]
    first, second = ({s.folder for s in recipe.stages(1)} for recipe in recipes)
    shared = {folder.rpartition("-")[0] for folder in first & second}
    assert {
        "data",
        "text",
        "pretrain",
        "sample-train-pretrained",
        "label-train-pretrained",
    } < shared


def test_evaluation_of_the_first_policy_stands_on_what_alignment_stands_on():
    stages = open_recipe(load_config("dpo_aif:mini"), Path("nowhere")).stages(1)
    assert in_order(stages) == stages  # every input stands in front of what reads it
