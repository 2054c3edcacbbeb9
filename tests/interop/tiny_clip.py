"""Small CLIP models with random weights, in the folders of transformers and of OpenCLIP."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import pre_tokenizers

from tests.models.torch_parity import randomize, state_dict
from vidpref.interop.safetensors_files import write_tensors

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own begins like this: every byte, every byte at the end of a word; at its end are these two
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), START, END]
TEXT = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 20,
    "vocab_size": len(VOCABULARY),
    "bos_token_id": len(VOCABULARY) - 2,
    "eos_token_id": len(VOCABULARY) - 1,
    "pad_token_id": len(VOCABULARY) - 1,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
WIDTH = 16


def original(act="quick_gelu", text=(), seed=0) -> transformers.CLIPModel:
    torch.manual_seed(seed)
    own = {"hidden_act": act}
    config = transformers.CLIPConfig(
        text_config={**TEXT, **own, **dict(text)},
        vision_config=VISION | own,
        projection_dim=WIDTH,
    )
    model = transformers.CLIPModel(config)
    randomize(model.eval(), seed)
    return model


def write_tokenizer(folder: Path) -> None:
    vocabulary = {token: i for i, token in enumerate(VOCABULARY)}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)


def write_clip(folder: Path, seed=0, **fields) -> transformers.CLIPModel:
    """A folder as `save_pretrained` writes it, with tokenizer and image processor."""
    model = original(seed=seed, **fields)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    side = VISION["image_size"]
    processor(side).save_pretrained(folder)
    return model


def processor(side: int) -> transformers.BaseImageProcessor:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )


class Block(torch.nn.Module):
    """A block as OpenCLIP has it, by PyTorch's own attention."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attn = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        layers = {"c_fc": torch.nn.Linear(width, hidden), "gelu": torch.nn.GELU()}
        layers["c_proj"] = torch.nn.Linear(hidden, width)
        self.mlp = torch.nn.Sequential()
        for name, layer in layers.items():
            self.mlp.add_module(name, layer)

    def forward(self, x, mask=None):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Stack(torch.nn.Module):
    def __init__(self, fields):
        super().__init__()
        sizes = ("hidden_size", "num_attention_heads", "intermediate_size")
        blocks = [Block(*(fields[n] for n in sizes)) for _ in range(fields["num_hidden_layers"])]
        self.resblocks = torch.nn.ModuleList(blocks)

    def forward(self, x, mask=None):
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        width, patch = VISION["hidden_size"], VISION["patch_size"]
        tokens = 1 + (VISION["image_size"] // patch) ** 2
        self.conv1 = torch.nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = torch.nn.Parameter(torch.zeros(width))
        self.positional_embedding = torch.nn.Parameter(torch.zeros(tokens, width))
        self.ln_pre, self.ln_post = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.transformer = Stack(VISION)
        self.proj = torch.nn.Parameter(torch.zeros(width, WIDTH))

    def forward(self, images):
        x = self.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj


class OpenClip(torch.nn.Module):
    """CLIP with the names of OpenCLIP."""

    def __init__(self):
        super().__init__()
        width, length = TEXT["hidden_size"], TEXT["max_position_embeddings"]
        self.visual, self.transformer = Visual(), Stack(TEXT)
        self.token_embedding = torch.nn.Embedding(TEXT["vocab_size"], width)
        self.positional_embedding = torch.nn.Parameter(torch.zeros(length, width))
        self.ln_final = torch.nn.LayerNorm(width)
        self.text_projection = torch.nn.Parameter(torch.zeros(width, WIDTH))
        self.logit_scale = torch.nn.Parameter(torch.tensor(1.5))

    def forward(self, images, tokens):
        length = tokens.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, mask))
        text = x[torch.arange(len(x)), tokens.argmax(-1)] @ self.text_projection
        image = self.visual(images)
        image, text = (x / x.norm(dim=-1, keepdim=True) for x in (image, text))
        return self.logit_scale.exp() * image @ text.T


OPEN_CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "image_size": VISION["image_size"],
            "layers": VISION["num_hidden_layers"],
            "width": VISION["hidden_size"],
            "head_width": VISION["hidden_size"] // VISION["num_attention_heads"],
            "patch_size": VISION["patch_size"],
            "mlp_ratio": VISION["intermediate_size"] / VISION["hidden_size"],
        },
        "text_cfg": {
            "context_length": TEXT["max_position_embeddings"],
            "vocab_size": TEXT["vocab_size"],
            "width": TEXT["hidden_size"],
            "heads": TEXT["num_attention_heads"],
            "layers": TEXT["num_hidden_layers"],
            "mlp_ratio": TEXT["intermediate_size"] / TEXT["hidden_size"],
        },
    },
    "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073]},
}


def write_open_clip(folder: Path, **more: np.ndarray) -> OpenClip:
    """A folder as OpenCLIP publishes it, with a tokenizer; `more` are further tensors."""
    torch.manual_seed(0)
    model = OpenClip().eval()
    randomize(model)
    write_tensors(folder, {**state_dict(model), **more}, stem="open_clip_model")
    (folder / "open_clip_config.json").write_text(json.dumps(OPEN_CLIP_CONFIG))
    write_tokenizer(folder)
    return model
