"""CLIP's vision transformer against transformers with small random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from tests.models.torch_parity import assert_close, gradients, randomize, relative_error, state_dict
from vidpref.interop.clip import clip_vision_table, not_of_the_states
from vidpref.interop.loading import component_config, load_onto
from vidpref.interop.safetensors_files import write_tensors
from vidpref.interop.table import plan, to_params, to_tensors
from vidpref.models.clip.sizes import VIT_H
from vidpref.models.clip.vision import ClipVision

TOLERANCE = 1e-4  # measured: see docs/ported.md
SMALL = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 28,
    "patch_size": 7,
}


def original(**fields) -> transformers.CLIPVisionModel:
    torch.manual_seed(0)
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**{**SMALL, **fields}))
    randomize(model.eval())
    return model


def of_the_states(encoder: ClipVision, tensors: dict) -> dict:
    ignored = not_of_the_states(encoder, tensors)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(ignored)}


def target(params):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=device), params
    )


@pytest.mark.parametrize("fields", [{"hidden_act": "gelu"}, {"patch_size": 9, "image_size": 29}])
def test_forward_and_gradient_are_those_of_transformers(fields):
    theirs = original(**fields)
    encoder = ClipVision.from_config(theirs.config.to_dict())
    table = clip_vision_table(theirs.state_dict())
    params = to_params(of_the_states(encoder, state_dict(theirs)), table)
    size = encoder.image_size
    images = np.random.default_rng(1).normal(size=(3, size, size, 3)).astype(np.float32)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2)).requires_grad_()
    states = theirs(pixels, output_hidden_states=True).hidden_states[-2]
    assert states.shape[1:] == encoder.states_shape
    cotangent = np.random.default_rng(2).normal(size=states.shape).astype(np.float32)
    (states * torch.from_numpy(cotangent)).sum().backward()

    def loss(params, images):
        ours = encoder.apply({"params": params}, images)
        return (ours * cotangent).sum(), ours

    grads, ours = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, images)
    forward = relative_error(ours, states.detach().numpy())
    expected = of_the_states(encoder, gradients(theirs)) | {"pixels": pixels.grad.numpy()}
    mine = to_tensors(grads[0], table) | {"pixels": np.asarray(grads[1]).transpose(0, 3, 1, 2)}
    backward = assert_close(mine, expected, TOLERANCE)
    print(f"\nCLIP {fields}: forward {forward:.1e}, gradient {backward:.1e}")
    assert forward < TOLERANCE


def test_the_named_size_has_the_parameters_of_the_original():
    config = transformers.CLIPVisionConfig(**VIT_H)
    with torch.device("meta"):
        theirs = transformers.CLIPVisionModel(config)
    encoder = ClipVision(**VIT_H)
    assert encoder.states_shape == (257, 1280)
    shapes = of_the_states(encoder, {n: tuple(t.shape) for n, t in theirs.state_dict().items()})
    images = jnp.zeros((1, 224, 224, 3))
    abstract = jax.eval_shape(encoder.init, jax.random.key(0), images)["params"]
    plan(shapes, clip_vision_table(shapes), expected=abstract)
    assert sum(p.numel() for p in theirs.parameters()) == 630_766_080
    # without the last block and the norm after it
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract))
    assert count == sum(int(np.prod(shape)) for shape in shapes.values()) == 611_086_080


@pytest.mark.parametrize("prefix", ["", "vision_model."])
def test_names_of_either_version_of_transformers_are_read(tmp_path, prefix):
    theirs = original()
    theirs.save_pretrained(tmp_path)
    if prefix:  # what version 4 wrote
        tensors = {prefix + name: tensor for name, tensor in state_dict(theirs).items()}
        tensors[f"{prefix}embeddings.position_ids"] = np.arange(17)[None]
        (tmp_path / "model.safetensors").unlink()
        write_tensors(tmp_path, tensors)
    encoder = ClipVision.from_config(component_config(tmp_path))
    wanted = to_params(
        of_the_states(encoder, state_dict(theirs)), clip_vision_table(theirs.state_dict())
    )
    table = clip_vision_table([f"{prefix}embeddings.class_embedding"])
    ignore = not_of_the_states(encoder, [f"{prefix}embeddings.class_embedding"])
    loaded = load_onto(target(wanted), tmp_path, table, ignore=ignore)
    jax.tree.map(np.testing.assert_array_equal, loaded, wanted)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "siglip"}, "model_type='siglip' is not implemented"),
        ({"hidden_act": "relu"}, "hidden_act='relu': known are gelu, quick_gelu"),
    ],
)
def test_configs_of_other_encoders_are_refused(fields, message):
    config = transformers.CLIPVisionConfig(**SMALL).to_dict()
    with pytest.raises(ValueError, match=message):
        ClipVision.from_config({**config, **fields})


def test_images_of_another_size_are_refused():
    encoder = ClipVision(**SMALL)
    with pytest.raises(ValueError, match=r"images \(1, 28, 27, 3\) must be \(b, 28, 28, 3\)"):
        jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 28, 27, 3)))
