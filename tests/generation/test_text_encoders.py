"""T5 behind the text door, against transformers and the pipelines of diffusers."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import sentencepiece
import torch
import transformers
from diffusers.pipelines.cogvideo.pipeline_cogvideox import CogVideoXPipeline
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from ml_collections import ConfigDict

from vidpref.config.fields import build
from vidpref.config.schema import Text
from vidpref.datasets.text import TextCache, TextEncoder, WordTable
from vidpref.generation.adopt import load_config
from vidpref.generation.text_encoders import build_text_encoder, check_text, weights_digest
from vidpref.runs.graph import run_stage
from vidpref.runs.methods import open_recipe
from vidpref.training.sharding import make_mesh

LENGTH, WIDTH = 12, 24
PROMPTS = ["a red  circle moves", "the &amp; blue square", "", "moves " * 20, "a cat"]
PIECES = ["▁a", "▁red", "▁circle", "▁moves", "▁the", "▁blue", "▁square", "▁&", "▁", "c", "t", ";"]
MODELS = {
    "t5": (transformers.T5Config, transformers.T5EncoderModel, CogVideoXPipeline, "seen"),
    "umt5": (transformers.UMT5Config, transformers.UMT5EncoderModel, WanPipeline, "hidden"),
}


def write_encoder(name: str, weights: Path, tokenizer: Path, seed: int = 0) -> None:
    """A tiny random encoder and a tokenizer of whole words, both in the real format."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(piece, -1.0 - i / 10) for i, piece in enumerate(PIECES)]
    words = transformers.T5Tokenizer(vocab=special + pieces, extra_ids=0)
    words.save_pretrained(tokenizer)
    config, model, *_ = MODELS[name]
    torch.manual_seed(seed)
    fields = {"vocab_size": 20, "d_model": WIDTH, "d_kv": 8, "d_ff": 40, "num_heads": 4}
    fields |= {"num_layers": 2, "feed_forward_proj": "gated-gelu"}
    model(config(**fields)).save_pretrained(weights)


@pytest.fixture(params=MODELS)
def pipeline(request, tmp_path) -> tuple[str, Path]:
    """The folder of a diffusers pipeline, as far as text is concerned."""
    write_encoder(request.param, tmp_path / "text_encoder", tmp_path / "tokenizer")
    (tmp_path / "model_index.json").write_text("{}")
    return request.param, tmp_path


@pytest.fixture
def t5_folder(tmp_path) -> Path:
    """One folder of weights and tokenizer."""
    write_encoder("t5", tmp_path, tmp_path)
    return tmp_path


def settings(name: str, path: Path, **fields) -> ConfigDict:
    config = {"path": str(path), "length": LENGTH, "dim": WIDTH, "dtype": "float32"}
    return build(Text(name=name, **config | fields))


def theirs(name: str, path: Path) -> np.ndarray:
    """What the pipeline of diffusers makes of the prompts."""
    _, model, pipe, _ = MODELS[name]
    self = types.SimpleNamespace(
        tokenizer=transformers.AutoTokenizer.from_pretrained(path / "tokenizer"),
        text_encoder=model.from_pretrained(path / "text_encoder").eval(),
        _execution_device=torch.device("cpu"),
    )
    with torch.no_grad():
        return pipe._get_t5_prompt_embeds(self, PROMPTS, max_sequence_length=LENGTH).numpy()


