"""SmolLM3 (Hugging Face, 2025): Llama with layers that have no rotary positions."""

from ..config import DecoderConfig
from ..settings import Settings
from . import llama
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `SmolLM3Config`."""
    c.turned("no_rope_layer_interval", "use_sliding_window")
    return DecoderConfig(
        **llama.common(c),
        windows=llama.windows(c, c.layer_types, c.sliding_window),
        layer_ropes=tuple(0 if rotated else None for rotated in c.no_rope_layers),
        qkv_bias=c.attention_bias,
        out_bias=c.attention_bias,
        mlp_bias=c.mlp_bias,
    )


FAMILY = Family(describe=describe, names=llama.NAMES, prefix="model.")
