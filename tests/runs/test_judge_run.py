"""A judge trained on a file of preferences: stopped and gone on with, written, used as a reward."""

import json

import numpy as np
import pandas as pd
import pytest
import transformers

from tests.language.reward_rows import DIMENSIONS, TEXT, write_tiny_model
from vidpref.config.by_name import named_config
from vidpref.datasets.miniworld import prompts
from vidpref.datasets.video import decode_frames
from vidpref.datasets.video_writing import encode_clip
from vidpref.interop.safetensors_files import TensorFolder
from vidpref.interop.video_reward import VideoRewardFolder
from vidpref.rewards.registry import build_reward
from vidpref.runs import judge_checks, judge_recipe, judge_run
from vidpref.stages import judge_training, judged_world, train_judge
from vidpref.stages.judge_given import Given
from vidpref.stages.judge_kinds import pair_rows
from vidpref.stages.judge_rows import SeenClips
from vidpref.storage import mirror
from vidpref.storage.bucket import Bucket

PROMPTS = [f"a ball number {i}" for i in range(16)]
RATE = 4.0


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """The folder of a tiny Qwen2-VL, and a file of preferences with its videos."""
    base = tmp_path_factory.mktemp("base") / "tiny-qwen2-vl"
    rng = np.random.default_rng(0)
    write_tiny_model(base, rng, 0.1)
    data = tmp_path_factory.mktemp("data")
    (data / "template.txt").write_text(TEXT + "\n")
    rows = []
    for number, prompt in enumerate(PROMPTS):
        for side, level in (("a", 200), ("b", 60)):
            frames = rng.integers(level - 40, level + 40, (6, 16, 16, 3)).astype(np.uint8)
            encode_clip(data / f"{number}{side}.mp4", frames, fps=RATE)
        names = f"{number}a.mp4", f"{number}b.mp4"
        labels = [["A", "B", "same", "invalid"][(number + i) % 4] for i in range(3)]
        rows.append((*names, prompt, *labels))
    rows.append(("0a.mp4", "broken.mp4", PROMPTS[0], "A", "A", "A"))
    (data / "broken.mp4").write_bytes(b"no video")
    columns = ["path_A", "path_B", "prompt", "VQ", "MQ", "TA"]
    pd.DataFrame(rows, columns=columns).to_csv(data / "pairs.csv", index=False)
    return base, data


def config_of(base, data, *overrides):
    return named_config(
        "videoreward",
        [
            f"judge.base={base}",
            f"judge.template={data / 'template.txt'}",
            f"data.pairs={data / 'pairs.csv'}",
            "data.held_out=0.25",
            "data.max_bad_fraction=0.1",
            "mesh.fsdp=2",
            "compute_dtype=float32",
            "judge.export_dtype=float32",
            "judge.min_pixels=64",
            "judge.max_pixels=256",
            "judge.max_frames=8",
            "judge.lora.rank=2",
            "judge.remat=none",
            "judge.attention=xla",
            "judge.train.steps=3",
            "judge.train.batch_size=8",
            "judge.train.checkpoint_every=1",
            "judge.train.log_every=1",
            "judge.train.optimizer.learning_rate=1e-2",
            "judge.train.optimizer.warmup_steps=0",
            *overrides,
        ],
    )


