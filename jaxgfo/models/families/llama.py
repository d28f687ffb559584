"""Llama (Touvron et al., 2023, arXiv:2302.13971) 1 to 3.2, and all that shares its code."""

from typing import Any

from ..config import DecoderConfig
from ..rope import from_parameters
from ..settings import Settings
from .family import Family

# Old spellings of what is in rope_parameters.
ROPE = "rope_theta rope_scaling partial_rotary_factor original_max_position_embeddings".split()


def describe(c: Settings) -> DecoderConfig:
    """A `LlamaConfig`."""
    return DecoderConfig(
        **common(c),
        qkv_bias=c.attention_bias,
        out_bias=c.attention_bias,
        mlp_bias=c.mlp_bias,
    )


def common(c: Settings, activation: str = "hidden_act", *, partial: bool = False) -> dict[str, Any]:
    """What Llama's relatives have in common: RMS norm, a gated MLP, and rotary positions (where
    the config has one kind of them; `partial`: of a part of a head, if it says so).
    """
    head_dim, rope = head_dim_of(c), c.rope_parameters
    c.turned(*ROPE)
    nested = any(isinstance(value, dict) for value in rope.values())
    longest = c.max_position_embeddings
    ropes = () if nested else (from_parameters(rope, head_dim, longest, partial=partial),)
    return {
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "num_layers": c.num_hidden_layers,
        "num_heads": c.num_attention_heads,
        "num_groups": c.num_key_value_heads,
        "head_dim": head_dim,
        "mlp_size": c.intermediate_size,
        "max_length": longest,
        "activation": c.activation(activation),
        "norm_epsilon": c.rms_norm_eps,
        "scale": head_dim**-0.5,
        "tied": c.tie_word_embeddings,
        "ropes": ropes,
    }


def head_dim_of(c: Settings) -> int:
    """Width of a head; where it is not said, that of the residual stream's equal parts."""
    return c.get("head_dim") or c.hidden_size // c.num_attention_heads


def windows(c: Settings, layer_types: list[str], window: int | None) -> tuple[int | None, ...]:
    """For each layer the window that its type gives it."""
    sizes = {"full_attention": None, "sliding_attention": window}
    if other := sorted(set(layer_types) - set(sizes)):
        raise ValueError(
            f"config.json: layer_types has {', '.join(other)}; supported: {', '.join(sizes)}"
        )
    return tuple(sizes[kind] for kind in layer_types)


NAMES = {
    "embed": "model.embed_tokens",
    "layers.*.attention_norm": "model.layers.*.input_layernorm",
    "layers.*.attention.query": "model.layers.*.self_attn.q_proj",
    "layers.*.attention.key": "model.layers.*.self_attn.k_proj",
    "layers.*.attention.value": "model.layers.*.self_attn.v_proj",
    "layers.*.attention.out": "model.layers.*.self_attn.o_proj",
    "layers.*.mlp_norm": "model.layers.*.post_attention_layernorm",
    "layers.*.mlp.gate": "model.layers.*.mlp.gate_proj",
    "layers.*.mlp.up": "model.layers.*.mlp.up_proj",
    "layers.*.mlp.down": "model.layers.*.mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}
FAMILY = Family(describe=describe, names=NAMES, prefix="model.")
