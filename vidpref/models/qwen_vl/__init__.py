"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: vision-language models as one network with switches."""
