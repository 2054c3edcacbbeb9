"""CLIP with both towers: against transformers and an OpenCLIP in PyTorch, and its folders."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax.core import meta

from tests.interop import tiny_clip
from tests.models.torch_parity import assert_close, gradients, relative_error, state_dict
from vidpref.interop.clip import clip_table
from vidpref.interop.clip_folders import ClipFolder, abstract_clip
from vidpref.interop.safetensors_files import write_tensors
from vidpref.interop.table import plan, to_params, to_tensors
from vidpref.models.clip.network import Clip
from vidpref.models.clip.sizes import PUBLISHED

TOLERANCE = 1e-4  # measured: see docs/ported.md
END = tiny_clip.TEXT["eos_token_id"]
# by `num_parameters()` of transformers; 149,620,737 is OpenAI's own number of ViT-B/16
COUNTS = {"ViT-B/16": 149_620_737, "ViT-L/14": 427_616_513, "ViT-H/14": 986_109_441}


def inputs():
    random = np.random.default_rng(1)
    images = random.normal(size=(3, 28, 28, 3)).astype(np.float32)
    tokens = random.integers(0, END - 1, (2, 12)).astype(np.int32)
    tokens[0, 7], tokens[1, 11] = END, END
    tokens[0, 9] = END  # behind the first it is padding
    return images, tokens


def on_device(module):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=device),
        meta.unbox(abstract_clip(module)),
    )


def logits_of(theirs, pixels, tokens):
    if isinstance(theirs, tiny_clip.OpenClip):
        return theirs(pixels, tokens)
    return theirs(input_ids=tokens, pixel_values=pixels).logits_per_image


@pytest.mark.parametrize(
    ("act", "text"), [("quick_gelu", {}), ("gelu", {"eos_token_id": 2}), ("gelu", {})]
)
def test_forward_and_gradient_are_those_of_transformers(act, text):
    theirs = tiny_clip.original(act, text)
    module = Clip.from_config(theirs.config.to_dict())
    images, tokens = inputs()
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2)).requires_grad_()
    logits = logits_of(theirs, pixels, torch.from_numpy(tokens).long())
    cotangent = np.random.default_rng(2).normal(size=logits.shape).astype(np.float32)
    (logits * torch.from_numpy(cotangent)).sum().backward()
    params = to_params(state_dict(theirs), clip_table(), expected=abstract_clip(module))

    def loss(params, images):
        ours = module.apply({"params": params}, images, tokens)
        return (ours * cotangent).sum(), ours

    grads, ours = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, images)
    forward = relative_error(ours, logits.detach().numpy())
    expected = gradients(theirs) | {"pixels": pixels.grad.numpy()}
    mine = to_tensors(grads[0], clip_table())
    mine["pixels"] = np.asarray(grads[1]).transpose(0, 3, 1, 2)
    backward = assert_close(mine, expected, TOLERANCE)
    print(f"\nCLIP {act} {text}: forward {forward:.1e}, gradient {backward:.1e}")
    assert forward < TOLERANCE


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_named_sizes_have_the_parameters_of_the_originals(name):
    with torch.device("meta"):
        theirs = transformers.CLIPModel(transformers.CLIPConfig(**PUBLISHED[name]))
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    abstract = abstract_clip(Clip.from_config(PUBLISHED[name]))
    plan(shapes, clip_table(), expected=abstract)
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract))
    assert count == theirs.num_parameters() == COUNTS[name]


@pytest.mark.parametrize("layout", ["transformers", "older", "open_clip"])
def test_folders_of_every_layout_give_the_network_of_the_original(layout, tmp_path):
    if layout == "open_clip":
        theirs = tiny_clip.write_open_clip(tmp_path, attn_mask=np.zeros((2, 2), np.float32))
    else:
        theirs = tiny_clip.write_clip(tmp_path)
    if layout == "older":
        rewrite_as_older(tmp_path, theirs)
    folder = ClipFolder(tmp_path)
    folder.check()
    module = folder.module()
    images, tokens = inputs()
    with torch.no_grad():
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2))
        wanted = logits_of(theirs, pixels, torch.from_numpy(tokens).long()).numpy()
    ours = module.apply({"params": folder.load(on_device(module))}, images, tokens)
    error = relative_error(ours, wanted)
    print(f"\nCLIP folder of {layout}: {error:.1e}")
    assert error < TOLERANCE


def rewrite_as_older(folder, theirs):
    """Buffers among the tensors, and the fields of the towers in sections of another name."""
    places = {
        f"{tower}.embeddings.position_ids": np.arange(count)[None]
        for tower, count in (("text_model", 20), ("vision_model", 17))
    }
    (folder / "model.safetensors").unlink()
    write_tensors(folder, {**state_dict(theirs), **places}, stem="model")
    config = json.loads((folder / "config.json").read_text())
    for name in ("text_config", "vision_config"):
        config[f"{name}_dict"], config[name] = config[name], {"hidden_size": 99}
    (folder / "config.json").write_text(json.dumps(config))


def test_weights_of_open_clip_alone_are_those_of_vit_h(tmp_path):
    """HPSv2 comes without a config; that its tensors are others' is found by their shapes."""
    tiny_clip.write_open_clip(tmp_path)
    (tmp_path / "open_clip_config.json").unlink()
    folder = ClipFolder(tmp_path)
    assert folder.module() == Clip.from_config(PUBLISHED["ViT-H/14"])
    with pytest.raises(ValueError, match=r"open_clip_model\.safetensors: these tensors are not"):
        folder.check()