@pytest.mark.slow
def test_in_a_bucket_it_is_written_anew_where_it_was_cut_short(
    material, address, tmp_path, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    config, bucket = config_of(*material), Bucket(address)
    with monkeypatch.context() as patch:
        patch.setattr(train_judge, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            judge_run.run(config, mirror.open_folder(address))
    names = bucket.listing()
    assert not [name for name in names if "/." in name]
    (stage,) = {name.partition("/")[0] for name in names if name.startswith("judge-")}
    bucket.put(f"{stage}/judge/model_config.json", b"{}")
    monkeypatch.setenv("VIDPREF_CACHE", str(tmp_path / "new"))
    made = judge_run.run(config, mirror.open_folder(address))
    weights = TensorFolder(made / "checkpoint-3")
    there = VideoRewardFolder(mirror.address(made))
    assert there.settings == VideoRewardFolder(made).settings
    for name, tensor in TensorFolder(there.checkpoint).items():
        np.testing.assert_array_equal(weights[name], tensor, err_msg=name)


def test_a_judge_is_trained_gone_on_with_and_scores(material, tmp_path, monkeypatch):
    base, data = material
    config = config_of(base, data)
    made = []

    def once(*args, **options):  # one plan, so that its step is compiled once
        made.extend([] if made else [plain(*args, **options)])
        return made[0]

    plain, batches = judge_training.judge_training, train_judge.training_batches
    monkeypatch.setattr(judge_training, "judge_training", once)
    whole = judge_run.run(config, tmp_path / "whole")

    def stopping(*args, **options):
        iterator = batches(*args, **options)
        yield next(iterator)
        yield next(iterator)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_judge, "training_batches", stopping)
    with pytest.raises(KeyboardInterrupt):
        judge_run.run(config, tmp_path / "stopped")
    monkeypatch.setattr(train_judge, "training_batches", batches)
    again = judge_run.run(config, tmp_path / "stopped")
    weights, same = (TensorFolder(path / "checkpoint-3") for path in (whole, again))
    assert set(weights) == set(same)
    for name, tensor in weights.items():
        np.testing.assert_array_equal(tensor, same[name], err_msg=name)

    # what was trained has moved, and nothing else
    before = TensorFolder(base)
    moved = {
        name
        for name in before
        if name != "model.embed_tokens.weight"
        and not np.array_equal(before[name], _of(weights, name))
    }
    assert moved == {name for name in before if name.startswith("visual.")}
    embedding = _of(weights, "model.embed_tokens.weight")
    assert embedding.shape[0] == 266
    rows = (embedding != before["model.embed_tokens.weight"][:266]).any(axis=1)
    assert np.flatnonzero(rows).tolist() == [263, 264, 265]
    assert all(np.any(x) for name, x in weights.items() if "lora_B" in name)

    account = json.loads((whole.parent / "judge.json").read_text())
    scores = pd.read_parquet(whole.parent / "scores.parquet").set_index("clip")
    validation = scores[scores["split"] == "validation"]
    assert account["validation"]["clips"] == len(validation) == 2 * account["validation"]["pairs"]
    np.testing.assert_allclose(validation[list(DIMENSIONS)].mean(), 0, atol=1e-4)
    np.testing.assert_allclose(validation[list(DIMENSIONS)].std(ddof=0), 1, rtol=1e-4)
    (frames,) = (tmp_path / "whole").glob("frames-*")
    assert "broken.mp4,not_a_video" in (frames / "bad_clips.csv").read_text()

    folder = VideoRewardFolder(whole)
    assert folder.settings.normalisation.mean == account["normalisation"]["mean"]
    assert folder.settings.lora == (2, 128.0)
    reward = config.reward.copy_and_resolve_references()
    reward.unlock()
    reward.update({"name": "video_reward", "dimension": "overall", "dimensions": DIMENSIONS})
    reward.dimension = DIMENSIONS[0]
    reward.video_reward.update({"folder": str(whole), "dtype": "float32"})
    clip = validation.index[0]
    video, timing = decode_frames(data / clip)
    judged = build_reward(reward).score(
        video[None], [validation.loc[clip, "prompt"]], np.array([timing.shown_rate])
    )
    for name in DIMENSIONS:
        np.testing.assert_allclose(
            judged.scores[name][0], validation.loc[clip, name], rtol=1e-3, atol=1e-3
        )


def _of(weights, name):
    """A tensor of the base in a folder with adapters."""
    layer, _, part = name.rpartition(".")
    names = [f"base_model.model.{name}", f"base_model.model.{layer}.base_layer.{part}"]
    return next(weights[n] for n in names if n in weights)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["judge.base="], "judge.base is empty"),
        (["judge.loss=bradley"], "judge.loss='bradley': known are bt, btt, regression"),
        (["judge.template=/nowhere.txt"], "no such file of a reward model's template"),
        (["judge.token=shared"], "token of no dimension"),
        (["judge.max_frames=3"], "4 to 3 frames cannot be seen"),
        (["judge.max_pixels=63"], "a budget of 64 to 63 pixels"),
        (["judge.positions=3d"], "known are sequential, mrope"),
    ],
)
def test_what_cannot_train_is_refused(material, overrides, message):
    with pytest.raises(ValueError, match=message):
        judge_checks.check(config_of(*material, *overrides))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("judge.name=", "judge.name is empty"),
        ("data.name=video_folder", "a judge is trained on a file of preferences"),
        ("data.pairs=/nowhere.csv", "no such file or folder"),
    ],
)
def test_what_is_no_run_of_a_judge_is_refused(override, message):
    with pytest.raises(ValueError, match=message):
        judge_checks.check(named_config("videoreward", [override]))


