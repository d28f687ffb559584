"""Gemma (Gemma Team, 2024, arXiv:2403.08295): Llama with (1 + w) norms and scaled embeddings."""

from typing import Any

from ..config import DecoderConfig
from ..settings import Settings
from . import llama
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `GemmaConfig`."""
    return DecoderConfig(**common(c))


def common(c: Settings, activation: str = "hidden_act") -> dict[str, Any]:
    """What the three Gemmas have in common."""
    c.only(use_bidirectional_attention=(None, False))
    return llama.common(c, activation) | {
        "qkv_bias": c.attention_bias,
        "out_bias": c.attention_bias,
        "norm_offset": 1,
        "embed_scale": c.hidden_size**0.5,
    }


FAMILY = Family(describe=describe, names=llama.NAMES, prefix="model.")
