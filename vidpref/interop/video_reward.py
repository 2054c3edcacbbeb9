"""Folders of VideoReward, VideoAlign's reward model, and of reward models that are trained here.

    model_config.json               settings, see `video_reward_settings.py`
    config.json                     of the Qwen-VL model (ours; VideoAlign's has the model's name)
    template.txt                    what is asked (ours; VideoAlign has it in its code)
    checkpoint-N/model.safetensors  weights, with adapters beside the layers that they adapt
    checkpoint-N/tokenizer/         the tokenizer with the tokens of the dimensions

VideoAlign writes `model.pth`, which `launch/weights/unpickle.py` turns into safetensors. Its names
are in `video_reward_names.py`; `video_reward_export.py` writes such folders.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vidpref.interop.json_fields import read_fields
from vidpref.interop.loading import load_onto
from vidpref.interop.qwen_vl import qwen_vl_table, spelling_of
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.interop.safetensors_files import TensorFolder
from vidpref.interop.video_reward_names import (
    FACTORS,
    PEFT,
    UNUSED_HEAD,
    adapted_in,
    adapted_layers,
    reward_table,
    with_tokens,
    without_head,
)
from vidpref.interop.video_reward_settings import VideoRewardSettings
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.patches import Eye
from vidpref.language.reward_template import RewardTemplate, reward_token
from vidpref.language.video_reward import RewardReader, Viewing
from vidpref.models.lora import Adapted, LoRA
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.reward import QwenVLReward, smallest_rows
from vidpref.models.qwen_vl.sizes import PUBLISHED
from vidpref.storage.copies import here
from vidpref.typing import Array, PyTree

SETTINGS, CONFIG, TEMPLATE, TOKENIZER = (
    *("model_config.json", "config.json"),
    *("template.txt", "tokenizer"),
)


class VideoRewardFolder:
    """A reward model on disk.

    Args:
        path: the folder.
        base: folder of the Qwen-VL model that it was made of, whose config.json counts where the
            folder has none; "" for none.

    Attributes:
        settings: what it was trained with.
        checkpoint: folder of its newest checkpoint.
        config: of the Qwen-VL model, with as many tokens as the weights have.

    Raises:
        ValueError: a file that is missing, damaged or of another kind; names it.
    """

    def __init__(self, path: str | os.PathLike, base: str = ""):
        self.path = here(path)
        if not (self.path / SETTINGS).is_file():
            raise ValueError(f"{self.path}: no folder of a reward model: it has no {SETTINGS}")
        try:
            self.settings = VideoRewardSettings.read(read_fields(self.path / SETTINGS))
        except ValueError as error:
            raise ValueError(f"{self.path / SETTINGS}: {error}") from error
        self.checkpoint = _newest(self.path)
        self._tensors = TensorFolder(self.checkpoint)
        names = list(self._tensors.shapes)
        self._prefix = PEFT if all(name.startswith(PEFT) for name in names) else ""
        try:
            self._spelling = spelling_of(name.removeprefix(self._prefix) for name in names)
            config = self._config(base)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        embedding = f"{self._prefix}{self._spelling[0]}embed_tokens.weight"
        rows = self._tensors.shapes.get(embedding, (config.text.vocab_size,))[0]
        self.config = with_tokens(config, rows)

    def module(self, **options: Any) -> QwenVLReward:
        """Returns the network; `options` are fields that the folder does not have."""
        own = self.settings
        return QwenVLReward(
            self.config, len(own.dimensions), own.outputs, own_tokens=not own.shared, **options
        )

    def reader(self, template: str | os.PathLike = "") -> RewardReader:
        """Returns what makes rows for the network.

        Args:
            template: file of the template where it is not the folder's `template.txt`.

        Raises:
            ValueError: no template or tokenizer, or one that does not fit.
        """
        own = self.settings
        text = here(template) if template else self.path / TEMPLATE
        if not text.is_file():
            raise ValueError(
                f"{text}: no such template. VideoAlign's checkpoint has it in the code: write it "
                "to a text file, with {text_prompt} and a token a dimension, and give that as "
                "config.reward.video_reward.template"
            )
        return make_reader(
            own,
            self.config,
            ChatTokens(self.checkpoint / TOKENIZER),
            RewardTemplate.read(text, own.dimensions, shared=own.shared),
        )

    def shapes(self, module: QwenVLReward) -> PyTree:
        """Returns the boxed shapes of {"params": ..., "adapters": ...}, for `load`'s target."""
        return policy_shapes(module, self.lora)

    def load(
        self,
        module: QwenVLReward,
        target: PyTree,
        keep: Callable[[tuple[str, ...], jax.Array], PyTree] | None = None,
    ) -> PyTree | Adapted:
        """Returns what `apply_network` takes, read onto devices.

        Args:
            module: the network.
            target: `shapes` as `jax.ShapeDtypeStruct`s with shardings.
            keep: see `load_onto`, of parameters.

        Raises:
            ValueError: weights that are missing, damaged, left over or not those of the settings.
        """
        spec = self.lora
        table = reward_table(module, self._prefix, self._spelling, adapted_in(target))
        flat = flatten_dict(target)
        tokens = flat.pop(("params", "tokens"), None)

        def kept(path: tuple[str, ...], leaf: jax.Array) -> PyTree:
            return leaf if keep is None or path[0] != "params" else keep(path[1:], leaf)

        wanted = unflatten_dict(flat)
        unused = (self._prefix + UNUSED_HEAD,)
        loaded = load_onto(wanted, self.checkpoint, table, ignore=unused, keep=kept)
        params = loaded["params"]
        if tokens is not None:
            numbers = np.array(self.token_ids())
            take = jax.jit(lambda x: x[numbers], out_shardings=tokens.sharding)
            params["tokens"] = take(params["model"]["embed"]["embedding"])
        return params if spec is None else Adapted(params, loaded["adapters"], spec)

    def token_ids(self) -> list[int]:
        """Returns the numbers of the dimensions' tokens."""
        tokens = ChatTokens(self.checkpoint / TOKENIZER)
        numbers = token_numbers(tokens, self.settings.dimensions)
        beyond = [number for number in numbers if number >= self.config.text.vocab_size]
        if beyond:
            raise ValueError(
                f"{self.path}: the tokenizer is not that of the model: token {beyond[0]} of "
                f"{self.config.text.vocab_size} embeddings"
            )
        return numbers

    def _config(self, base: str) -> QwenVLConfig:
        for folder in (self.path, *([here(base)] if base else [])):
            if (folder / CONFIG).is_file():
                return QwenVLConfig.read(read_fields(folder / CONFIG))
        name = Path(self.settings.base).name.removesuffix("-Instruct")
        if name in PUBLISHED:
            return QwenVLConfig.read(PUBLISHED[name])
        raise ValueError(
            f"it has no {CONFIG}, and its model {self.settings.base!r} is none of "
            f"{', '.join(PUBLISHED)}: put the config.json of that model beside {SETTINGS}"
        )

    @functools.cached_property
    def lora(self) -> LoRA | None:
        """The adapters, on the layers that have some in the file; None for none.

        Raises:
            ValueError: the settings say something else of them.
        """
        layers = adapted_layers(self._tensors.shapes)
        own = self.settings.lora
        if (own is None) != (not layers):
            raise ValueError(
                f"{self.path}: {len(layers)} layers have adapters in {self.checkpoint.name}, and "
                f"{SETTINGS} says peft_lora_config.lora_enable={own is not None}"
            )
        if own is None:
            return None
        rank, alpha = own
        ranks = {self._tensors.shapes[f"{layer}{FACTORS['a']}"][0] for layer in layers}
        if ranks != {rank}:
            raise ValueError(
                f"{self.path}: adapters of rank {sorted(ranks)}, and {SETTINGS} has lora_r={rank}"
            )
        names = {name.removeprefix(self._prefix) for name in layers}
        targets = []
        for rule in qwen_vl_table(without_head(self.config), self._spelling):
            layer = re.escape(rule.torch.removesuffix(".weight")).replace(r"\{i\}", r"\d+")
            if rule.kind == "linear" and any(re.fullmatch(layer, name) for name in names):
                targets.append(f"^model/{re.escape(rule.ours)}$")
        return LoRA(rank, alpha, tuple(targets))


