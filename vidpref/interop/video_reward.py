"""Folders of VideoReward, VideoAlign's reward model, and of reward models that are trained here.

    model_config.json               settings, see `video_reward_settings.py`
    config.json                     of the Qwen-VL model (ours; VideoAlign's has the model's name)
    template.txt                    what is asked (ours; VideoAlign has it in its code)
    checkpoint-N/model.safetensors  weights, with adapters beside the layers that they adapt
    checkpoint-N/tokenizer/         the tokenizer with the tokens of the dimensions

VideoAlign writes `model.pth`, which `launch/weights/unpickle.py` turns into safetensors. Names are
those of PEFT around those of transformers 4, such as "base_model.model.model.layers.0.mlp.up_proj.
base_layer.weight", or plain ones without adapters; those of transformers 5 are read too.
"""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vidpref.files import write_text
from vidpref.interop.export import DTYPES, SHARD_BYTES, new_folder, tensors_of
from vidpref.interop.json_fields import read_fields
from vidpref.interop.loading import load_onto
from vidpref.interop.qwen_vl import OLD, qwen_vl_table, spelling_of
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.interop.safetensors_files import STEMS, TensorFolder, write_tensors
from vidpref.interop.table import Rule, Table, plan, tensor_shapes
from vidpref.interop.video_reward_settings import VideoRewardSettings
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.patches import Eye
from vidpref.language.reward_template import RewardTemplate, reward_token
from vidpref.language.video_reward import RewardReader, Viewing
from vidpref.models.lora import Adapted, LoRA
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.reward import QwenVLReward, smallest_rows
from vidpref.models.qwen_vl.sizes import PUBLISHED
from vidpref.typing import Array, PyTree

SETTINGS, CONFIG, TEMPLATE, TOKENIZER = (
    *("model_config.json", "config.json"),
    *("template.txt", "tokenizer"),
)
_PEFT = "base_model.model."
_LAYER, _FACTORS = ".base_layer", {"a": ".lora_A.default.weight", "b": ".lora_B.default.weight"}
_HEAD, _UNUSED = "rm_head.weight", "lm_head.weight"


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
        self.path = Path(path).expanduser()
        if not (self.path / SETTINGS).is_file():
            raise ValueError(f"{self.path}: no folder of a reward model: it has no {SETTINGS}")
        try:
            self.settings = VideoRewardSettings.read(read_fields(self.path / SETTINGS))
        except ValueError as error:
            raise ValueError(f"{self.path / SETTINGS}: {error}") from error
        self.checkpoint = _newest(self.path)
        self._tensors = TensorFolder(self.checkpoint)
        names = list(self._tensors.shapes)
        self._prefix = _PEFT if all(name.startswith(_PEFT) for name in names) else ""
        try:
            self._spelling = spelling_of(name.removeprefix(self._prefix) for name in names)
            config = self._config(base)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        embedding = f"{self._prefix}{self._spelling[0]}embed_tokens.weight"
        rows = self._tensors.shapes.get(embedding, (config.text.vocab_size,))[0]
        self.config = _with_tokens(config, rows)

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
        text = Path(template).expanduser() if template else self.path / TEMPLATE
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
        table = _table(module, self._prefix, self._spelling, _adapted(target))
        flat = flatten_dict(target)
        tokens = flat.pop(("params", "tokens"), None)

        def kept(path: tuple[str, ...], leaf: jax.Array) -> PyTree:
            return leaf if keep is None or path[0] != "params" else keep(path[1:], leaf)

        wanted = unflatten_dict(flat)
        unused = (self._prefix + _UNUSED,)
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
        for folder in (self.path, *([Path(base).expanduser()] if base else [])):
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
        layers = _adapted_layers(self._tensors.shapes)
        own = self.settings.lora
        if (own is None) != (not layers):
            raise ValueError(
                f"{self.path}: {len(layers)} layers have adapters in {self.checkpoint.name}, and "
                f"{SETTINGS} says peft_lora_config.lora_enable={own is not None}"
            )
        if own is None:
            return None
        rank, alpha = own
        ranks = {self._tensors.shapes[f"{layer}{_FACTORS['a']}"][0] for layer in layers}
        if ranks != {rank}:
            raise ValueError(
                f"{self.path}: adapters of rank {sorted(ranks)}, and {SETTINGS} has lora_r={rank}"
            )
        names = {name.removeprefix(self._prefix) for name in layers}
        targets = []
        for rule in qwen_vl_table(_inner(self.config), self._spelling):
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
    rules = qwen_vl_table(_inner(folder.config), spelling)
    table = tuple(dataclasses.replace(rule, tied="") for rule in rules)
    return load_onto(target, folder.path, table, ignore=(_UNUSED,))


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


