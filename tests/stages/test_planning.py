"""What a planned step is given has the names, shapes and types of a run's first batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tests.stages.numbered_clips import PROMPTS, real_record, write_labels, write_samples
from tests.stages.numbered_clips import row_inputs as numbered
from vidpref.datasets.preferences import Preferences
from vidpref.datasets.preferences.frames import CLIPS, COMPARISONS, SCORES
from vidpref.datasets.records import RecordFile, write_records
from vidpref.datasets.scenes import Data
from vidpref.datasets.text import TextCache, WordTable
from vidpref.generation.adopt import load_config
from vidpref.generation.autoencoder import Decoder, build_autoencoder
from vidpref.generation.first_frames import FirstFrames, build_image_encoder
from vidpref.models.registry import backbone
from vidpref.stages import align, latent_reward, planning, pretrain
from vidpref.stages import train as training
from vidpref.stages.preferences import Encoded
from vidpref.stages.programs import programs
from vidpref.stages.rows.inputs import RowInputs
from vidpref.training.sharding import make_mesh

PIXELS = (
    *("data.frames=2", "data.height=4", "data.width=4", "text.length=4", "text.dim=8"),
    *("align.train.batch_size=4", "pretrain.train.batch_size=4"),
)
SUPERRES = (
    *("superres.enabled=True", "superres.train.batch_size=4"),
    *("data.high_height=8", "data.high_width=8"),
)
LATENTS = (
    *("data.frames=9", "data.height=32", "data.width=48", "text.length=4", "text.name=words"),
    *("mesh.fsdp=1", "mesh.context=1", "align.train.batch_size=4"),
)
COGVIDEOX_5B = ("data.height=480", "data.width=720", "text.length=226")  # its positions are learnt
SAMPLED = [(scene, sample, 10 * i + sample) for i, scene in enumerate("xyz") for sample in range(4)]
SCORES_OF = ("accept", "visual_quality", "motion_quality", "text_alignment")


def smallest(config):
    """Lets the networks take clips of 2 frames of 4x4."""
    config.model.dit.patch = (2, 4, 4)
    for unet in (config.model.unet3d, config.superres.model.unet3d):
        unet.patch = (2, 4, 4)
        unet.features, unet.blocks, unet.spatial = (32,), (1,), (False,)
        unet.temporal = unet.cross = (True,)
    return config


class Stopped(Exception):
    """Instead of training."""


@pytest.fixture
def first_batch(monkeypatch):
    """Runs a stage up to its first batch, and returns that with the frozen names."""
    mesh = make_mesh({}, jax.devices()[:1])

    def fit(plan, batches, folder, *, frozen, **_):
        raise Stopped(next(batches), frozen)

    monkeypatch.setattr(training, "fit", fit)

    def run(config, section, stage):
        with pytest.raises(Stopped) as stopped:
            stage(planning.section_training(config, section, mesh))
        return stopped.value.args

    return run


def check(config, section, batch, frozen):
    """The planned batch is like the real one; so are the names of what is frozen."""
    planned = planning.plan_section(config, section, make_mesh({}, jax.devices()[:1]))

    def described(tree):
        return jax.tree.map(lambda x: (x.shape, jnp.dtype(x.dtype).name), tree)

    assert described(planned.batch) == described(batch)
    assert set(planned.frozen) == set(frozen)
    return planned


def sampled_inputs(folder):
    write_samples(folder / "samples", SAMPLED)
    rng = np.random.default_rng(0)
    motion = {name: rng.uniform(size=12) for name in ("object_motion", "camera_motion")}
    scores = {name: rng.uniform(size=12) for name in SCORES_OF}
    score = np.tile([1.0, 0.0], 6)
    write_labels(folder / "labels", SAMPLED, score=score, **motion, **scores)
    losers = [(f"real-{i}", sample, 100 + i + sample) for i in range(6) for sample in range(3)]
    write_samples(folder / "losers", losers)
    folders = {name: folder / name for name in ("labels", "losers")}
    real = [real_record(number) for number in range(6)]
    return numbered(folder, real, clips=folder / "samples", **folders)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("dpo_aif:mini", ()),
        ("rwr_aif:mini", ()),
        ("sft_aif:mini", ()),
        ("flow_dpo:mini", ()),
        ("flow_rwr:mini", ()),
        ("flow_sft:mini", ()),
        ("flow_sft:mini", ("align.rows=real",)),
        ("mcdpo:mini", ()),
        ("ipo_dpo:mini", ()),
        ("ipo_kto:mini", ()),
        ("realdpo:mini", ()),
        ("flow_dpo:mini", ("align.condition_dropout=0.1",)),  # its null text is a mask
    ],
)
def test_rows_of_pixels(name, overrides, first_batch, tmp_path):
    config = load_config(name, [*PIXELS, *overrides])
    smallest(config)
    if config.align.real_clips:
        config.align.real_clips = 6
    inputs = sampled_inputs(tmp_path)

    def stage(planned):
        align.align(tmp_path, planned, inputs, seed=0, params={})

    batch, frozen = first_batch(config, "align", stage)
    check(config, "align", batch, frozen)


def test_rows_of_the_latent_reward(first_batch, tmp_path, monkeypatch):
    config = smallest(load_config("flow_nrg:mini", PIXELS))
    inputs = sampled_inputs(tmp_path)
    monkeypatch.setattr(latent_reward, "from_generator", lambda params, layers: {})

    def stage(planned):
        latent_reward.train_reward(tmp_path, planned, inputs, seed=0, params={})

    batch, frozen = first_batch(config, "align", stage)
    assert batch["preference"].shape == (4, 3)
    check(config, "align", batch, frozen)


@pytest.mark.parametrize("section", ["pretrain", "superres"])
def test_rows_of_the_data_set(section, first_batch, tmp_path):
    config = smallest(load_config("dpo_aif:mini", [*PIXELS, *SUPERRES]))
    high = np.zeros((2, 8, 8, 3), np.uint8)
    clips = [real_record(number) | {"video_high": high} for number in range(6)]
    texts = TextCache.build(tmp_path / "text", WordTable(4, 8), PROMPTS)

    def stage(planned):
        pretrain.pretrain(tmp_path, planned, Data(clips, (), PROMPTS), texts, seed=0)

    batch, frozen = first_batch(config, section, stage)
    check(config, section, batch, frozen)


def frame(columns, rows):
    """A table of preferences; what a row does not say is empty."""
    empty = {name: np.nan if kind == "float64" else "" for name, kind in columns.items()}
    return pd.DataFrame([empty | row for row in rows]).astype(columns)


def encoded_inputs(folder, generator, images):
    """Three winners with two losers each, all of them real clips."""
    ids = [f"{i}" for i in range(9)]
    clips = [{"id": i, "prompt": f"p{int(i) // 3}", "source": "real"} for i in ids]
    pairs = [(str(3 * i), str(3 * i + j)) for i in range(3) for j in (1, 2)]
    said = [
        {"clip_a": a, "clip_b": b, "prompt": f"p{int(a) // 3}", "verdict": "A", "dimension": name}
        for a, b in pairs
        for name in ("overall", "real")
    ]
    moves = [
        {"clip": i, "dimension": name, "score": 0.5}
        for i in ids
        for name in ("object_motion", "camera_motion")
    ]
    preferences = Preferences(frame(CLIPS, clips), frame(COMPARISONS, said), frame(SCORES, moves))
    latent = np.zeros(generator.clip_shape, np.float16)
    file = folder / "latents-00000.array_record"
    write_records(file, [{"prompt": f"p{int(i) // 3}", "latent": latent, **images} for i in ids])
    records = RecordFile(file)
    place, shapes = pd.Series(range(9), index=ids), np.zeros(9, int)
    prompts = ("p0", "p1", "p2")
    texts = TextCache.build(folder / "text", WordTable(*generator.text_shape), [*prompts, "none"])
    return RowInputs(
        Data(records, (), prompts),
        texts,
        encoded=Encoded(preferences, records, place, shapes),
        output="latent",
    )


def image_fields(config):
    """What the encode stage writes of first frames, in the shapes that its network gives."""
    decoder, vision = Decoder(build_autoencoder(config.model)), build_image_encoder(config.model)
    d = config.data
    prepared = {"frames": jax.ShapeDtypeStruct((1, d.height, d.width, 3), np.uint8)}
    encoder = FirstFrames(decoder, vision)
    params = {"autoencoder": jax.eval_shape(decoder.init, jax.random.key(0))}
    if vision is not None:
        size = vision.image_size
        prepared["pixels"] = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
        init = lambda key, x: vision.init(key, x)["params"]  # noqa: E731
        params["vision"] = jax.eval_shape(init, jax.random.key(0), prepared["pixels"])
    steps = planning.build_base(config).clip_shape[0]
    encode = lambda params, prepared: encoder.encode(params, prepared, steps)  # noqa: E731
    found = jax.eval_shape(encode, params, prepared)
    return {name: np.zeros(x.shape[1:], np.float16) for name, x in found.items()}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("flow_dpo:wan2_1_1_3b", ()),
        ("flow_dpo:wan2_1_1_3b", ("align.condition_dropout=0.1",)),
        ("mcdpo:wan2_1_1_3b", ()),
        ("ipo_kto:cogvideox_2b", ()),
        ("ipo_kto:cogvideox_2b", ("align.real_weight=0.1", "align.condition_dropout=0.1")),
        ("ipo_kto:cogvideox_2b", ("align.method=sft", "align.rows=preferred_winners")),
        ("realdpo:cogvideox_5b_i2v", ("align.losers=2", *COGVIDEOX_5B)),
        ("flow_dpo:wan2_1_i2v_14b", ()),
    ],
)
def test_rows_of_a_file_of_preferences(name, overrides, first_batch, tmp_path):
    config = load_config(name, [*LATENTS, *overrides])
    generator = planning.build_base(config)
    images = image_fields(config) if generator.image == "image_latent" else {}
    assert ("image_states" in images) == (name == "flow_dpo:wan2_1_i2v_14b")
    inputs = encoded_inputs(tmp_path, generator, images)
    if config.align.condition_dropout:
        null = backbone(config.model.name).null_prompt("none")
        inputs = dataclasses.replace(inputs, null_prompt=null)

    def stage(planned):
        align.align(tmp_path, planned, inputs, seed=0, params={})

    batch, frozen = first_batch(config, "align", stage)
    check(config, "align", batch, frozen)


@pytest.mark.parametrize("name", ["flow_dpo:wan2_1_1_3b", "flow_dpo:wan2_1_i2v_14b"])
def test_encoding_is_planned_with_the_first_frames_that_a_network_sees(name):
    config = load_config(name, [*LATENTS, "data.buckets=()"])
    planned = programs(config, make_mesh({}, jax.devices()[:1]))["encode"]()
    generator = planning.build_base(config)
    images = image_fields(config) if generator.image == "image_latent" else {}
    expected = {"latent": generator.clip_shape} | {field: x.shape for field, x in images.items()}
    found = planned.trace().out_info
    assert {field: x.shape[1:] for field, x in found.items()} == expected


def test_a_text_encoder_gives_its_own_type():
    config = load_config("flow_dpo:wan2_1_1_3b", [v for v in LATENTS if v != "text.name=words"])
    planned = planning.plan_section(config, "align", make_mesh({}, jax.devices()[:1]))
    assert planned.batch["text"].dtype == jnp.bfloat16


def test_sections_that_a_run_trains_by():
    sections = lambda name, *more: planning.trained_sections(load_config(name, more))  # noqa: E731
    assert sections("dpo_aif:paper") == ["align", "pretrain", "superres"]
    assert sections("flow_dpo:mini") == ["align", "pretrain"]
    assert sections("flow_dpo:wan2_1_1_3b") == ["align"]
