"""GPT-NeoX (Black et al., 2022, arXiv:2204.06745) and Pythia: parallel branches, part rotated."""

from ..config import DecoderConfig
from ..rope import from_parameters
from ..settings import Settings
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `GPTNeoXConfig`."""
    c.turned("rotary_pct", "rotary_emb_base", "rope_theta", "rope_scaling")
    head_dim = c.hidden_size // c.num_attention_heads
    rope = from_parameters(c.rope_parameters, head_dim, c.max_position_embeddings, partial=True)
    return DecoderConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_layers=c.num_hidden_layers,
        num_heads=c.num_attention_heads,
        num_groups=c.num_attention_heads,
        head_dim=head_dim,
        mlp_size=c.intermediate_size,
        max_length=c.max_position_embeddings,
        activation=c.activation("hidden_act"),
        gated=False,
        norm="layer",
        norm_epsilon=c.layer_norm_eps,
        parallel=c.use_parallel_residual,
        qkv_bias=c.attention_bias,
        out_bias=c.attention_bias,
        mlp_bias=True,
        scale=head_dim**-0.5,
        tied=c.tie_word_embeddings,
        ropes=(rope,),
    )


NAMES = {
    "embed": "gpt_neox.embed_in",
    "layers.*.attention_norm": "gpt_neox.layers.*.input_layernorm",
    "layers.*.attention.{query,key,value}": "gpt_neox.layers.*.attention.query_key_value",
    "layers.*.attention.out": "gpt_neox.layers.*.attention.dense",
    "layers.*.mlp_norm": "gpt_neox.layers.*.post_attention_layernorm",
    "layers.*.mlp.up": "gpt_neox.layers.*.mlp.dense_h_to_4h",
    "layers.*.mlp.down": "gpt_neox.layers.*.mlp.dense_4h_to_h",
    "norm": "gpt_neox.final_layer_norm",
    "head": "embed_out",
}
FAMILY = Family(
    describe=describe,
    names=NAMES,
    prefix="gpt_neox.",
    by_head=True,
    buffers=r".*\.attention\.((masked_)?bias|rotary_emb\.inv_freq)",
)
