"""VideoReward's folder: a synthetic one laid out as the published, read, scored, written, read."""

import json
import sys

import jax
import numpy as np
import peft
import pytest
import safetensors.torch
import torch
import transformers

from launch.weights import unpickle
from tests.language.reward_rows import DIMENSIONS, TEXT, clip, tiny_reader
from tests.models import torch_parity as parity
from tests.models.qwen_vl_examples import their_inputs
from vidpref.interop.safetensors_files import TensorFolder, write_tensors
from vidpref.interop.video_reward import VideoRewardFolder
from vidpref.interop.video_reward_export import export_video_reward
from vidpref.models.lora import Adapted, apply_network
from vidpref.training.sharding import abstract_params, make_mesh

LAYERS = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
NUMBERS = {"VQ": (3.5, 2.25), "MQ": (1.25, 1.5), "TA": (2.75, 2.5)}
SETTINGS = {  # the fields of the published file that count
    "data_config": {
        "meta_data": "train.csv",
        "data_dir": "videos",
        "max_frame_pixels": 200704,
        "num_frames": None,
        "fps": 2.0,
        "eval_dim": ["VQ", "MQ", "TA"],
        "prompt_template_type": "detailed_special",
        "sample_type": "uniform",
    },
    "training_args": {"learning_rate": 2e-6},
    "model_config": {
        "model_name_or_path": "Qwen/Qwen2-VL-2B-Instruct",
        "output_dim": 1,
        "use_special_tokens": True,
        "reward_token": "special",
    },
    "peft_lora_config": {
        "lora_enable": True,
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.05,
        "use_rslora": False,
    },
    "inference_config": {
        f"{name}_{what}": value
        for name, values in NUMBERS.items()
        for what, value in zip(("mean", "std"), values, strict=True)
    },
}


def as_saved(name: str) -> str:
    """The name of a tensor under transformers 4."""
    return name.replace("model.model.language_model.", "model.model.").replace(
        "model.model.visual.", "model.visual."
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder as VideoAlign saved it, that of its base's config, and the model itself."""
    root = tmp_path_factory.mktemp("video_reward")
    tiny_reader(root / "checkpoint-12" / "tokenizer")  # writes the tokenizer
    config = tiny_reader(root / "checkpoint-12" / "tokenizer").config
    torch.manual_seed(0)
    theirs = transformers.Qwen2VLConfig(**config.write())
    theirs._attn_implementation = "eager"
    model = transformers.Qwen2VLForConditionalGeneration(theirs)
    model.rm_head = torch.nn.Linear(32, 1, bias=False)
    parity.randomize(model)
    model = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=4,
            lora_alpha=8,
            target_modules=r".*language_model.*\.(" + "|".join(LAYERS) + ")",
        ),
    ).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_" in name:
                tensor.copy_(0.2 * torch.randn(tensor.shape))
    tensors = {as_saved(name): x.detach().clone() for name, x in model.state_dict().items()}
    assert "base_model.model.model.layers.1.self_attn.q_proj.base_layer.weight" in tensors
    assert "base_model.model.lm_head.weight" in tensors
    torch.save(tensors, root / "checkpoint-12" / "model.pth")
    (root / "checkpoint-7").mkdir()  # an older one, without its weights
    (root / "model_config.json").write_text(json.dumps(SETTINGS))
    base = tmp_path_factory.mktemp("base")
    longer = config.write()
    longer["text_config"] |= {"vocab_size": 300}  # cut to the tokenizer's in training
    (base / "config.json").write_text(json.dumps(longer))
    (base / "template.txt").write_text(TEXT + "\n")
    return root, base, model, tensors


@pytest.fixture(scope="module")
def unpickled(published):
    root, base, _, tensors = published
    with pytest.raises(ValueError, match=r"run: python launch/weights/unpickle\.py --folder="):
        VideoRewardFolder(root, str(base))
    argv, sys.argv = sys.argv, ["unpickle.py", f"--folder={root}"]
    try:
        (root / "checkpoint-7").rmdir()
        unpickle.main()
        unpickle.main()  # again: it is there
    finally:
        sys.argv = argv
    assert set(TensorFolder(root / "checkpoint-12")) == set(tensors)
    return VideoRewardFolder(root, str(base))


