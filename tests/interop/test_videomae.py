"""VideoMAE's encoder: forward, gradient, folders and frames against transformers."""

import json

import jax
import numpy as np
import pytest
import torch
import transformers
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from tests.models.torch_parity import assert_close, randomize, relative_error
from vidpref.interop.safetensors_files import TensorFolder
from vidpref.interop.table import plan, to_tensors
from vidpref.interop.vision_encoders import IMAGENET, VIDEOMAE, EncoderFolder, videomae_table
from vidpref.models.videomae import VideoMae, sinusoidal_positions
from vidpref.training.sharding import abstract_params, make_mesh

TOLERANCE = 1e-4  # measured: see docs/ported.md
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 6,
    "tubelet_size": 2,
}


def write(folder, kind, **fields):
    """A model with random weights in a folder."""
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(**SIZES | fields)
    model = getattr(transformers, kind)(config).eval()
    randomize(model)
    model.save_pretrained(folder)
    return model


def placed(folder):
    mesh = make_mesh({}, jax.devices()[:1])
    return folder.load(abstract_params(folder.abstract, mesh))


def features(model, pixels):
    """What is averaged and classified."""
    encoder = getattr(model, "videomae", model)
    mean = encoder(pixels).last_hidden_state.mean(1)
    norm = getattr(model, "fc_norm", None)
    return mean if norm is None else norm(mean)


def clips():
    return np.random.default_rng(1).normal(size=(2, 6, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "pooling", "norm"),
    [
        ("VideoMAEModel", True, "none"),
        ("VideoMAEModel", False, "tokens"),
        ("VideoMAEForVideoClassification", True, "mean"),
        ("VideoMAEForPreTraining", False, "tokens"),
    ],
)
def test_features_and_their_gradients_are_those_of_transformers(kind, pooling, norm, tmp_path):
    theirs = write(tmp_path, kind, use_mean_pooling=pooling)
    folder = EncoderFolder(tmp_path, VIDEOMAE)
    assert folder.module.norm == norm
    pixels = torch.from_numpy(clips().transpose(0, 1, 4, 2, 3)).requires_grad_()
    wanted = features(theirs, pixels)
    cotangent = np.random.default_rng(2).normal(size=wanted.shape).astype(np.float32)
    (wanted * torch.from_numpy(cotangent)).sum().backward()

    def loss(params, clips):
        ours = folder.module.apply({"params": params}, clips)
        return (ours * cotangent).sum(), ours

    grads, ours = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(placed(folder), clips())
    forward = relative_error(ours, wanted.detach().numpy())
    renamed = {"query.bias": "q_bias", "value.bias": "v_bias"}
    expected = {}
    for name, tensor in theirs.state_dict(keep_vars=True).items():
        for new, old in renamed.items():
            name = name.replace(f"attention.{new}", f"attention.{old}")
        if tensor.grad is not None:
            expected[name] = tensor.grad.numpy()
    prefix = "" if kind == "VideoMAEModel" else "videomae."
    mine = to_tensors(grads[0], videomae_table(folder.module, prefix))
    mine["pixels"] = np.asarray(grads[1]).transpose(0, 1, 4, 2, 3)
    backward = assert_close(mine, expected | {"pixels": pixels.grad.numpy()}, TOLERANCE)
    print(f"\n{kind} {norm}: forward {forward:.1e}, gradient {backward:.1e}")
    assert forward < TOLERANCE


def test_the_published_size_has_the_parameters_of_the_original():
    with torch.device("meta"):
        theirs = transformers.VideoMAEModel(transformers.VideoMAEConfig())
    module = VideoMae.from_config({"model_type": "videomae"})
    abstract = jax.eval_shape(
        lambda key: module.init(key, np.zeros((1, 16, 224, 224, 3), np.float32)),
        jax.random.key(0),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract))
    assert count == theirs.num_parameters() == 86_225_664


def test_positions_are_those_of_the_original():
    from transformers.models.videomae import modeling_videomae

    theirs = modeling_videomae.get_sinusoid_encoding_table(50, 24)[0].numpy()
    np.testing.assert_array_equal(sinusoidal_positions(50, 24), theirs)


@pytest.mark.parametrize(("h", "w"), [(24, 41), (64, 48), (32, 32)])
def test_frames_are_those_of_transformers_bit_for_bit(h, w, tmp_path):
    write(tmp_path, "VideoMAEModel")
    theirs = VideoMAEImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    theirs.save_pretrained(tmp_path)
    shown = np.random.default_rng(h).integers(0, 256, (3, h, w, 3), np.uint8)
    wanted = np.asarray(theirs(list(shown))["pixel_values"])[0].transpose(0, 2, 3, 1)
    processor = EncoderFolder(tmp_path, VIDEOMAE).processor()
    np.testing.assert_array_equal(processor(shown), wanted)
    (tmp_path / "preprocessor_config.json").unlink()
    own = EncoderFolder(tmp_path, VIDEOMAE).processor()
    assert (own.side, own.mean, own.resample) == (32, IMAGENET["mean"], processor.resample)


def changed(**fields):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed(model_type="vit"), "model_type='vit' is not implemented, only 'videomae'"),
        (changed(qv_bias=False), "qv_bias=False is not implemented"),
        (changed(hidden_act="relu"), "hidden_act='relu': known are"),
        (changed(hidden_size=48), r"missing|misshapen"),
        (changed(num_hidden_layers=4), r"missing \(\d+\): .*layer\.3"),
        (lambda f: (f / "model.safetensors").unlink(), r"has no .*model\.safetensors"),
    ],
)
def test_folders_of_something_else_are_refused(spoil, message, tmp_path):
    write(tmp_path, "VideoMAEModel")
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        EncoderFolder(tmp_path, VIDEOMAE)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone: no such folder of a VideoMAE model"):
        EncoderFolder(tmp_path / "gone", VIDEOMAE)


def test_clips_of_another_shape_are_refused(tmp_path):
    write(tmp_path, "VideoMAEModel")
    folder = EncoderFolder(tmp_path, VIDEOMAE)
    names = TensorFolder(tmp_path)
    plan(names.shapes, videomae_table(folder.module, ""), expected=folder.abstract)
    with pytest.raises(ValueError, match=r"clips \(1, 4, 32, 32, 3\) must be \(b, 6, 32, 32, 3\)"):
        folder.module.init(jax.random.key(0), np.zeros((1, 4, 32, 32, 3), np.float32))
