"""A small CLIP: its sizes, the tokenizer of its texts, and its folder in transformers' layout."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vidpref.files import write_text
from vidpref.interop.clip import clip_table
from vidpref.interop.clip_folders import ClipFolder
from vidpref.interop.export import copy_rest, new_folder
from vidpref.interop.image_processor import PROCESSOR, ImageProcessor
from vidpref.interop.safetensors_files import STEMS, TensorFolder, write_tensors
from vidpref.interop.table import to_params, to_tensors
from vidpref.typing import PyTree

START, END = "<|startoftext|>", "<|endoftext|>"
_LAST = "</w>"  # behind the last letter of a word
_MOST = 2**14  # tokens; the words are few


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What of a CLIP can be chosen.

    Attributes:
        width: of the states of both towers, and of the common space.
        layers: of each tower.
        heads: of a layer.
        patch: pixels of a patch's side.
        side: pixels of an image's side.
        length: tokens of a text at most, both ends among them.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    patch: int = 4
    side: int = 16
    length: int = 16


class WordTokens:
    """CLIP's kind of byte-pair encoding, in which each of some words is one token.

    Args:
        words: in lower case.
    """

    def __init__(self, words: Sequence[str]):
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE(end_of_word_suffix=_LAST))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(
            vocab_size=_MOST,
            min_frequency=1,
            initial_alphabet=letters,
            end_of_word_suffix=_LAST,
            show_progress=False,
        )
        tokenizer.train_from_iterator(sorted(set(words)), trainer)
        self.merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
        merged = dict.fromkeys("".join(pair) for pair in self.merges)
        ends = [f"{letter}{_LAST}" for letter in letters]
        self.vocabulary = [*letters, *ends, *merged, START, END]

    def write(self, folder: Path) -> None:
        """Writes vocab.json and merges.txt."""
        numbers = {token: number for number, token in enumerate(self.vocabulary)}
        write_text(folder / "vocab.json", json.dumps(numbers, ensure_ascii=False))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in self.merges)]
        write_text(folder / "merges.txt", "\n".join(lines) + "\n")


def config_of(sizes: Sizes, vocabulary: int) -> dict[str, Any]:
    """Returns the config.json of a `CLIPModel`.

    Args:
        sizes: of the model.
        vocabulary: tokens of its tokenizer, the last of which is the end token.
    """
    tower = {
        "hidden_size": sizes.width,
        "intermediate_size": 4 * sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "hidden_act": "quick_gelu",
    }
    text = {
        "vocab_size": vocabulary,
        "max_position_embeddings": sizes.length,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": sizes.width,
        "text_config": tower | text,
        "vision_config": tower | {"image_size": sizes.side, "patch_size": sizes.patch},
    }


def write_without_weights(folder: Path, sizes: Sizes, words: Sequence[str]) -> ClipFolder:
    """Writes config, tokenizer and image processor, and returns the folder.

    Args:
        folder: created if absent.
        sizes: of the model.
        words: of its texts; each is one token.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokens = WordTokens(words)
    tokens.write(folder)
    config = config_of(sizes, len(tokens.vocabulary))
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / PROCESSOR, json.dumps(_processor(sizes.side), indent=2) + "\n")
    return ClipFolder(folder)


def write_clip(out: Path, params: PyTree, source: ClipFolder) -> None:
    """Writes a folder that `ClipFolder`, and `from_pretrained` of transformers, read.

    Args:
        out: the new folder; an empty one is replaced.
        params: of the network, not boxed; written in half precision.
        source: of the rest.

    Raises:
        ValueError: `out` holds something.
    """
    tensors = to_tensors(params, clip_table())
    half = {name: np.asarray(tensor, np.float16) for name, tensor in tensors.items()}
    with new_folder(out) as folder:
        write_tensors(folder, half, stem=STEMS[1])
        copy_rest(source.path, folder, weights=".")


def read_params(source: ClipFolder) -> PyTree:
    """Returns the parameters in single precision, on the host."""
    found = to_params(TensorFolder(source.path), clip_table())
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), found)


def _processor(side: int) -> dict[str, Any]:
    own = ImageProcessor()
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "image_mean": list(own.mean),
        "image_std": list(own.std),
        "resample": own.resample,
    }