def without(folder, *names):
    for name in names:
        (folder / name).unlink()


def changed(name, **fields):
    def change(folder):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: without(f, "config.json", "model.safetensors"), "no config.json of transform"),
        (lambda f: without(f, "model.safetensors"), r"has no .*model\.safetensors"),
        (changed("config.json", model_type="siglip"), "model_type='siglip': this is no CLIP"),
        (changed("config.json", projection_dim=8), r"visual_projection\.weight \(16, 32\), wanted"),
        (changed("config.json", projection_dim="8"), "projection_dim='8' must be a whole number"),
        (changed("config.json", text_config=[]), r"text_config must be fields, not '\[\]'"),
        (changed("config.json", vision_config={"hidden_act": "relu"}), "hidden_act='relu': known"),
    ],
)
def test_folders_of_something_else_are_refused(spoil, message, tmp_path):
    tiny_clip.write_clip(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        ClipFolder(tmp_path).check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embed_dim": None, "custom_text": True}, "it has 'custom_text'"),
        ({"vision_cfg": {"timm_model_name": "vit"}}, "timm_model_name='vit' is unknown"),
        ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, r"layers=\(3, 4, 6, 3\) must be a whole number"),
        ({"text_cfg": {"pool_type": "last"}}, "pool_type='last' is not implemented"),
    ],
)
def test_models_of_open_clip_that_are_no_such_clip_are_refused(fields, message, tmp_path):
    tiny_clip.write_open_clip(tmp_path)
    model = tiny_clip.OPEN_CLIP_CONFIG["model_cfg"] | fields
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    with pytest.raises(ValueError, match=message):
        ClipFolder(tmp_path)


def test_a_pickle_is_told_how_to_become_a_file_that_is_read(tmp_path):
    (tmp_path / "HPS_v2.1_compressed.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"unpickle\.py --file=.*HPS_v2\.1_compressed\.pt --out="):
        ClipFolder(tmp_path)


def test_texts_without_room_are_refused():
    module = Clip.from_config(tiny_clip.original().config.to_dict())
    with pytest.raises(ValueError, match="21 tokens, and CLIP has 20 places"):
        jax.eval_shape(
            lambda key: module.init(key, jnp.zeros((1, 28, 28, 3)), jnp.zeros((1, 21), jnp.int32)),
            jax.random.key(0),
        )
