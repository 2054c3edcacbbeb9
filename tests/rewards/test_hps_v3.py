"""HPSv3 against transformers and torch: tokens, frames and network of their own, small."""

import json

import numpy as np
import pytest
import torch
import transformers

from tests.language.reward_rows import clip, tiny_config
from tests.models import torch_parity as parity
from vidpref.config.fields import build
from vidpref.config.metrics import HpsV3, Metrics
from vidpref.config.schema import Reward
from vidpref.interop.hps_v3 import TOKEN, HpsV3Folder
from vidpref.interop.safetensors_files import write_tensors
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.rewards.registry import build_reward, check_reward

TEMPLATE = f"how good is {{text_prompt}}?\nIt is {TOKEN}\n\nEND\n"
PROMPTS = ["a red ball", "a longer prompt about <|Reward|> itself"]
PIXELS = (12 * 12, 16 * 20)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder, and the model that wrote it."""
    root = tmp_path_factory.mktemp("hps_v3")
    tokenizer = ByteTokenizer()
    tokenizer.write(root)
    vocab = len(tokenizer) + 1
    fields = tiny_config(300, tie_word_embeddings=False)  # cut to the tokenizer's in training
    (root / "config.json").write_text(json.dumps(fields))
    torch.manual_seed(0)
    config = transformers.Qwen2VLConfig(**{**fields, "vocab_size": vocab})
    config._attn_implementation = "eager"
    model = transformers.Qwen2VLForConditionalGeneration(config)
    model.rm_head = torch.nn.Sequential(
        *(torch.nn.Linear(32, 24), torch.nn.ReLU(), torch.nn.Dropout(0.05)),
        *(torch.nn.Linear(24, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)),
    )
    parity.randomize(model)
    model = model.eval()
    tensors = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): x
        for name, x in model.state_dict().items()
    }
    assert {"rm_head.5.bias", "lm_head.weight", "model.embed_tokens.weight"} <= set(tensors)
    write_tensors(root, {name: x.numpy() for name, x in tensors.items()}, stem="HPSv3")
    (root / "template.txt").write_text(TEMPLATE)
    return root, model


def section(root, frames=0, **changed):
    own = {
        "folder": str(root),
        "template": str(root / "template.txt"),
        "min_pixels": PIXELS[0],
        "max_pixels": PIXELS[1],
        "dtype": "float32",
        "batch_size": 8,
    }
    metrics = Metrics(frames=frames, hps_v3=HpsV3(**{**own, **changed}))
    return build(Reward(name="metrics", dimension="hps_v3", metrics=metrics))


def theirs(root, model, frame, prompt):
    """The mean of the score of a frame, by transformers alone."""
    processor = transformers.Qwen2VLImageProcessorPil(
        patch_size=4, size={"shortest_edge": PIXELS[0], "longest_edge": PIXELS[1]}
    )
    seen = processor(images=[frame.transpose(2, 0, 1)], return_tensors="pt")
    tokenizer = transformers.AutoTokenizer.from_pretrained(root)
    tokenizer.add_special_tokens({"additional_special_tokens": [TOKEN]})
    pads = "<|image_pad|>" * int(seen["image_grid_thw"].prod() // 4)
    before, after = TEMPLATE.replace("{text_prompt}", prompt).split(TOKEN)[-2:]
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|>{pads}<|vision_end|>{before}{TOKEN}{after}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    kinds = (ids == model.config.image_token_id).int()
    given = {"input_ids": ids, "mm_token_type_ids": kinds, **seen}
    with torch.no_grad():
        model.model.rope_deltas = None
        states = model.model(**given).last_hidden_state
        outputs = model.rm_head(states)
    return float(outputs[0, (ids[0] == tokenizer.convert_tokens_to_ids(TOKEN)).nonzero()[0, 0], 0])


def test_scores_are_the_means_of_the_original_added_up(published):
    root, model = published
    shown = np.stack([clip(3, 24, seed=i)[:, :20] for i in range(2)])
    said = build_reward(section(root, eta=2.0, gamma=0.5)).score(shown, [PROMPTS[0]] * 2)
    wanted = [sum(theirs(root, model, frame, PROMPTS[0]) for frame in one) for one in shown]
    np.testing.assert_allclose(said.scores["hps_v3"], 2 * np.array(wanted) + 0.5, atol=1e-4)
    assert np.ptp(wanted) > 0.01
    assert said.reasons[0] == f"hps_v3 {wanted[0]:.4f} over 3 frames"
    some = build_reward(section(root, frames=2)).score(shown, [PROMPTS[0]] * 2)
    wanted = [theirs(root, model, frame, PROMPTS[0]) for frame in shown[0, ::2]]
    np.testing.assert_allclose(some.scores["hps_v3"][0], sum(wanted), atol=1e-4)


def test_a_token_in_a_prompt_is_text_and_an_empty_prompt_a_failure(published):
    root, _ = published
    shown = np.stack([clip(1, 16, seed=i) for i in range(3)])
    said = build_reward(section(root)).score(shown, [*PROMPTS, " "])
    assert np.isfinite(said.scores["hps_v3"][:2]).all()
    assert "the prompt is empty" in said.failures[2]
    metric = build_reward(section(root))._metrics["hps_v3"]
    row, place = metric._row(shown[0, 0], PROMPTS[1])
    assert (row.tokens == HpsV3Folder(root).tokens.special(TOKEN)).sum() == 1
    assert row.tokens[place] == HpsV3Folder(root).tokens.special(TOKEN)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"folder": ""}, r"metrics\.hps_v3\.folder is empty: say where the weights"),
        ({"folder": "/none"}, "/none: no folder of HPSv3, as it has no HPSv3.safetensors: put"),
        ({"template": "/none"}, "template='/none': no such file"),
        ({"template": "{root}/config.json"}, "text_prompt} 0 times, .* 0 times; wanted is each"),
    ],
)
def test_what_is_missing_is_refused(changed, message, published):
    root, _ = published
    own = {name: value.replace("{root}", str(root)) for name, value in changed.items()}
    with pytest.raises(ValueError, match=message):
        check_reward(section(root, **own))