def export_video_reward(
    out: Path,
    module: QwenVLReward,
    policy: PyTree | Adapted,
    settings: VideoRewardSettings,
    reader: RewardReader,
    *,
    step: int = 1,
    dtype: str = "bfloat16",
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a folder that `VideoRewardFolder` reads, in the layout of VideoAlign's.

    The head of the language model, which scores need not, is written as the embedding that it is
    tied to, since VideoAlign's loader wants it; that of a model whose head is its own is left out.
    Embeddings beyond the tokenizer's are cut off, as VideoAlign does.
    Every process must call this, and the first one writes.

    Args:
        out: the new folder; an empty one is replaced.
        module: the network.
        policy: its parameters, or `Adapted`; the adapters are of the model's linear layers.
        settings: what it was trained with; `lora` is that of `policy`.
        reader: its template and tokenizer.
        step: number of the checkpoint.
        dtype: type of the weights, one of `DTYPES`.
        max_shard_bytes: see `write_tensors`.

    Raises:
        ValueError: `out` holds something, or another type.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: weights are exported as {' or '.join(DTYPES)}")
    adapted = isinstance(policy, Adapted)
    params = dict(nn.unbox(policy.base if adapted else policy))
    rows = min(len(reader.tokens), module.config.text.vocab_size)
    own = params.pop("tokens", None)
    params["model"] = _embedding(params["model"], rows, own, reader.token_ids)
    config = _with_tokens(module.config, rows)
    tree = {"params": params, **({"adapters": nn.unbox(policy.adapters)} if adapted else {})}
    lora = (policy.spec.rank, float(policy.spec.alpha)) if adapted else None
    settings = dataclasses.replace(settings, lora=lora)
    prefix = _PEFT if adapted else ""
    table = _table(module, prefix, OLD, _adapted(tree))
    parts = plan(tensor_shapes(tree, table), table, expected=tree)
    tensors = dict(tensors_of(parts, tree, jnp.dtype(dtype)))
    if module.config.text.tie_word_embeddings:
        tensors[prefix + _UNUSED] = tensors[f"{prefix}{OLD[0]}embed_tokens.weight"]
    tensors = dict(sorted(tensors.items()))
    with new_folder(out) as folder:
        if folder is None:
            # the tensors come from the devices of all processes, in the order of the files
            for tensor in tensors.values():
                np.asarray(tensor)
            return
        checkpoint = folder / f"checkpoint-{step}"
        write_tensors(checkpoint, tensors, stem=STEMS[1], max_shard_bytes=max_shard_bytes)
        reader.tokens.save(checkpoint / TOKENIZER)
        write_text(folder / TEMPLATE, reader.template.text + "\n")
        for name, fields in ((SETTINGS, settings.write()), (CONFIG, config.write())):
            write_text(folder / name, json.dumps(fields, indent=2) + "\n")


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


def _inner(config: QwenVLConfig) -> QwenVL:
    """The model without the language head, which counts as tied here: scores have none."""
    text = dataclasses.replace(config.text, tie_word_embeddings=True)
    return QwenVL(dataclasses.replace(config, text=text))


def _table(
    module: QwenVLReward, prefix: str, spelling: tuple[str, str], adapted: set[str]
) -> Table:
    """The table of {"params": ..., "adapters": ...}.

    Args:
        module: the network.
        prefix: what stands before all names.
        spelling: of the model's names.
        adapted: paths of the layers that have adapters.
    """
    rules = [Rule(f"{prefix}{_HEAD}", "params/head/kernel", "linear")]
    for rule in qwen_vl_table(_inner(module.config), spelling):
        layer, _, part = rule.torch.rpartition(".")
        ours, own = f"model/{rule.ours}", rule.ours.rpartition("/")[0]
        inside = _LAYER if f"model/{own}" in adapted else ""
        rules.append(Rule(f"{prefix}{layer}{inside}.{part}", f"params/{ours}", rule.kind))
        if inside and part == "weight":
            for factor, ending in _FACTORS.items():
                path = f"adapters/model/{own}/{factor}"
                rules.append(Rule(f"{prefix}{layer}{ending}", path, "linear"))
    return tuple(rules)


def _adapted(tree: PyTree) -> set[str]:
    """Paths of the layers that have adapters in a tree."""
    return {"/".join(path[:-1]) for path in flatten_dict(tree.get("adapters", {}))}


def _adapted_layers(names: Iterable[str]) -> list[str]:
    ending = _FACTORS["a"]
    return [name.removesuffix(ending) for name in names if name.endswith(ending)]


def _embedding(model: PyTree, rows: int, own: Array | None, numbers: list[int]) -> PyTree:
    """The model with the first rows of its embedding, some of them exchanged."""

    def change(x: Array, own: Array | None) -> Array:
        return x[:rows] if own is None else x[:rows].at[np.array(numbers)].set(own.astype(x.dtype))

    given = None if own is None else jnp.asarray(own)
    embedding = jax.jit(change)(jnp.asarray(model["embed"]["embedding"]), given)
    return {**model, "embed": {**model["embed"], "embedding": embedding}}


def _with_tokens(config: QwenVLConfig, rows: int) -> QwenVLConfig:
    return dataclasses.replace(config, text=dataclasses.replace(config.text, vocab_size=rows))
