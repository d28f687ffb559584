"""Qwen2 and Qwen2.5 (Yang et al., 2024, arXiv:2407.10671): Llama with biases on q, k and v."""

from ..config import DecoderConfig
from ..settings import Settings
from . import llama
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `Qwen2Config`."""
    c.turned("use_sliding_window", "max_window_layers")
    windows = llama.windows(c, c.layer_types, c.sliding_window)
    return DecoderConfig(**llama.common(c), windows=windows, qkv_bias=True)


FAMILY = Family(describe=describe, names=llama.NAMES, prefix="model.")
