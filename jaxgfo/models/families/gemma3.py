"""Gemma 3, text (Gemma Team, 2025, arXiv:2503.19786): two rotary bases, norms on q and k."""

from ..config import DecoderConfig
from ..rope import from_parameters
from ..settings import Settings
from . import gemma2, llama
from .family import Family

KINDS = ("full_attention", "sliding_attention")  # each with a rotary base of its own


def describe(c: Settings) -> DecoderConfig:
    """A `Gemma3TextConfig`."""
    c.refuse(attn_logit_softcapping="transformers' Gemma 3 does not apply it")
    c.turned("rope_local_base_freq", "sliding_window_pattern")
    longest, head_dim = c.max_position_embeddings, llama.head_dim_of(c)
    ropes = tuple(from_parameters(c.rope_parameters[kind], head_dim, longest) for kind in KINDS)
    own = {"query_key_norm": "head", "ropes": ropes}
    layer_ropes = tuple(KINDS.index(kind) for kind in c.layer_types)
    return DecoderConfig(**gemma2.common(c) | own, layer_ropes=layer_ropes)


NAMES = gemma2.NAMES | {
    "layers.*.attention.query_norm": "model.layers.*.self_attn.q_norm",
    "layers.*.attention.key_norm": "model.layers.*.self_attn.k_norm",
}
FAMILY = Family(describe=describe, names=NAMES, prefix="model.")