def loaded(folder):
    module = folder.module()
    target = abstract_params(folder.shapes(module), make_mesh({"data": 1}, jax.devices()[:1]))
    return module, folder.load(module, target)


def test_a_published_folder_scores_as_its_model_and_is_written_again(
    published, unpickled, tmp_path
):
    root, base, model, tensors = published
    folder = unpickled
    assert folder.config.text.vocab_size == 266
    assert folder.settings.dimensions == DIMENSIONS
    assert folder.settings.lora == (4, 8.0)
    module, policy = loaded(folder)
    assert isinstance(policy, Adapted)
    assert len(jax.tree.leaves(policy.adapters)) == len(LAYERS) * 2
    reader = folder.reader(base / "template.txt")
    rows = [reader.row(clip(8, seed=i), 4.0, prompt) for i, prompt in enumerate(("a", "a ball"))]
    # the published settings enlarge clips: too many tokens for a test
    tiny = tiny_reader(root / "checkpoint-12" / "tokenizer")
    assert rows[0].row.media[0].grid == (2, 80, 80)
    rows = [tiny.row(clip(8, seed=i), 4.0, prompt) for i, prompt in enumerate(("a", "a ball"))]
    packed = tiny.pack(rows)
    run = jax.jit(
        lambda policy, rows: apply_network(module, policy, rows),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    scores = np.asarray(run(policy, packed))
    with torch.no_grad():
        inner = model.base_model.model
        theirs = their_inputs([row.row for row in rows], packed.inputs)
        states = inner.model(**theirs).last_hidden_state
        at = torch.tensor(packed.at).long()
        expected = inner.rm_head(states[torch.arange(2)[:, None], at])[..., 0].numpy()
    error = parity.relative_error(scores, expected)
    print(f"\nscores {error:.1e}")
    assert error < 1e-4

    out = tmp_path / "out"
    export_video_reward(out, module, policy, folder.settings, tiny, step=12, dtype="float32")
    written = TensorFolder(out / "checkpoint-12")
    assert set(written) == set(tensors)
    for name, tensor in written.items():
        np.testing.assert_array_equal(tensor, tensors[name].numpy(), err_msg=name)
    again = VideoRewardFolder(out)
    assert again.settings == folder.settings
    assert again.config == folder.config
    assert again.reader().template == tiny.template
    jax.tree.map(np.testing.assert_array_equal, loaded(again)[1], policy)


def test_what_was_saved_in_parts_becomes_the_same_tensors(published, tmp_path):
    *_, tensors = published
    checkpoint, base = tmp_path / "checkpoint-3", tmp_path / "base"
    checkpoint.mkdir()
    base.mkdir()
    prefix = "base_model.model."
    lora = {name for name in tensors if "lora_" in name}
    plain = {name.replace(".base_layer", ""): name for name in set(tensors) - lora}
    head = [name for name in plain if "rm_head" in name]
    # of the base, as it was before training
    old = {name.removeprefix(prefix): tensors[own] for name, own in plain.items()}
    old = {name: x.clone() for name, x in old.items() if "rm_head" not in name}
    changed = [name for name in plain if ".visual." in name] + head
    for name in changed:
        if name not in head:
            old[name.removeprefix(prefix)] -= 1
    safetensors.torch.save_file(old, base / "model.safetensors")
    torch.save({name: tensors[plain[name]] for name in changed}, checkpoint / unpickle.PART)
    adapters = {name.replace(".default", ""): tensors[name].contiguous() for name in lora}
    safetensors.torch.save_file(adapters, checkpoint / unpickle.ADAPTERS)
    with pytest.raises(SystemExit, match="give the rest by --base"):
        unpickle.read(checkpoint, None)
    found = unpickle.read(checkpoint, base)
    assert set(found) == set(tensors)
    for name, tensor in found.items():
        assert torch.equal(tensor, tensors[name]), name


def test_without_adapters_names_are_plain_and_new_names_are_read(unpickled, tmp_path, published):
    module, policy = loaded(unpickled)
    reader = tiny_reader(published[0] / "checkpoint-12" / "tokenizer")
    out = tmp_path / "out"
    params = {**policy.base, "tokens": policy.base["tokens"] + 1}
    export_video_reward(out, module, params, unpickled.settings, reader, dtype="float32")
    names = set(TensorFolder(out / "checkpoint-1"))
    assert {"rm_head.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight"} <= names
    again = VideoRewardFolder(out)
    assert again.settings.lora is None
    read = loaded(again)[1]
    np.testing.assert_array_equal(read["tokens"], params["tokens"])
    embedding = np.array(params["model"]["embed"]["embedding"])
    embedding[reader.token_ids] += 1
    np.testing.assert_array_equal(read["model"]["embed"]["embedding"], embedding)

    tensors = dict(TensorFolder(out / "checkpoint-1"))
    (out / "checkpoint-1" / "model.safetensors").unlink()
    spelt = {"model.": "model.language_model.", "visual.": "model.visual."}
    renamed = {}
    for name, tensor in tensors.items():
        old = next((start for start in spelt if name.startswith(start)), "")
        renamed[spelt.get(old, "") + name.removeprefix(old)] = tensor
    write_tensors(out / "checkpoint-1", renamed, stem="model")
    jax.tree.map(np.testing.assert_array_equal, loaded(VideoRewardFolder(out))[1], read)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model_config", {"reward_token": "mean"}, "reward_token='mean' is not implemented"),
        ("model_config", {"output_dim": 2}, "a head of 2 outputs does not fit"),
        ("model_config", {"output_dim": "1"}, "output_dim='1' must be a number"),
        ("data_config", {"num_frames": 8}, "num_frames=8"),
        ("data_config", {"fps": None}, "data_config lacks fps"),
        ("peft_lora_config", {"lora_r": 5}, r"adapters of rank \[4\], and .* has lora_r=5"),
        ("peft_lora_config", {"lora_enable": False}, "14 layers have adapters"),
        ("inference_config", {"VQ_std": 0.0}, "cannot be normalised"),
    ],
)
def test_settings_that_ask_for_something_else(
    unpickled, published, tmp_path, section, change, message
):
    root, base, *_ = published
    (tmp_path / "checkpoint-12").symlink_to(root / "checkpoint-12")
    fields = SETTINGS | {section: SETTINGS[section] | change}
    (tmp_path / "model_config.json").write_text(json.dumps(fields))

    def shapes():
        folder = VideoRewardFolder(tmp_path, str(base))
        return folder.shapes(folder.module())

    with pytest.raises(ValueError, match=message):
        shapes()


def test_folders_that_are_none(unpickled, published, tmp_path):
    root, *_ = published
    with pytest.raises(ValueError, match=r"it has no model_config\.json"):
        VideoRewardFolder(tmp_path)
    (tmp_path / "model_config.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(ValueError, match="it has no checkpoint-N"):
        VideoRewardFolder(tmp_path)
    (tmp_path / "checkpoint-3").mkdir()
    with pytest.raises(ValueError, match="has no diffusion_pytorch_model"):
        VideoRewardFolder(tmp_path)
    (tmp_path / "checkpoint-12").symlink_to(root / "checkpoint-12")
    published_size = VideoRewardFolder(tmp_path)  # named: Qwen2-VL-2B
    assert published_size.config.text.hidden_size == 1536
    with pytest.raises(ValueError, match="no such template"):
        published_size.reader()
    named = SETTINGS | {"model_config": SETTINGS["model_config"] | {"model_name_or_path": "x/y"}}
    (tmp_path / "model_config.json").write_text(json.dumps(named))
    with pytest.raises(ValueError, match="its model 'x/y' is none of Qwen2-VL-2B"):
        VideoRewardFolder(tmp_path)
