"""VideoReward at its full size: what is trained of it, and its step for a mesh, from shapes."""

import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from vidpref.config.by_name import named_config
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.models.qwen_vl.packing import Room
from vidpref.models.qwen_vl.sizes import PUBLISHED
from vidpref.stages.judge_training import judge_training
from vidpref.training.sharding import make_mesh

TOKENS = {
    "vision_start_token_id": 259,
    "vision_end_token_id": 260,
    "image_token_id": 261,
    "video_token_id": 262,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder of Qwen2-VL-2B without weights, which are not read."""
    folder = tmp_path_factory.mktemp("qwen2_vl_2b")
    ByteTokenizer().write(folder)
    (folder / "config.json").write_text(json.dumps(PUBLISHED["Qwen2-VL-2B"] | TOKENS))
    return folder


def test_the_step_of_the_paper_trains_adapters_tower_tokens_and_head(base):
    config = named_config("videoreward", [f"judge.base={base}", "judge.attention=xla"])
    mesh = make_mesh(config.mesh.to_dict())
    training = judge_training(
        config.judge, QwenVLFolder(base), mesh, dtype=config.compute_dtype, seed=0
    )
    trained = training.plan.state.params
    parts = flatten_dict(trained["parts"], sep="/")
    count = {
        start: sum(x.size for name, x in parts.items() if name.startswith(start))
        for start in ("model/vision", "tokens", "head")
    }
    assert sum(count.values()) == sum(x.size for x in parts.values())
    adapters = flatten_dict(trained["adapters"], sep="/")
    assert len(adapters) == 7 * 2  # of stacks of 28 blocks: 392 tensors
    assert all(name.startswith("model/text/blocks/") for name in adapters)
    count["lora"] = sum(x.size for x in adapters.values())
    assert {name: f"{n / 1e6:.2f}" for name, n in count.items()} == {
        "model/vision": "665.27",
        "tokens": "0.00",
        "head": "0.00",
        "lora": "73.86",
    }
    assert (count["tokens"], count["head"]) == (3 * 1536, 3 * 1536)
    assert {x.dtype for x in jax.tree.leaves(trained)} == {np.dtype("float32")}
    # ten frames of 336x588 pixels
    text = training.plan.step.lower(*training.arguments(Room(2304, 5, 1008)).values()).as_text()
    assert "stablehlo.dot_general" in text
