"""DINO's vision transformer against transformers, and its positions for images of any size."""

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

from tests.models.torch_parity import randomize, relative_error
from vidpref.interop.vision_encoders import DINO, VIDEOMAE, EncoderFolder
from vidpref.models.vit import Vit
from vidpref.training.sharding import abstract_params, make_mesh

TOLERANCE = 1e-4  # measured: see docs/ported.md
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 8,
}


def write(folder, kind="ViTModel"):
    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.ViTConfig(**SIZES)).eval()
    randomize(model)
    model.save_pretrained(folder)
    return model


def features(folder, images):
    folder = EncoderFolder(folder, DINO)
    target = abstract_params(folder.abstract, make_mesh({}, jax.devices()[:1]))
    params = {"params": folder.load(target)}
    with jax.default_matmul_precision("float32"):
        return jax.jit(folder.module.apply)(params, images)


def as_dino_resizes(positions, h, w):
    """`interpolate_pos_encoding` of facebookresearch/dino, on the positions alone."""
    grid = positions[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    scale = ((h // 8 + 0.1) / 4, (w // 8 + 0.1) / 4)
    grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, 24)], dim=1)


@pytest.mark.parametrize("kind", ["ViTModel", "ViTForImageClassification"])
@pytest.mark.parametrize(("h", "w"), [(32, 32), (32, 53), (41, 32), (16, 24), (32, 36)])
def test_the_state_of_the_image_is_that_of_the_original(kind, h, w, tmp_path):
    theirs = write(tmp_path, kind)
    encoder = getattr(theirs, "vit", theirs)
    images = np.random.default_rng(0).normal(size=(2, h, w, 3)).astype(np.float32)
    if (h, w) != (32, 32):
        encoder.embeddings.interpolate_pos_encoding = lambda _, h, w: as_dino_resizes(
            encoder.embeddings.position_embeddings, h, w
        )
    with torch.no_grad():
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2))
        wanted = encoder(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    error = relative_error(features(tmp_path, images), wanted.numpy())
    print(f"\nViT, {h}x{w}: {error:.1e}")
    assert error < TOLERANCE


def test_the_published_size_has_the_parameters_of_the_original():
    with torch.device("meta"):
        theirs = transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False)
    module = Vit.from_config({"model_type": "vit"})
    image = np.zeros((1, 224, 224, 3), np.float32)
    abstract = jax.eval_shape(lambda key: module.init(key, image), jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract))
    assert count == theirs.num_parameters() == 85_798_656  # DINO's own number


def test_what_is_another_model_is_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="model_type='vit' is not implemented, only 'videomae'"):
        EncoderFolder(tmp_path, VIDEOMAE)
    with pytest.raises(ValueError, match="images of 7x40 are smaller than a patch of 8x8"):
        features(tmp_path, np.zeros((1, 7, 40, 3), np.float32))