def test_a_small_judge_starts_from_nothing_and_learns_from_the_verifier(tmp_path, monkeypatch):
    """All of `videoreward:mini` but the training itself, whose program another test compiles."""
    few = {name: prompts(name)[:5] for name in ("train", "validation", "test")}
    for module in (judge_recipe, judged_world):
        monkeypatch.setattr(module, "prompts", lambda name, camera=False: few[name])
    config = named_config("videoreward:mini", ["judge.world.prompts=4", "judge.world.wrong=1.0"])
    judge_checks.check(config)
    recipe = judge_recipe.JudgeRecipe(config, tmp_path)
    assert [s.name for s in recipe.stages] == ["judged-world", "judge-base", "judge"]
    for stage in recipe.stages[:2]:
        (tmp_path / stage.folder).mkdir()
        stage.body(tmp_path / stage.folder)
        stage.body(tmp_path / stage.folder)  # gone on with
    said = recipe._said()
    assert [len(said[name].clips) for name in said] == [16, 20, 20]
    scores = said["train"].scores.set_index(["clip", "dimension"])["score"]
    assert scores.between(1, 5).all()
    for name, turned in (("train", -1), ("validation", 1)):
        scores = said[name].scores.set_index(["clip", "dimension"])["score"]
        for row in said[name].comparisons.itertuples():
            gap = scores[row.clip_a, row.dimension] - scores[row.clip_b, row.dimension]
            sign = 0 if abs(gap) <= 4 * 0.02 + 1e-6 else np.sign(gap)
            assert {"A": 1, "B": -1, "tie": 0}[row.verdict] == turned * sign
    base = recipe.model()
    assert transformers.Qwen2VLForConditionalGeneration.from_pretrained(base.path) is not None
    training = judge_training.judge_training(
        config.judge, base, recipe.inputs.mesh, dtype="float32", seed=0
    )
    seen = SeenClips.open(tmp_path / recipe.frames.folder)
    rows = pair_rows(Given(config, base, seen, said, recipe.inputs.mesh), training)
    assert len(rows) == 4 * 6
    assert [(r.tokens, r.frames, r.patches) for r in rows.rooms] == [(256, 4, 64)]
    start = training.start(0)
    np.testing.assert_array_equal(
        start["tokens"],
        np.asarray(start["model"]["embed"]["embedding"])[training.reader.token_ids],
    )


def test_a_judge_that_is_trained_alone_has_no_clips_of_a_generator():
    config = named_config("videoreward:mini", ["judge.world.clips=drawn"])
    with pytest.raises(ValueError, match=r"no generator that draws clips; launch/tpu_run\.py"):
        judge_checks.check_alone(config)


def test_stages_follow_what_they_depend_on(material, tmp_path):
    def folders(*overrides):
        return [
            s.folder
            for s in judge_recipe.JudgeRecipe(config_of(*material, *overrides), tmp_path).stages
        ]

    before = folders()
    assert [name.partition("-")[0] for name in before] == ["data", "frames", "judge"]
    same = [a == b for a, b in zip(before, folders("judge.loss=bt"), strict=True)]
    assert same == [True, True, False]
    same = [a == b for a, b in zip(before, folders("judge.fps=1.0"), strict=True)]
    assert same == [True, False, False]
    assert folders("judge.score_batch=3", "judge.remat=full") == before
