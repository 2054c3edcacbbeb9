"""Answers of a vision-language judge: tokens a second beside `generate` of transformers.

    pip install -e ".[test]"
    JAX_PLATFORMS=cpu python benchmarks/answers.py                      # 4 layers of the 2B model
    JAX_PLATFORMS=cpu python benchmarks/answers.py --size=small         # overhead, not arithmetic
    python benchmarks/answers.py --device=gpu --layers=28 --rows=8

Both have the weights of one random `Qwen2VLForConditionalGeneration` and get the same prompts, a
video each. Unless their greedy answers agree nothing is timed. Every round then times each once;
the table shows medians over rounds with the fastest and slowest, and the median of each round's
ratio of times. The works: one greedy answer a prompt; several drawn ones, which share the prompt
here and repeat it in transformers; and one pass that reads the clips and says no word, as a judge
scores them.
"""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the GPU is PyTorch's too

import functools
import statistics
from collections.abc import Callable, Sequence

import interleaved
import jax
import numpy as np
import torch
import transformers
from absl import app, flags

from vidpref.interop.qwen_vl import NEW, qwen_vl_table
from vidpref.interop.table import to_params
from vidpref.language.decoding import answer
from vidpref.language.sampling import Sampling
from vidpref.models.qwen_vl.inputs import Inputs
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import Room, Row, pack
from vidpref.models.qwen_vl.positions import Media
from vidpref.models.qwen_vl.sizes import PUBLISHED
from vidpref.runs import command_line as program
from vidpref.typing import PyTree

_SIZE = flags.DEFINE_enum("size", "2b", ["2b", "small"], "Widths: of Qwen2-VL-2B, or 64.")
_LAYERS = flags.DEFINE_integer("layers", 4, "Of the text model and of the tower.", lower_bound=1)
_VOCAB = flags.DEFINE_integer("vocab", 32768, "Tokens that are told apart.", lower_bound=128)
_ROWS = flags.DEFINE_integer("rows", 4, "Prompts.", lower_bound=1)
_ANSWERS = flags.DEFINE_integer("answers", 4, "Answers to a prompt.", lower_bound=2)
_LENGTH = flags.DEFINE_integer("length", 64, "Tokens of an answer.", lower_bound=1)
_WORDS = flags.DEFINE_integer("words", 100, "Tokens of a prompt beside its video.", lower_bound=1)
_FRAMES = flags.DEFINE_integer("frames", 4, "Frames of a video, in pairs.", lower_bound=2)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Interleaved rounds.", lower_bound=1)
_DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Of both.")

_SPECIAL = ("vision_start", "vision_end", "image", "video")  # the first four tokens
_SIDE = 8  # patches of a frame, in rows and columns
_APART = 1e-3  # deviations of the logits of the next token
_AGREE = 0.9  # of the tokens; two chances may be equal but for rounding, and then all differs


def main(overrides: Sequence[str]) -> None:
    if overrides:
        raise app.UsageError(f"not understood: {' '.join(overrides)}")
    model = _theirs()
    rows = [_row(seed) for seed in range(_ROWS.value)]
    contenders = {"transformers": _generate(model, rows), "vidpref": _answer(model, rows)}
    greedy, several, read = ({name: own[i]() for name, own in contenders.items()} for i in range(3))
    agree = (greedy["vidpref"] == greedy["transformers"]).mean()
    if agree < _AGREE or (greedy["vidpref"][:, 0] != greedy["transformers"][:, 0]).any():
        raise SystemExit(f"{agree:.0%} of the greedy tokens agree: nothing is timed")
    shapes = {name: drawn.shape for name, drawn in several.items()}
    if len(set(shapes.values())) > 1:
        raise SystemExit(f"the drawn answers differ in number: {shapes}")
    apart = np.abs(read["vidpref"] - read["transformers"]).max() / read["transformers"].std()
    if apart > _APART:
        raise SystemExit(f"what is read differs by {apart:.1e} deviations: nothing is timed")
    print(
        f"{model.num_parameters() / 1e6:.0f}M parameters, {len(rows)} prompts of "
        f"{len(rows[0].tokens)} tokens, answers of {_LENGTH.value} tokens; {agree:.0%} of the "
        f"greedy tokens agree; {_DEVICE.value}, float32"
    )
    found = interleaved.times(contenders, _ROUNDS.value)
    names = (f"{len(rows)} x 1 greedy", f"{len(rows)} x {_ANSWERS.value} drawn", "read")
    interleaved.print_table(found, names, "transformers")
    for name, times in found.items():
        seconds = statistics.median(own[-1] for own in times)
        print(f"{name} reads {len(rows) / seconds:.3g} clips a second")


