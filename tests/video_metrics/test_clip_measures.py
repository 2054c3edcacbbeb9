"""Measures of clips by networks with random weights, against PyTorch and VBench's formulas."""

import json

import jax
import numpy as np
import torch
import torch.nn.functional as F
import transformers

from tests.interop import tiny_clip
from tests.models import i3d_in_torch, inception_in_torch, musiq_in_torch
from tests.models.normed import randomize_normed
from tests.models.raft_in_torch import SMALL, RaftInTorch
from tests.models.torch_parity import randomize, state_dict
from tests.rewards import metric_folders
from tests.video_metrics.test_looks import as_torchvision
from vidpref.interop.clip_tokens import ClipTokens
from vidpref.interop.image_processor import ImageProcessor
from vidpref.interop.safetensors_files import TensorFolder, write_tensors
from vidpref.video_metrics.measure import Clip, Measure
from vidpref.video_metrics.registry import METRICS, Places, Settings, build_measures

TOLERANCE = 1e-4
SETTINGS = Settings(batch_size=2, image_frames=2, fvd_frames=9, fvd_stride=2)


def clip(seed, frames=5, h=40, w=56, prompt="a cat", fps=8.0):
    y, x = np.mgrid[:h, :w]
    shown = [127 + 100 * np.sin(x / (7 + seed) + y / 9 + (1 + seed) * t) for t in range(frames)]
    pixels = np.stack(shown)[..., None] * np.array([1.0, 0.8, 0.5])
    return Clip(pixels.astype(np.uint8), fps, prompt)


CLIPS = [clip(0), clip(1, prompt="two dogs"), clip(2, h=48, w=40)]


def measure(name, **places):
    (found,) = build_measures([name], Places(**places), SETTINGS).values()
    assert isinstance(found, Measure)
    json.dumps(found.causes)  # they are written
    return found


def pixels(frames, side=28):
    """What CLIP and DINO see of frames in VBench, but for the colours' means."""
    return as_torchvision(torch.from_numpy(frames.transpose(0, 3, 1, 2)), side, "bicubic", True)


def as_vbench_sums(features):
    """The loop of VBench's subject_consistency.py and background_consistency.py."""
    total, features = 0.0, F.normalize(features, dim=-1)
    for i in range(1, len(features)):
        before = max(0.0, F.cosine_similarity(features[i - 1 : i], features[i : i + 1]).item())
        first = max(0.0, F.cosine_similarity(features[:1], features[i : i + 1]).item())
        total += (before + first) / 2
    return total / (len(features) - 1)


def test_clip_score_is_the_mean_of_the_originals_cosines(tmp_path):
    model = tiny_clip.write_clip(tmp_path)
    texts = [c.prompt for c in CLIPS]
    tokens = ClipTokens(tmp_path, metric_folders.LENGTH, 10**4)(texts)
    wanted = []
    for one, ids in zip(CLIPS, tokens, strict=True):
        shown = torch.from_numpy(ImageProcessor(28)(one.frames).transpose(0, 3, 1, 2))
        with torch.no_grad():
            out = model(input_ids=torch.from_numpy(ids[None]).long(), pixel_values=shown)
        wanted.append((out.logits_per_image / model.logit_scale.exp()).mean().item())
    found = measure("clip_score", clip=str(tmp_path))
    np.testing.assert_allclose(found(CLIPS), wanted, atol=TOLERANCE)
    assert np.ptp(wanted) > 20 * TOLERANCE
    assert found.why_not(clip(0, prompt=" ")).startswith("no_prompt")


def test_subject_consistency_is_that_of_dino(tmp_path):
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        image_size=32, patch_size=8,
    )  # fmt: skip
    model = transformers.ViTModel(config).eval()
    randomize(model)
    model.save_pretrained(tmp_path)
    square = [clip(s, h=40, w=40) for s in range(2)]
    wanted = []
    for one in square:
        shown = torch.from_numpy(one.frames.transpose(0, 3, 1, 2))
        with torch.no_grad():
            states = model(as_torchvision(shown, 32, "bilinear", False)).last_hidden_state
        wanted.append(as_vbench_sums(states[:, 0]))
    found = measure("subject_consistency", dino=str(tmp_path))
    np.testing.assert_allclose(found(square), wanted, atol=TOLERANCE)
    assert wanted[0] < 1 - 5 * TOLERANCE
    (wide,) = found([CLIPS[0]])  # other shapes are seen whole
    assert 0 < wide < 1
    assert found.why_not(clip(0, frames=1)).startswith("too_short")


def directions(model, frames):
    """CLIP's image directions of frames as VBench shows them; colours are CLIP's own."""
    shown = pixels(frames)
    own, imagenet = ImageProcessor(), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    mean, std = (torch.tensor(c).reshape(1, 3, 1, 1) for c in imagenet)
    ours = [torch.tensor(c).reshape(1, 3, 1, 1) for c in (own.mean, own.std)]
    with torch.no_grad():
        found = model.get_image_features((shown * std + mean - ours[0]) / ours[1]).pooler_output
    return F.normalize(found, dim=-1)


