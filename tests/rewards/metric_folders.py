"""Weights of every metric, small where the network has no fixed size, and their config."""

from pathlib import Path

import numpy as np

from tests.interop import tiny_clip
from vidpref.config.fields import build
from vidpref.config.metrics import Aesthetic, Metrics, OpticalFlow, TextImage
from vidpref.config.schema import Reward
from vidpref.interop.raft import abstract_raft, raft_table
from vidpref.interop.safetensors_files import write_tensors
from vidpref.interop.table import tensor_shapes
from vidpref.models.raft.network import Raft
from vidpref.models.raft.sizes import PUBLISHED

LENGTH = tiny_clip.TEXT["max_position_embeddings"]


def write_raft(folder: Path) -> Path:
    abstract, random = abstract_raft(Raft(**PUBLISHED["small"])), np.random.default_rng(0)
    tensors = {
        name: (0.05 * random.normal(size=shape)).astype(np.float32)
        for name, shape in tensor_shapes(abstract, raft_table(abstract)).items()
    }
    return write_tensors(folder, tensors)[0]


def write_head(folder: Path) -> Path:
    random = np.random.default_rng(1)
    tensors = {"weight": random.normal(size=(1, tiny_clip.WIDTH)), "bias": np.array([5.0])}
    return write_tensors(folder, {n: x.astype(np.float32) for n, x in tensors.items()})[0]


def write_all(root: Path) -> dict:
    """Writes the weights and returns the models in PyTorch: of a folder of transformers (CLIP score
    and aesthetics; another one for PickScore) and of OpenCLIP (HPSv2)."""
    write_raft(root / "raft")
    write_head(root / "head")
    return {
        "clip_score": tiny_clip.write_clip(root / "clip"),
        "pick_score": tiny_clip.write_clip(root / "pick", seed=1, act="gelu"),
        "hps_v2": tiny_clip.write_open_clip(root / "hps"),
    }


def section(root: Path, *dimensions: str, frames=0, eta=1.0, gamma=0.0, **changed):
    """The config's `reward` section for these metrics."""
    shape = {"eta": eta, "gamma": gamma}
    own = {
        "clip_score": TextImage(folder=str(root / "clip"), **shape),
        "pick_score": TextImage(folder=str(root / "pick"), **shape),
        "hps_v2": TextImage(folder=str(root / "hps"), **shape),
        "optical_flow": OpticalFlow(weights=str(weights_of(root / "raft")), updates=2, **shape),
        "aesthetic": Aesthetic(
            folder=str(root / "clip"), head=str(weights_of(root / "head")), **shape
        ),
    }
    metrics = Metrics(frames=frames, batch_size=8, **{**own, **changed})
    return build(
        Reward(name="metrics", dimension=dimensions[0], dimensions=dimensions, metrics=metrics)
    )


def weights_of(folder: Path) -> Path:
    return folder / "diffusion_pytorch_model.safetensors"