def _theirs() -> torch.nn.Module:
    fields = dict(PUBLISHED["Qwen2-VL-2B"])
    vision = dict(fields.pop("vision_config"), depth=_LAYERS.value)
    text = {k: v for k, v in fields.items() if k not in ("model_type", "tie_word_embeddings")}
    text |= {"num_hidden_layers": _LAYERS.value, "vocab_size": _VOCAB.value}
    if _SIZE.value == "small":
        text |= {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
        text |= {"num_key_value_heads": 2, "rope_scaling": {"type": "mrope"}}
        text["rope_scaling"]["mrope_section"] = [2, 3, 3]
        vision |= {"embed_dim": 64, "hidden_size": 64, "num_heads": 4}
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": text.pop("rope_theta"),
        "mrope_section": text.pop("rope_scaling")["mrope_section"],
    }
    special = {f"{name}_token_id": i for i, name in enumerate(_SPECIAL)}
    config = transformers.Qwen2VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **special
    )
    torch.manual_seed(0)
    model = transformers.Qwen2VLForConditionalGeneration(config).eval()
    return model.to("cuda" if _DEVICE.value == "gpu" else "cpu")


def _row(seed: int) -> Row:
    rng = np.random.default_rng(seed)
    media = Media((_FRAMES.value // 2, _SIDE, _SIDE), True, 1.0)
    frames, height, width = media.grid
    words = rng.integers(len(_SPECIAL), _VOCAB.value, _WORDS.value)
    video = np.full(frames * height * width // 4, _SPECIAL.index("video"))
    tokens = np.concatenate([[0], video, [1], words]).astype(np.int32)
    pixels = rng.normal(size=(frames, height * width, 2 * 14 * 14 * 3)).astype(np.float32)
    return Row(tokens, [media], [pixels])


def _generate(model: torch.nn.Module, rows: Sequence[Row]) -> tuple[Callable, ...]:
    flat = [
        row.pixels[0].reshape(-1, 2, 14, 14, 3).transpose(0, 4, 1, 2, 3).reshape(-1, 3 * 2 * 14**2)
        for row in rows
    ]
    tokens = torch.tensor(np.stack([row.tokens for row in rows])).long()
    given = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "pixel_values_videos": torch.tensor(np.concatenate(flat)),
        "video_grid_thw": torch.tensor([row.media[0].grid for row in rows]),
        "mm_token_type_ids": 2 * (tokens == _SPECIAL.index("video")).int(),
    }
    given = {name: value.to(model.device) for name, value in given.items()}

    @torch.no_grad()
    def generate(**how) -> np.ndarray:
        model.model.rope_deltas = None  # it remembers the last prompts'
        out = model.generate(
            **given,
            **how,
            max_new_tokens=_LENGTH.value,
            eos_token_id=None,
            pad_token_id=0,
            suppress_tokens=list(range(len(_SPECIAL))),
        )
        return out[:, tokens.shape[1] :].cpu().numpy()

    @torch.no_grad()
    def read() -> np.ndarray:
        model.model.rope_deltas = None
        return model(**given, logits_to_keep=1).logits[:, -1].float().cpu().numpy()

    several = {"do_sample": True, "top_k": 0, "num_return_sequences": _ANSWERS.value}
    greedy = functools.partial(generate, do_sample=False)
    return greedy, functools.partial(generate, **several), read


def _answer(model: torch.nn.Module, rows: Sequence[Row]) -> tuple[Callable, ...]:
    module = QwenVL.from_config(model.config.to_dict())
    tensors = {k: v.float().cpu().numpy() for k, v in model.state_dict().items()}
    tensors.pop("lm_head.weight", None)  # tied
    params = jax.device_put(to_params(tensors, qwen_vl_table(module, NEW)))
    inputs = jax.device_put(pack(rows, module.config, Room(), left=True))
    key, forbidden = jax.random.key(0), tuple(range(len(_SPECIAL)))

    def work(temperature: float, answers: int) -> Callable[[], np.ndarray]:
        rule = Sampling(_LENGTH.value, (), temperature=temperature, forbidden=forbidden)
        run = jax.jit(functools.partial(answer, module, rule=rule, answers=answers))

        def drawn() -> np.ndarray:
            return np.asarray(run(params, inputs, key).tokens).reshape(-1, _LENGTH.value)

        return drawn

    def last(params: PyTree, inputs: Inputs) -> jax.Array:
        states = module.apply({"params": params}, inputs, method="states")
        return module.apply({"params": params}, states[:, -1], method="logits")

    run = jax.jit(last)
    return work(0.0, 1), work(1.0, _ANSWERS.value), lambda: np.asarray(run(params, inputs))


if __name__ == "__main__":
    program.launch(main)
