"""Gemma 2 (Gemma Team, 2024, arXiv:2408.00118): norms around both branches, caps, windows."""

from typing import Any

from ..config import DecoderConfig
from ..settings import Settings
from . import gemma, llama
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `Gemma2Config`."""
    return DecoderConfig(**common(c))


def common(c: Settings) -> dict[str, Any]:
    """What Gemma 2 and 3 have in common."""
    return gemma.common(c, "hidden_activation") | {
        "norm_place": "both",
        "scale": c.query_pre_attn_scalar**-0.5,
        "attention_cap": c.attn_logit_softcapping,
        "logit_cap": c.final_logit_softcapping,
        "windows": llama.windows(c, c.layer_types, c.sliding_window),
    }


NAMES = llama.NAMES | {
    "layers.*.attention_out_norm": "model.layers.*.post_attention_layernorm",
    "layers.*.mlp_norm": "model.layers.*.pre_feedforward_layernorm",
    "layers.*.mlp_out_norm": "model.layers.*.post_feedforward_layernorm",
}
FAMILY = Family(describe=describe, names=NAMES, prefix="model.")
