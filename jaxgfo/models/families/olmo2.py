"""OLMo 2 (OLMo Team, 2025, arXiv:2501.00656): Llama with norms on what the branches give."""

from ..config import DecoderConfig
from ..settings import Settings
from . import llama
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """An `Olmo2Config`."""
    return DecoderConfig(
        **llama.common(c),
        qkv_bias=c.attention_bias,
        out_bias=c.attention_bias,
        norm_place="after",
        query_key_norm="all",
    )


OWN = {
    "layers.*.attention.query_norm": "model.layers.*.self_attn.q_norm",
    "layers.*.attention.key_norm": "model.layers.*.self_attn.k_norm",
    "layers.*.attention_out_norm": "model.layers.*.post_attention_layernorm",
    "layers.*.mlp_out_norm": "model.layers.*.post_feedforward_layernorm",
}
BEFORE = ("layers.*.attention_norm", "layers.*.mlp_norm")  # Llama's, which OLMo 2 lacks
NAMES = {ours: name for ours, name in (llama.NAMES | OWN).items() if ours not in BEFORE}
FAMILY = Family(describe=describe, names=NAMES, prefix="model.")
