"""The word table: embeds any word by signs drawn from its hash, without a vocabulary."""

import hashlib
import re

import torch
from torch import Tensor


def embed_words(
    prompts: list[str], length: int, dim: int, truncate: bool = False
) -> tuple[Tensor, Tensor]:
    """Embeddings [b, length, dim] of prompts, and the mask [b, length] of their words.

    A word is dim / 2 complex numbers with real and imaginary part +-1. At position p it becomes
    (word + 1) exp(i p theta), theta from 1 to 1 / length.
    """
    half = torch.arange(dim // 2, dtype=torch.float64) / max(dim // 2 - 1, 1)
    angles = torch.arange(length)[:, None] * float(length) ** -half
    turns = torch.polar(torch.ones_like(angles), angles)
    text = torch.zeros(len(prompts), length, dim)
    mask = torch.zeros(len(prompts), length, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        words = re.findall(r"\w+|[^\w\s]", prompt.lower())
        if not words:
            raise ValueError(f"the prompt {prompt!r} has no word")
        if len(words) > length and not truncate:
            raise ValueError(f"the prompt {prompt!r} has {len(words)} words, {length} are allowed")
        words = words[:length]
        turned = (torch.stack([embed_word(word, dim) for word in words]) + 1) * turns[: len(words)]
        text[row, : len(words)] = torch.cat([turned.real, turned.imag], dim=1) / 1.5**0.5
        mask[row, : len(words)] = True
    return text, mask


def embed_word(word: str, dim: int) -> Tensor:
    digest = hashlib.shake_256(word.encode()).digest((dim + 7) // 8)
    bits = [byte >> (7 - i) & 1 for byte in digest for i in range(8)][:dim]
    signs = 2.0 * torch.tensor(bits, dtype=torch.float64) - 1.0
    return torch.complex(signs[: dim // 2], signs[dim // 2 :])
