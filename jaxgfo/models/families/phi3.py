"""Phi-3 (Abdin et al., 2024, arXiv:2404.14219): Llama with fused projections."""

from ..config import DecoderConfig
from ..settings import Settings
from . import llama
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `Phi3Config`."""
    common = llama.common(c, partial=True)
    (rope,) = common["ropes"]
    return DecoderConfig(
        **common,
        windows=(c.sliding_window,) * c.num_hidden_layers,
        renewal=rope.limit if rope.long else None,
    )


NAMES = {
    "embed": "model.embed_tokens",
    "layers.*.attention_norm": "model.layers.*.input_layernorm",
    "layers.*.attention.{query,key,value}": "model.layers.*.self_attn.qkv_proj",
    "layers.*.attention.out": "model.layers.*.self_attn.o_proj",
    "layers.*.mlp_norm": "model.layers.*.post_attention_layernorm",
    "layers.*.mlp.{gate,up}": "model.layers.*.mlp.gate_up_proj",
    "layers.*.mlp.down": "model.layers.*.mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}
FAMILY = Family(describe=describe, names=NAMES, prefix="model.")