def policy_shapes(module: QwenVLReward, spec: LoRA | None) -> PyTree:
    """Returns the boxed shapes of {"params": ..., "adapters": ...}, the latter where there are any.

    Args:
        module: the network.
        spec: its adapters.
    """

    def init(key: Array) -> PyTree:
        rows = smallest_rows(module.config, module.dimensions)
        params = module.init(key, rows)["params"]
        return {"params": params, **({} if spec is None else {"adapters": spec.init(key, params)})}

    return jax.eval_shape(init, jax.random.key(0))


def load_base(folder: QwenVLFolder, target: PyTree) -> PyTree:
    """Returns the parameters of a Qwen-VL model, without its language head, as `load_onto` does.

    Args:
        folder: the model.
        target: `jax.ShapeDtypeStruct`s with shardings.

    Raises:
        ValueError: see `QwenVLFolder.load`.
    """
    spelling = spelling_of(TensorFolder(folder.path).shapes)
    rules = qwen_vl_table(without_head(folder.config), spelling)
    table = tuple(dataclasses.replace(rule, tied="") for rule in rules)
    return load_onto(target, folder.path, table, ignore=(UNUSED_HEAD,))


def make_reader(
    settings: VideoRewardSettings,
    config: QwenVLConfig,
    tokens: ChatTokens,
    template: RewardTemplate,
) -> RewardReader:
    """Returns what makes rows for a network of these settings.

    Raises:
        ValueError: see `RewardReader`.
    """
    eye = Eye.of(
        config,
        images=settings.pixels,
        videos=settings.pixels,
        resizer=settings.resizer,
        one_factor_first=True,
    )
    least, most = settings.frames
    return RewardReader(
        config,
        tokens,
        template,
        eye,
        Viewing("videoreward", settings.rate, least, most),
        settings.positions,
        settings.most_tokens,
    )


def token_numbers(tokens: ChatTokens, dimensions: Iterable[str]) -> list[int]:
    """Returns the numbers of the dimensions' tokens.

    Raises:
        ValueError: the tokenizer lacks one.
    """
    return [tokens.special(reward_token(name)) for name in dimensions]


def _newest(path: Path) -> Path:
    found = {
        int(match[1]): folder
        for folder in path.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", folder.name)) and folder.is_dir()
    }
    if not found:
        raise ValueError(f"{path}: no folder of a reward model: it has no checkpoint-N")
    newest = found[max(found)]
    if not list(newest.glob("*.safetensors*")) and any(newest.glob("*.pth")):
        raise ValueError(
            f"{newest} holds its weights as pickle, which may run any program when it is read; "
            f"where the file is trusted, run: python launch/weights/unpickle.py --folder={path}"
        )
    return newest
