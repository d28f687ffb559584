"""GPT-2 (Radford et al., 2019): learnt positions, layer norm, biases everywhere."""

from ..config import DecoderConfig
from ..settings import Settings
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `GPT2Config`."""
    c.turned("n_ctx")
    c.only(add_cross_attention=(False,))
    head_dim = c.n_embd // c.n_head
    by_layer = tuple(1 / (i + 1) for i in range(c.n_layer))
    return DecoderConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.n_embd,
        num_layers=c.n_layer,
        num_heads=c.n_head,
        num_groups=c.n_head,
        head_dim=head_dim,
        mlp_size=c.n_inner or 4 * c.n_embd,
        max_length=c.n_positions,
        activation=c.activation("activation_function"),
        gated=False,
        norm="layer",
        norm_epsilon=c.layer_norm_epsilon,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        scale=head_dim**-0.5 if c.scale_attn_weights else 1.0,
        layer_scales=by_layer if c.scale_attn_by_inverse_layer_idx else (),
        tied=c.tie_word_embeddings,
        positions=c.n_positions,
    )


NAMES = {
    "embed": "transformer.wte",
    "positions": "transformer.wpe",
    "layers.*.attention_norm": "transformer.h.*.ln_1",
    "layers.*.attention.{query,key,value}": "transformer.h.*.attn.c_attn",
    "layers.*.attention.out": "transformer.h.*.attn.c_proj",
    "layers.*.mlp_norm": "transformer.h.*.ln_2",
    "layers.*.mlp.up": "transformer.h.*.mlp.c_fc",
    "layers.*.mlp.down": "transformer.h.*.mlp.c_proj",
    "norm": "transformer.ln_f",
    "head": "lm_head",
}
FAMILY = Family(
    describe=describe,
    names=NAMES,
    prefix="transformer.",
    stored="in,out",
    buffers=r".*\.attn\.(masked_)?bias",
)
