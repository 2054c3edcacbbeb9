"""Metrics as rewards: numbers of the originals, what is a failure, and labels of a stage."""

import numpy as np
import pytest
import torch

from tests.interop.tiny_clip import OpenClip, processor
from tests.models.raft_in_torch import SMALL, RaftInTorch
from tests.rewards import metric_folders
from tests.rewards.metric_folders import section
from tests.stages.sampled_clips import write_sampled
from vidpref.config.align import Align
from vidpref.config.align import Weights as Weighing
from vidpref.config.fields import build
from vidpref.config.metrics import METRICS, Aesthetic, OpticalFlow, TextImage
from vidpref.datasets.miniworld import PROMPTS, render, scene
from vidpref.interop.clip_folders import ClipFolder
from vidpref.interop.clip_tokens import ClipTokens
from vidpref.interop.image_processor import ImageProcessor
from vidpref.interop.safetensors_files import TensorFolder, write_tensors
from vidpref.rewards.registry import build_reward, check_reward, judge_version
from vidpref.rewards.reward import Reward
from vidpref.stages import label
from vidpref.stages.rows.sampled import scalar_reward

TOLERANCE = 1e-4
TEXTS = ["a cat", "two dogs", "a cat"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("metrics")
    return root, metric_folders.write_all(root)


def clips(count=3, frames=5, h=20, w=24):
    random = np.random.default_rng(0)
    still = random.integers(0, 256, (count, 1, h, w, 3), np.uint8)
    return np.concatenate([np.roll(still, t, axis=3) for t in range(frames)], axis=1)


def cosines(model, root, folder, shown, texts, fit):
    """Of every frame and its text, by PyTorch."""
    tokens = ClipTokens(root / folder, metric_folders.LENGTH, 10**4)(texts)
    frames = ImageProcessor(28, fit)(shown.reshape(-1, *shown.shape[2:]))
    pixels, ids = torch.from_numpy(frames.transpose(0, 3, 1, 2)), torch.from_numpy(tokens).long()
    with torch.no_grad():
        if isinstance(model, OpenClip):
            logits = model(pixels, ids)
        else:
            logits = model(input_ids=ids, pixel_values=pixels).logits_per_image
    found = (logits / model.logit_scale.exp()).detach().numpy()
    return np.stack([found[i * shown.shape[1] :][: shown.shape[1], i] for i in range(len(texts))])


@pytest.mark.parametrize(
    ("name", "folder", "fit"),
    [("clip_score", "clip", "crop"), ("pick_score", "pick", "crop"), ("hps_v2", "hps", "pad")],
)
def test_scores_are_the_cosines_of_the_original_added_up(name, folder, fit, models):
    root, originals = models
    shown = clips()
    judge = build_reward(section(root, name, eta=2.0, gamma=0.5))
    assert isinstance(judge, Reward)
    said = judge.score(shown, TEXTS)
    wanted = cosines(originals[name], root, folder, shown, TEXTS, fit).sum(axis=1)
    np.testing.assert_allclose(said.scores[name], 2 * wanted + 0.5, rtol=TOLERANCE, atol=TOLERANCE)
    assert said.reasons[0] == f"{name} {wanted[0]:.4f} over 5 frames"
    assert np.ptp(wanted) > 100 * TOLERANCE
    assert not said.failures


def test_some_frames_are_enough_where_that_is_wanted(models):
    root, originals = models
    shown, model = clips(), originals["clip_score"]
    said = build_reward(section(root, "clip_score", frames=3)).score(shown, TEXTS)
    wanted = cosines(model, root, "clip", shown[:, ::2], TEXTS, "crop").sum(axis=1)
    np.testing.assert_allclose(said.scores["clip_score"], wanted, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_aesthetic_score_is_a_linear_function_of_clips_image(models):
    root, originals = models
    shown = clips(count=2)
    said = build_reward(section(root, "aesthetic")).score(shown, TEXTS[:2])
    frames = processor(28)(list(shown.reshape(-1, *shown.shape[2:])), return_tensors="pt")
    head = TensorFolder(metric_folders.weights_of(root / "head"))
    with torch.no_grad():
        image = originals["clip_score"].get_image_features(**frames).pooler_output.numpy()
    image /= np.linalg.norm(image, axis=-1, keepdims=True)
    wanted = (image @ head["weight"][0] + head["bias"][0]).reshape(2, 5).sum(axis=1)
    np.testing.assert_allclose(said.scores["aesthetic"], wanted, rtol=TOLERANCE)


def test_optical_flow_is_the_norm_of_rafts_where_it_is_largest(models):
    root, _ = models
    shown = clips(count=2, frames=3, h=20, w=33)
    said = build_reward(section(root, "optical_flow")).score(shown, TEXTS[:2])
    raft = RaftInTorch(SMALL)
    file = TensorFolder(metric_folders.weights_of(root / "raft"))
    raft.tensors = {name: torch.from_numpy(file[name]) for name in file}
    wide = np.repeat(np.repeat(shown, 7, axis=2), 7, axis=3)  # 140 x 231: 128 at least
    wide = np.pad(wide, ((0, 0), (0, 0), (0, 4), (0, 1), (0, 0)), mode="edge")  # 144 x 232
    pixels = torch.from_numpy(wide.astype(np.float32) / 127.5 - 1).permute(0, 1, 4, 2, 3)
    wanted = np.zeros(2)
    with torch.no_grad():
        for t in range(2):
            flow = raft(pixels[:, t], pixels[:, t + 1], 2)[..., :140, :231].numpy() / 7
            norms = np.sort(np.linalg.norm(flow, axis=1).reshape(2, -1))
            wanted += norms[:, -int(0.05 * 140 * 231) :].mean(axis=1)
    np.testing.assert_allclose(said.scores["optical_flow"], wanted, rtol=TOLERANCE)
    assert said.reasons[1] == f"optical_flow {wanted[1]:.4f} over 2 pairs of frames"


def test_what_cannot_be_measured_is_a_failure_and_the_rest_keeps_its_scores(models):
    root, _ = models
    judge = build_reward(section(root, "clip_score", "optical_flow"))
    said = judge.score(clips(frames=1), ["a cat", " ", "a dog"])
    assert said.failures == {
        0: "optical_flow: a clip of one frame has no optical flow",
        1: "clip_score: the prompt is empty: what the clip was made for is unknown",
        2: "optical_flow: a clip of one frame has no optical flow",
    }
    assert np.isnan(said.scores["clip_score"]).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="3 clips and 1 prompts"):
        judge.score(clips(), ["a cat"])


def test_a_value_that_is_not_finite_is_a_failure(models, tmp_path):
    root, _ = models
    head = {"weight": np.zeros((1, 16), np.float32), "bias": np.float32([np.inf])}
    (path,) = write_tensors(tmp_path, head)
    changed = Aesthetic(folder=str(root / "clip"), head=str(path))
    said = build_reward(section(root, "aesthetic", aesthetic=changed)).score(clips(1), ["a"])
    assert said.failures == {0: "aesthetic: the network gave a value that is not finite"}
    assert np.isnan(said.scores["aesthetic"]).all()


def test_a_stage_labels_clips_of_the_mini_world_by_all_metrics(models, tmp_path):
    root, originals = models
    shown = np.stack([render(scene(prompt, 3))[:4] for prompt in PROMPTS[:4]])
    for name in ("samples", "labels"):
        (tmp_path / name).mkdir()
    write_sampled(tmp_path / "samples", shown)
    names = tuple(name for name in METRICS if name != "hps_v3")  # see test_hps_v3.py
    reward = section(root, *names)
    assert check_reward(reward) == names
    label.label_clips(tmp_path / "labels", tmp_path / "samples", reward, name="label")
    labels = label.read_labels(tmp_path / "labels")
    assert labels["rationale"].str.count("; ").tolist() == [4] * 4
    assert np.isfinite(labels[list(names)]).all(axis=None)
    texts = [f"prompt {i}" for i in range(4)]
    wanted = cosines(originals["hps_v2"], root, "hps", shown, texts, "pad").sum(axis=1)
    np.testing.assert_allclose(labels["hps_v2"], wanted, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_array_equal(labels["score"], labels["clip_score"])
    weighing = build(Align(reward=Weighing(clip_score=2.0, optical_flow=-0.5)))
    wanted = 2 * labels["clip_score"] - 0.5 * labels["optical_flow"]
    np.testing.assert_allclose(scalar_reward(labels, weighing), wanted, rtol=1e-6)
    table = label.evaluation_frame({"pretrained": tmp_path / "labels"})
    assert sorted(table["accept"]) == [0.125, 0.375, 0.625, 0.875]


def test_the_version_follows_the_weights(models, tmp_path):
    root, _ = models
    before = judge_version(section(root, "optical_flow"))
    other = OpticalFlow(weights=str(metric_folders.weights_of(root / "head")))
    assert judge_version(section(root, "optical_flow")) == before
    assert judge_version(section(root, "optical_flow", optical_flow=other)) != before


@pytest.mark.parametrize(
    ("dimension", "changed", "message"),
    [
        ("clip_scor", {}, "no metric 'clip_scor'; did you mean clip_score"),
        ("clip_score", TextImage(), r"metrics\.clip_score\.folder is empty: say where the weights"),
        ("clip_score", TextImage(folder="/none"), "/none: no such folder of a CLIP model"),
        ("optical_flow", OpticalFlow(weights="/none"), "/none: no such file of RAFT's weights"),
        ("aesthetic", Aesthetic(folder="clip"), r"metrics\.aesthetic\.head is empty"),
        ("aesthetic", Aesthetic(folder="clip", head="raft"), "the head of this CLIP model is"),
        ("hps_v2", TextImage(folder="hps", tokenizer="raft"), "neither tokenizer.json nor vocab"),
    ],
)
def test_what_is_missing_is_refused_before_anything_is_computed(
    dimension, changed, message, models, monkeypatch
):
    root, _ = models
    places = {"clip": root / "clip", "hps": root / "hps", "raft": root / "raft"}
    if isinstance(changed, Aesthetic):
        places["raft"] = metric_folders.weights_of(root / "raft")
    reward = section(root, dimension, **({dimension: changed} if changed else {}))
    own = reward.metrics[dimension] if changed else {}
    for name, value in own.items():
        if value in places:
            own[name] = str(places[value])
    monkeypatch.setattr(ClipFolder, "load", None)
    with pytest.raises(ValueError, match=message):
        check_reward(reward)
