"""Folders of HPSv3: its weights beside the config.json and tokenizer of the model it was made of.

HPSv3.safetensors   weights, by the names of transformers; `rm_head` is a sequence of layers
config.json         of Qwen2-VL-7B-Instruct
tokenizer.json ...  likewise; the token that is read comes behind all others
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.interop.json_fields import read_fields
from vidpref.interop.loading import load_onto
from vidpref.interop.qwen_vl import qwen_vl_table, spelling_of
from vidpref.interop.safetensors_files import TensorFolder
from vidpref.interop.table import Rule, Table
from vidpref.interop.video_reward_names import UNUSED_HEAD, with_tokens, without_head
from vidpref.language.chat_tokens import ChatTokens
from vidpref.models.frozen import Keeping
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.image_reward import QwenVLImageReward
from vidpref.models.qwen_vl.packing import smallest
from vidpref.storage.copies import here
from vidpref.typing import Array, PyTree

TOKEN = "<|Reward|>"  # its state is scored
_HEAD = "rm_head.{}.weight"
_WEIGHTS, _CONFIG = "HPSv3.safetensors", "config.json"


class HpsV3Folder:
    """HPSv3 on disk.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        config: of the Qwen-VL model, with as many tokens as the weights have.
        tokens: the tokenizer, with `TOKEN`.

    Raises:
        ValueError: a file that is missing, damaged or of another model; names it.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = here(path)
        if missing := [n for n in (_WEIGHTS, _CONFIG) if not (self.path / n).is_file()]:
            raise ValueError(
                f"{self.path}: no folder of HPSv3, as it has no {missing[0]}: put config.json and "
                f"the tokenizer's files of Qwen2-VL-7B-Instruct beside {_WEIGHTS}"
            )
        self._tensors = TensorFolder(self.path / _WEIGHTS)
        shapes = self._tensors.shapes
        try:
            self._spelling = spelling_of(shapes)
            config = QwenVLConfig.read(read_fields(self.path / _CONFIG))
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        self._layers = sorted(n for n in range(16) if _HEAD.format(n) in shapes)
        if not self._layers:
            raise ValueError(f"{self.path}: no HPSv3: it has no {_HEAD.format(0)}")
        embedding = f"{self._spelling[0]}embed_tokens.weight"
        rows = shapes.get(embedding, (config.text.vocab_size,))[0]
        self.config = with_tokens(config, rows)
        self.tokens = ChatTokens(self.path, new=(TOKEN,))
        if self.tokens.special(TOKEN) >= rows:
            raise ValueError(
                f"{self.path}: the tokenizer is not that of the model: {TOKEN} has the number "
                f"{self.tokens.special(TOKEN)}, and there are {rows} embeddings"
            )

    def module(self, dtype: str) -> QwenVLImageReward:
        """Returns the network, which computes in `dtype`."""
        widths = tuple(self._tensors.shapes[_HEAD.format(n)][0] for n in self._layers)
        return QwenVLImageReward(self.config, widths, attention="auto", dtype=dtype)

    def load(self, module: QwenVLImageReward, target: PyTree) -> PyTree:
        """Returns the parameters in the types that layers compute in, read onto devices.

        Args:
            module: the network.
            target: `abstract_hps_v3` as `jax.ShapeDtypeStruct`s with shardings.

        Raises:
            ValueError: weights that are missing, damaged or left over.
        """
        keep = Keeping(functools.partial(_init, module), "compute").one
        table = self._table(module)
        return load_onto(target, self._tensors, table, ignore=(UNUSED_HEAD,), keep=keep)

    def _table(self, module: QwenVLImageReward) -> Table:
        rules = [
            Rule(f"rm_head.{number}.{part}", f"head_{place}/{ours}", kind)
            for place, number in enumerate(self._layers)
            for part, ours, kind in (("weight", "kernel", "linear"), ("bias", "bias", "vector"))
        ]
        for rule in qwen_vl_table(without_head(module.config), self._spelling):
            rules.append(Rule(rule.torch, f"model/{rule.ours}", rule.kind))
        return tuple(rules)


def abstract_hps_v3(module: QwenVLImageReward) -> PyTree:
    """Returns the boxed shapes of the network's parameters."""
    return jax.eval_shape(functools.partial(_init, module), jax.random.key(0))


def _init(module: QwenVLImageReward, key: Array) -> PyTree:
    at = jnp.asarray(np.zeros(1, np.int32))
    return module.init(key, smallest(module.config), at)["params"]