def test_background_consistency_and_aesthetic_quality_are_clips(tmp_path):
    model = tiny_clip.write_clip(tmp_path / "clip")
    metric_folders.write_head(tmp_path / "head")
    head = TensorFolder(metric_folders.weights_of(tmp_path / "head"))
    seen = [directions(model, one.frames) for one in CLIPS]
    found = measure("background_consistency", clip_b32=str(tmp_path / "clip"))
    wanted = [as_vbench_sums(features) for features in seen]
    np.testing.assert_allclose(found(CLIPS), wanted, atol=TOLERANCE)
    assert np.ptp(wanted) > 5 * TOLERANCE
    places = {"clip_l14": str(tmp_path / "clip")}
    places["aesthetic_head"] = str(metric_folders.weights_of(tmp_path / "head"))
    found = measure("aesthetic_quality", **places)
    linear = [(x.numpy() @ head["weight"][0] + head["bias"][0]).mean() / 10 for x in seen]
    np.testing.assert_allclose(found(CLIPS), linear, atol=TOLERANCE)
    assert not found.why_not(clip(0, frames=1))


def test_dynamic_degree_is_rafts_over_vbenchs_threshold(tmp_path):
    """Frames 3 apart at 24 a second; RAFT sees them filled up on both sides."""
    weights = metric_folders.write_raft(tmp_path)
    one = clip(0, frames=4, h=124, w=135, fps=24.0)
    raft, file = RaftInTorch(SMALL), TensorFolder(weights)
    raft.tensors = {name: torch.from_numpy(file[name]) for name in file}
    shown = torch.from_numpy(one.frames[[0, 3]].astype(np.float32) / 127.5 - 1)
    shown = F.pad(shown.permute(0, 3, 1, 2), (0, 1, 2, 2), mode="replicate")  # 128 x 136
    with torch.no_grad():
        flow = raft(shown[:1], shown[1:], 20)[0].numpy()
    speeds = np.sort(np.linalg.norm(flow, axis=0).ravel())[-int(0.05 * 128 * 136) :]
    found = measure("dynamic_degree", raft=str(weights))
    pair = np.stack([one.frames[[0]], one.frames[[3]]], axis=1)
    np.testing.assert_allclose(found._network(pair), speeds.mean(), rtol=1e-3)
    assert found([one, clip(0, frames=2, h=128, w=128, fps=24.0)]) == [1.0, 0.0]
    assert found.why_not(clip(0, h=120, w=200)).startswith("too_small: 120x200 pixels, and RAFT")


def test_features_of_i3d_are_those_of_every_second_frame(tmp_path):
    model = i3d_in_torch.I3d()
    randomize_normed(model.eval())
    (path,) = write_tensors(tmp_path, state_dict(model))
    one = clip(0, frames=18, h=30, w=50)
    shown = torch.from_numpy(one.frames[:17:2].transpose(0, 3, 1, 2)).float() / 255
    shown = F.interpolate(shown, size=(224, 374), mode="bilinear")[..., 75 : 75 + 224]
    with torch.no_grad():
        wanted = model(((shown - 0.5) * 2).transpose(0, 1)[None])[0].numpy()
    found = build_measures(
        ["fvd_i3d"], Places(i3d=str(path)), Settings(batch_size=1, fvd_frames=9, fvd_stride=2)
    )["i3d"]
    (ours,) = found([one])
    assert np.abs(ours - wanted).max() < 2e-4 * np.abs(wanted).max()
    said = found.why_not(clip(0, frames=16))
    assert said == "too_short: 16 frames, and 9, 2 apart are needed"


def test_frames_of_inception_are_spread_over_the_clip(tmp_path):
    model = inception_in_torch.Inception()
    randomize_normed(model.eval())
    (path,) = write_tensors(tmp_path, state_dict(model))
    one = clip(0, frames=5)
    shown = torch.from_numpy(one.frames[[0, 4]].transpose(0, 3, 1, 2)).float() / 255
    with torch.no_grad():
        wanted = model(2 * F.interpolate(shown, size=(299, 299), mode="bilinear") - 1)
    (ours,) = measure("fid", inception=str(path))([one])
    assert ours.shape == (2, 2048 + 1008)
    for mine, theirs in zip(np.split(ours, [2048], axis=1), wanted, strict=True):
        assert np.abs(mine - theirs.numpy()).max() < 2e-4 * theirs.abs().max()


def test_imaging_quality_is_a_hundredth_of_musiqs_mean(tmp_path):
    torch.manual_seed(0)
    model = musiq_in_torch.Musiq().eval()
    with torch.no_grad():
        model.head.bias += 50.0
    (path,) = write_tensors(tmp_path, state_dict(model))
    one = clip(0, frames=2, h=72, w=100)
    shown = torch.from_numpy(one.frames.transpose(0, 3, 1, 2)).float() / 255
    with torch.no_grad():
        wanted = model(shown).mean().item() / 100
    (ours,) = measure("imaging_quality", musiq=str(path))([one])
    np.testing.assert_allclose(ours, wanted, rtol=TOLERANCE)


def test_every_metric_has_a_measure_and_places():
    fields = set(Places.__dataclass_fields__)
    for metric in METRICS.values():
        assert set(metric.places) <= fields
        assert metric.kind in ("distance", "inception_score", "mean", "rate")
    assert {place for metric in METRICS.values() for place in metric.places} == fields
    assert len(jax.local_devices()) == 8  # a network of 2 rows at once takes 2 of them
