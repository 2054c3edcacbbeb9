"""Attention: one function, the implementations behind it, and the layers that call it."""

from vidpref.models.attention.divided import attention_of_tokens, attention_to_whole
from vidpref.models.attention.dot_product import IMPLEMENTATIONS, dot_product_attention
from vidpref.models.attention.layers import CrossAttention, SelfAttention

__all__ = [
    "IMPLEMENTATIONS",
    "CrossAttention",
    "SelfAttention",
    "attention_of_tokens",
    "attention_to_whole",
    "dot_product_attention",
]
