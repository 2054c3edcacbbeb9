"""Damaged files of a model: each is refused by its name, or reads with equal values.

Values themselves have no checksum in a safetensors file, so only headers are damaged.
"""

import copy
import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from vidpref.config.fields import build
from vidpref.config.schema import Text
from vidpref.generation.text_encoders import check_text
from vidpref.interop.loading import component_config, load_onto
from vidpref.interop.pipelines import TRANSFORMER, PipelineFolder
from vidpref.interop.safetensors_files import TensorFolder, write_tensors
from vidpref.interop.t5 import t5_table
from vidpref.interop.tokenizers import read_tokenizer
from vidpref.models.condition import Condition
from vidpref.models.t5 import from_config
from vidpref.typing import PyTree

FEW, MANY = 60, 2000
SEEDS = [pytest.param(0, FEW), pytest.param(1, MANY, marks=pytest.mark.slow)]
VALUES = [None, True, -1, 0, 3, 2**70, 10**9, 0.5, -2.5, "", "x", [], {}, [None], {"a": {}}]
PIECES = [b"0", b"9", b"-", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\xff", b"\x00", b" "]


def damage_bytes(rng: random.Random, text: bytes) -> bytes:
    """Returns the text with one to three of its parts changed."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.choice([0, 1, 1, 4, 40]))
        part = text[start:stop]
        new = rng.choice([b"", part + part, rng.choice(PIECES), rng.randbytes(len(part))])
        text = text[:start] + new + text[stop:]
    return text


def damage_tree(rng: random.Random, tree: Any) -> Any:
    """Returns the JSON value with one of its parts replaced, renamed or taken out."""
    tree = copy.deepcopy(tree)
    node = tree
    while node:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        change = rng.randrange(3)
        if change == 0:
            del node[key]
        elif change == 1 and isinstance(node, dict):
            node[rng.choice(["x", f"{key}_", "num_layers"])] = node.pop(key)
        else:
            node[key] = rng.choice(VALUES)
        break
    return tree


def target_of(module: Any, *inputs: Any) -> PyTree:
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        meta.unbox(shapes),
    )


def inputs_of(module: Any) -> tuple:
    """Two small inputs of a transformer of either family."""
    x = jnp.zeros((1, 3, 4, 6, 4))
    text = jnp.zeros((1, 16, 24))
    return x, jnp.zeros((1,)), Condition(text=text, text_mask=jnp.ones((1, 16), bool))


def same(a: PyTree, b: PyTree) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@dataclasses.dataclass
class Fuzz:
    """Reads a damaged copy of a folder again and again, and counts what came of it."""

    file: Path
    named: Path
    read: Callable[[], bool]
    refused: int = 0

    def one(self, damaged: bytes, case: int) -> None:
        self.file.write_bytes(damaged)
        message = None
        try:
            equal = self.read()
        except ValueError as error:
            message = str(error)
            self.refused += 1
        if message is None:
            assert equal, f"case {case} reads with other values: {damaged[:2000]!r}"
        else:
            assert str(self.named) in message, f"case {case}: no file in {message!r}"


@pytest.mark.parametrize(("seed", "cases"), SEEDS)
def test_headers_of_safetensors(wan_folder, tmp_path, seed, cases):
    shutil.copytree(wan_folder, tmp_path / "wan")
    pipeline = PipelineFolder(tmp_path / "wan")
    module = pipeline.transformer()
    target = target_of(module, *inputs_of(module))
    whole = pipeline.load_transformer(module, target)
    file = tmp_path / "wan" / TRANSFORMER / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + size], data[8 + size :]
    tree = json.loads(header)
    fuzz = Fuzz(file, file.parent, lambda: same(pipeline.load_transformer(module, target), whole))
    rng = random.Random(seed)
    for case in range(cases):
        kind = rng.randrange(6)
        if kind == 0:  # cut short, or something after the end
            damaged = rng.choice([data[: rng.randrange(len(data))], data + rng.randbytes(9)])
        elif kind == 1:  # another length of the header
            length = rng.choice([0, size - 8, size + 8, 2**40, 2**64 - 1, rng.randrange(2 * size)])
            damaged = length.to_bytes(8, "little") + header + values
        elif kind == 2:  # the length is right
            text = json.dumps(damage_tree(rng, tree)).encode()
            damaged = len(text).to_bytes(8, "little") + text + values
        elif kind == 3:
            text = damage_bytes(rng, header)
            damaged = len(text).to_bytes(8, "little") + text + values
        else:
            damaged = data[:8] + damage_bytes(rng, header) + values
        fuzz.one(damaged, case)
    assert fuzz.refused > cases / 2


@pytest.mark.parametrize(("seed", "cases"), SEEDS)
def test_index_files(wan_folder, tmp_path, seed, cases):
    shutil.copytree(wan_folder, tmp_path / "wan")
    pipeline = PipelineFolder(tmp_path / "wan")
    module = pipeline.transformer()
    target = target_of(module, *inputs_of(module))
    whole = pipeline.load_transformer(module, target)
    folder = tmp_path / "wan" / TRANSFORMER
    tensors = dict(TensorFolder(folder))
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    *_, file = write_tensors(folder, tensors, max_shard_bytes=2**16)
    data = file.read_bytes()
    tree = json.loads(data)
    fuzz = Fuzz(file, file.parent, lambda: same(pipeline.load_transformer(module, target), whole))
    rng = random.Random(seed)
    cases //= 4  # many files are read
    for case in range(cases):
        text = json.dumps(damage_tree(rng, tree)).encode()
        fuzz.one(damage_bytes(rng, data) if rng.random() < 0.5 else text, case)
    assert fuzz.refused > cases / 2


CONFIGS = [
    *("model_index.json", "transformer/config.json", "vae/config.json"),
    *("text_encoder/config.json", "scheduler/scheduler_config.json"),
    *("tokenizer/tokenizer_config.json", "tokenizer/tokenizer.json"),
]


def read_pipeline(folder: Path, name: str, loaded: set[Any]) -> bool:
    """Reads what a config is of; another network than the weights' must be refused by them."""
    pipeline = PipelineFolder(folder)
    component = folder / Path(name).parts[0]
    if component.name == "scheduler":
        pipeline.scheduler()
    elif component.name == "tokenizer":
        tokenizer = read_tokenizer(component)
        tokenizer(["a red circle"], padding="max_length", max_length=8, truncation=True)
    elif component.name == "text_encoder":
        kind, width = pipeline.text_encoder()
        check_text(build(Text(name=kind, path=str(folder), length=16, dim=width)))
        module = from_config(component_config(component))
        load_new(component, module, t5_table, (jnp.zeros((1, 16), int),), loaded)
    elif component.name == "transformer":
        module = pipeline.transformer()
        table = pipeline.family.transformer_table
        load_new(component, module, table, inputs_of(module), loaded)
    elif component.name == "vae":
        module = pipeline.autoencoder()
        table = pipeline.family.autoencoder_table
        load_new(component, module, table, (jnp.zeros((1, 1, 16, 16, 3)),), loaded)
    return True


def load_new(folder: Path, module: Any, table: Callable, inputs: tuple, loaded: set[Any]) -> None:
    if module in loaded:
        return
    loaded.add(module)
    try:
        target = target_of(module, *inputs)
    except ValueError as error:  # sizes that do not fit each other; the network says which
        raise ValueError(f"{folder}: {error}") from error
    load_onto(target, folder, table(module))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", ["wan", "cogvideox"])
@pytest.mark.parametrize(("seed", "cases"), SEEDS)
def test_configs(request, tmp_path, kind, name, seed, cases):
    folder = tmp_path / kind
    shutil.copytree(request.getfixturevalue(f"{kind}_folder"), folder)
    file = folder / name
    data = file.read_bytes()
    tree = json.loads(data)
    loaded: set[Any] = set()
    fuzz = Fuzz(file, folder, lambda: read_pipeline(folder, name, loaded))
    rng = random.Random(f"{seed} {name}")
    cases //= 4
    for case in range(cases):
        text = json.dumps(damage_tree(rng, tree)).encode()
        fuzz.one(damage_bytes(rng, data) if rng.random() < 0.5 else text, case)
    assert fuzz.refused > cases / 8
