"""Qwen3 (Yang et al., 2025, arXiv:2505.09388): Llama with norms on every query and key."""

from ..config import DecoderConfig
from ..settings import Settings
from . import llama
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `Qwen3Config`."""
    c.turned("use_sliding_window", "max_window_layers")
    return DecoderConfig(
        **llama.common(c),
        windows=llama.windows(c, c.layer_types, c.sliding_window),
        qkv_bias=c.attention_bias,
        out_bias=c.attention_bias,
        query_key_norm="head",
    )


NAMES = llama.NAMES | {
    "layers.*.attention.query_norm": "model.layers.*.self_attn.q_norm",
    "layers.*.attention.key_norm": "model.layers.*.self_attn.k_norm",
}
FAMILY = Family(describe=describe, names=NAMES, prefix="model.")
