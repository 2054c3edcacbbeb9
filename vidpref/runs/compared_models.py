"""The two models of an evaluation: a pipeline and what tuned it, or policies of a run."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidpref.config.causes import Causes
from vidpref.coordination.agreeing import barrier, decided
from vidpref.datasets.prompts import Prompt
from vidpref.datasets.scenes import Scene
from vidpref.datasets.text import TextCache
from vidpref.datasets.video_writing import PLAYED_FPS, encode_clip
from vidpref.digests import digest_files
from vidpref.files import write_text
from vidpref.generation.cascade import Row, chunked
from vidpref.generation.text_encoders import weights_digest
from vidpref.interop.lora.files import lora_files
from vidpref.interop.pipelines import AUTOENCODER, TRANSFORMER, PipelineFolder
from vidpref.runs import rounds
from vidpref.runs.drawing import MESH, Drawable, draw_chunks, drawn_at_once, embed
from vidpref.runs.graph import Stage
from vidpref.runs.policies import PRETRAINED
from vidpref.runs.prompt_scenes import borrow_first_frames, nearest_scene, own_scenes
from vidpref.runs.prompted import check_scenes, open_pipeline, open_policy
from vidpref.runs.recipe import DRAWING
from vidpref.storage.copies import here

_SIZE = ("data.frames", "data.height", "data.width", "data.fps")
_WEIGHTS = ("transformer", "lora", "lora_scale", "clips of")  # causes that are to differ


@dataclasses.dataclass(frozen=True)
class Model:
    """One of the models.

    Attributes:
        name: "before" or "after".
        about: what it is, for readers.
        source: what its clips are drawn from.
        causes: what they depend on besides prompt, seed and number.
    """

    name: str
    about: str
    source: Drawable
    causes: Mapping[str, Any]


def pipelines(
    folder: str, overrides: Sequence[str], *, lora: str, lora_scale: float, tuned: str
) -> tuple[Model, Model]:
    """Opens a pipeline before, and after with a LoRA or another folder's weights.

    Args:
        folder: folder of a diffusers pipeline.
        overrides: changed fields of the config of both, see `open_pipeline`.
        lora: folder or file of a LoRA for the model after; "" for none.
        lora_scale: by what it is multiplied.
        tuned: folder of the pipeline after; "" for the same.

    Raises:
        ValueError: see `open_pipeline`; models whose clips are of different shapes.
    """
    after = tuned or folder
    about = f"{after} with {lora}" if lora else after
    about += f" times {lora_scale:g}" if lora and lora_scale != 1.0 else ""
    models = (
        Model("before", folder, *_pipeline(folder, overrides, "", 1.0)),
        Model("after", about, *_pipeline(after, overrides, lora, lora_scale)),
    )
    return _alike(*models)


def policies(workdir: Path, name: str = "") -> tuple[Model, Model]:
    """Opens the pre-trained policy of a finished run before, and another after.

    Args:
        workdir: its work directory, or the folder of the run.
        name: name of the policy; "" for the last one.

    Raises:
        ValueError: no finished run, or no such policy.
    """
    recipe, known = rounds.open_finished(workdir, MESH)
    name = name or list(known)[-1]
    if name not in known or name == PRETRAINED:
        others = ", ".join(other for other in known if other != PRETRAINED)
        raise ValueError(f"--policy={name}: of {workdir} can be compared {others}")
    before, after = (
        Model(
            side,
            f"{policy} of {workdir}",
            open_policy(recipe, known[policy]),
            {"clips of": recipe.evaluation(known[policy]).samples.fingerprint},
        )
        for side, policy in (("before", PRETRAINED), ("after", name))
    )
    return before, after


def differences(before: Model, after: Model) -> list[str]:
    """Returns the causes but the weights in which models differ: what else a difference may be."""
    names = dict.fromkeys((*before.causes, *after.causes))
    return [
        f"{name}: {before.causes.get(name)} before, {after.causes.get(name)} after"
        for name in names
        if name not in _WEIGHTS and before.causes.get(name) != after.causes.get(name)
    ]


def scenes_of(model: Model, prompts: Sequence[Prompt]) -> list[Scene]:
    """Returns a scene of each prompt; where a run's generator starts from a first frame, that of
    the held-out scene with the nearest prompt.

    Raises:
        ValueError: a pipeline that starts from an image, which these prompts do not have.
    """
    source, texts = model.source, [prompt.text for prompt in prompts]
    if source.generator.image and source.data is not None:
        plain = borrow_first_frames(texts, [nearest_scene(source.data, text) for text in texts])
    else:
        plain = own_scenes(texts)
    try:
        check_scenes(source.generator, plain)
    except ValueError as error:
        raise ValueError(f"{model.about}: {error}; sets of prompts have no images") from error
    return [
        dataclasses.replace(scene, id=prompt.id, category=prompt.category)
        for scene, prompt in zip(plain, prompts, strict=True)
    ]


def draw_missing(
    model: Model, out: Path, scenes: Sequence[Scene], *, per_scene: int, seed: int
) -> Path:
    """Draws the clips that are not in the model's folder yet, as MP4; returns the folder.

    Whole batches are drawn, so that a clip has its place in the batch however often it is. Every
    process of a pod writes the clips that it owns.

    Args:
        model: what to draw from.
        out: the clips go to `out/clips/NAME-FINGERPRINT`, embeddings of texts to `out/texts`.
        scenes: see `scenes_of`.
        per_scene: clips of each.
        seed: seed of the noise, which is the same for every model.
    """
    source = model.source
    stage = Stage(model.name, lambda folder: None, {**model.causes, "seed": seed})
    folder = out / "clips" / stage.folder
    batch_size = drawn_at_once(source, len(scenes) * per_scene)
    chunks = chunked(scenes, per_scene, batch_size)

    def look() -> list[int]:
        folder.mkdir(parents=True, exist_ok=True)
        for cut_short in folder.glob(".*.mp4"):  # by a kill
            cut_short.unlink()
        said = {"model": model.about, "seed": seed, **model.causes}
        write_text(folder / "settings.json", json.dumps(said, indent=2, default=str) + "\n")
        missing = [[not clip_path(folder, row).exists() for row in chunk] for chunk in chunks]
        there = len(scenes) * per_scene - sum(map(sum, missing))
        rounds.say(f"{model.name} ({model.about}): {there} of {there + sum(map(sum, missing))}")
        return [i for i, rows in enumerate(missing) if any(rows)]

    left = decided(f"clips {model.name}", look)
    if not left:
        return folder
    texts = _texts(source, out / "texts", scenes)
    fps = source.config.data.fps or PLAYED_FPS
    todo = [chunks[i] for i in left]
    for row, clip, _ in draw_chunks(source, todo, texts, seed=seed, batch_size=batch_size):
        path = clip_path(folder, row)
        if not path.exists():
            encode_clip(path, clip, fps)
    barrier(f"clips {model.name}")
    return folder


def clip_path(folder: Path, row: Row) -> Path:
    """Returns the file of a clip in a folder that `draw_missing` returned."""
    scene, number = row
    return folder / f"{scene.id}-{number}.mp4"


def _texts(source: Drawable, folder: Path, scenes: Sequence[Scene]) -> TextCache:
    """All of them, whichever clips are left: an embedding depends a little on its batch."""
    decided("the folder of texts", lambda: folder.mkdir(exist_ok=True))
    return embed(source, [scene.text for scene in scenes], folder, shared=True)


def _pipeline(
    path: str, overrides: Sequence[str], lora: str, scale: float
) -> tuple[Drawable, dict[str, Any]]:
    source = open_pipeline(path, overrides, lora, scale)
    config, folder = source.config, PipelineFolder(path)
    known = Causes(config).of(*DRAWING, "model.autoencoder", "text", *_SIZE)
    known |= {name: folder.fingerprint(name) for name in (TRANSFORMER, AUTOENCODER)}
    known["text encoder"] = weights_digest(config.text)
    if lora:
        known["lora"] = digest_files(lora_files(here(lora)).items())
        known["lora_scale"] = scale
    return source, known


def _alike(before: Model, after: Model) -> tuple[Model, Model]:
    shapes = [model.source.generator.clip_shape for model in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"clips of {before.about} and {after.about} start from noise of different shapes, "
            f"{shapes[0]} and {shapes[1]}: they cannot be compared clip by clip"
        )
    return before, after