@pytest.mark.parametrize(
    "mesh", [{"data": -1}, {"data": 2, "fsdp": 4}, {"data": 2, "fsdp": 2, "tensor": 2}]
)
def test_states_are_those_of_the_pipelines(pipeline, mesh):
    name, path = pipeline
    padding = MODELS[name][-1]
    config = settings(name, path, padding=padding, clean=name == "umt5")
    encoder = build_text_encoder(config, make_mesh(mesh))
    assert isinstance(encoder, TextEncoder)
    text, mask = encoder.encode(PROMPTS)
    wanted = theirs(name, path)
    assert text.dtype == np.float32
    np.testing.assert_allclose(text, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    # with the end-of-text token; the fourth prompt is cut
    lengths = [LENGTH] * 5 if padding == "seen" else [5, 5, 1, LENGTH, 6]
    assert mask.sum(axis=1).tolist() == lengths


def test_padding_seen_and_hidden_differ(t5_folder):
    mesh = make_mesh({"data": -1})
    (hidden, mask), (seen, _) = (
        build_text_encoder(settings("t5", t5_folder, padding=padding), mesh).encode(["a cat"])
        for padding in ("hidden", "seen")
    )
    assert not hidden[~mask].any()
    assert np.abs(hidden[mask] - seen[mask]).max() > 1e-2


def test_many_prompts_do_not_see_each_other(t5_folder):
    encoder = build_text_encoder(settings("t5", t5_folder), make_mesh({"data": -1}))
    many = [PROMPTS[i % 5] for i in range(37)]
    text, mask = encoder.encode(many)
    one, _ = encoder.encode(["a cat"])
    np.testing.assert_allclose(text[34], one[0], atol=1e-5)
    assert mask.shape == (37, LENGTH)


def test_long_prompts_are_counted(t5_folder, caplog):
    encoder = build_text_encoder(settings("t5", t5_folder), make_mesh({"data": -1}))
    with caplog.at_level("WARNING"):
        encoder.encode(PROMPTS)
    assert "1 of 5 prompts have more than config.text.length=12" in caplog.text


def test_the_cache_keeps_bfloat16(t5_folder):
    mesh = make_mesh({"data": -1})
    text, mask = build_text_encoder(settings("t5", t5_folder), mesh).encode(["a cat"])
    rounded = build_text_encoder(settings("t5", t5_folder, dtype="bfloat16"), mesh)
    kept, real = TextCache.build(t5_folder / "cache", rounded, ["a cat"])["a cat"]
    assert kept.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(real, mask[0])
    assert np.abs(kept.astype(np.float32) - text[0]).max() < 0.05 * np.abs(text).max()


def test_a_tokenizer_of_sentencepiece_alone(tmp_path):
    """CogVideoX's has no tokenizer.json."""
    write_encoder("t5", tmp_path / "text_encoder", tmp_path / "elsewhere")
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    words = ["a", "red", "circle", "rides", "a", "deer"]
    sentences = [" ".join(words[i:] + words[:i]) for i in range(len(words))]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=str(folder / "spiece"),
        vocab_size=16,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    fields = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    encoder = build_text_encoder(
        settings("t5", tmp_path / "text_encoder", length=30), make_mesh({"data": -1})
    )
    prompts = ["a red circle", "Über a  deer, rides"]
    tokens, mask = encoder._tokenize(prompts)
    for prompt, row, real in zip(prompts, tokens, mask, strict=True):
        assert row[real].tolist() == [*pieces.encode(prompt), 1]


def test_the_fingerprint_follows_what_changes_the_embedding(tmp_path):
    write_encoder("t5", tmp_path / "a", tmp_path / "a")
    write_encoder("t5", tmp_path / "b", tmp_path / "b")
    write_encoder("t5", tmp_path / "c", tmp_path / "c", seed=1)
    configs = [settings("t5", tmp_path / folder) for folder in "abc"]
    configs += [settings("t5", tmp_path / "a", **f) for f in ({"padding": "seen"}, {"clean": True})]
    mesh = make_mesh({"data": -1})
    a, b, *others = [build_text_encoder(config, mesh).fingerprint for config in configs]
    assert a == b
    assert len({a, *others}) == 4
    same, moved, trained, *_ = [weights_digest(config) for config in configs]
    assert same == moved != trained  # a stage knows an encoder by its weights, not by its place


def test_the_word_table_reads_none_of_it():
    config = settings("words", Path())
    assert weights_digest(config) == ""
    encoder = build_text_encoder(config, make_mesh({"data": -1}))
    assert isinstance(encoder, WordTable)
    assert (encoder.length, encoder.dim, encoder.truncate) == (LENGTH, WIDTH, False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "umt5"}, "config.text.name='umt5', but .* says model_type='t5'"),
        ({"dim": 4096}, "config.text.dim=4096, but .* has d_model=24"),
        ({"path": "nowhere"}, "config.text.path='nowhere' is no folder"),
        ({"name": "t6"}, "config.text.name='t6': known are words, t5, umt5"),
    ],
)
def test_what_does_not_fit_is_refused(t5_folder, fields, message):
    config = settings("t5", t5_folder)
    config.update(fields)
    with pytest.raises(ValueError, match=message):
        build_text_encoder(config, make_mesh({"data": -1}))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    write_encoder("t5", tmp_path / "weights", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="holds a tokenizer"):
        build_text_encoder(settings("t5", tmp_path / "weights"), make_mesh({"data": -1}))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", POINTER, r"model\.safetensors: a pointer of git-lfs"),
        ("tokenizer.json", POINTER, r"tokenizer\.json: a pointer of git-lfs"),
        ("config.json", POINTER, r"config\.json: a pointer of git-lfs"),
        (
            "config.json",
            '{"d_ff": 1,\n"d_ff": 2}',
            r"line 2: the key 'd_ff' stands twice",
        ),
        ("model.safetensors", "", r"model\.safetensors: an empty file"),
    ],
)
def test_files_that_are_not_themselves_are_refused_before_any_stage(
    t5_folder, name, content, message
):
    check_text(settings("t5", t5_folder))
    (t5_folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        check_text(settings("t5", t5_folder))


def test_all_pointers_are_said_at_once(t5_folder):
    for name in ("model.safetensors", "tokenizer.json"):
        (t5_folder / name).write_text(POINTER)
    with pytest.raises(
        ValueError, match=r"model\.safetensors: a p.*; .*tokenizer\.json: a pointer"
    ):
        check_text(settings("t5", t5_folder))


def test_the_tokenizer_of_another_encoder_is_noticed(t5_folder):
    more = [(f"▁{i}", -1.0) for i in range(30)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    transformers.T5Tokenizer(vocab=special + more, extra_ids=0).save_pretrained(t5_folder)
    encoder = build_text_encoder(settings("t5", t5_folder), make_mesh({"data": -1}))
    with pytest.raises(ValueError, match=r"gives token 32, but .* vocab_size=20"):
        encoder.encode(["29"])


def test_a_run_embeds_its_prompts_with_t5(t5_folder):
    overrides = ["text.name=t5", f"text.path={t5_folder}", f"text.dim={WIDTH}", "text.length=9"]
    recipe = open_recipe(load_config("sft_aif:mini", overrides), t5_folder / "run")
    recipe.inputs.data = types.SimpleNamespace(prompts=("a red circle moves", "a cat"))
    run_stage(recipe.inputs.text_stage, t5_folder / "run", print)
    text, mask = recipe.inputs.texts["a red circle moves"]
    assert (text.shape, mask.sum()) == ((9, WIDTH), 5)
    assert recipe.generator.text_shape == (9, WIDTH)


# Stands before the imports of a program that must do without PyTorch.
WITHOUT_TORCH = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
sys.modules["torch"] = None
"""


def test_no_torch_is_needed(t5_folder):
    config = settings("t5", t5_folder)
    program = f"""{WITHOUT_TORCH}
import numpy as np
from ml_collections import ConfigDict
from vidpref.generation.text_encoders import build_text_encoder
from vidpref.training.sharding import make_mesh
encoder = build_text_encoder(ConfigDict({config.to_dict()!r}), make_mesh({{"data": -1}}))
np.save({str(t5_folder / "text.npy")!r}, encoder.encode({PROMPTS!r})[0])
"""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=root, check=True)
    text, _ = build_text_encoder(config, make_mesh({"data": -1})).encode(PROMPTS)
    np.testing.assert_allclose(np.load(t5_folder / "text.npy"), text, atol=1e-6)
