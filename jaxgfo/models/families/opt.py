"""OPT (Zhang et al., 2022, arXiv:2205.01068), the 350M layout included."""

from ..config import DecoderConfig
from ..settings import Settings
from .family import Family

OFFSET = 2  # rows of the table of positions that stand before position 0


def describe(c: Settings) -> DecoderConfig:
    """An `OPTConfig`."""
    head_dim, before = c.hidden_size // c.num_attention_heads, c.do_layer_norm_before
    narrow = c.word_embed_proj_dim != c.hidden_size
    return DecoderConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_layers=c.num_hidden_layers,
        num_heads=c.num_attention_heads,
        num_groups=c.num_attention_heads,
        head_dim=head_dim,
        mlp_size=c.ffn_dim,
        max_length=c.max_position_embeddings,
        activation=c.activation("activation_function"),
        gated=False,
        norm="layer",
        norm_epsilon=1e-5,
        norm_affine=c.layer_norm_elementwise_affine,
        norm_place="before" if before else "sum",
        final_norm=before and not c.get("_remove_final_layer_norm"),
        qkv_bias=c.enable_bias,
        out_bias=c.enable_bias,
        mlp_bias=c.enable_bias,
        scale=head_dim**-0.5,
        embed_size=c.word_embed_proj_dim if narrow else None,
        tied=c.tie_word_embeddings,
        positions=c.max_position_embeddings + OFFSET,
        position_offset=OFFSET,
    )


NAMES = {
    "embed": "model.decoder.embed_tokens",
    "positions": "model.decoder.embed_positions",
    "project_in": "model.decoder.project_in",
    "project_out": "model.decoder.project_out",
    "layers.*.attention_norm": "model.decoder.layers.*.self_attn_layer_norm",
    "layers.*.attention.query": "model.decoder.layers.*.self_attn.q_proj",
    "layers.*.attention.key": "model.decoder.layers.*.self_attn.k_proj",
    "layers.*.attention.value": "model.decoder.layers.*.self_attn.v_proj",
    "layers.*.attention.out": "model.decoder.layers.*.self_attn.out_proj",
    "layers.*.mlp_norm": "model.decoder.layers.*.final_layer_norm",
    "layers.*.mlp.up": "model.decoder.layers.*.fc1",
    "layers.*.mlp.down": "model.decoder.layers.*.fc2",
    "norm": "model.decoder.final_layer_norm",
    "head": "lm_head",
}
FAMILY = Family(describe=describe, names=NAMES, prefix="model.")
