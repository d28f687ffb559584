"""GPT-Neo (Black et al., 2021): GPT-2 with windows on every other layer and unscaled scores."""

from ..config import DecoderConfig
from ..settings import Settings
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `GPTNeoConfig`."""
    c.turned("attention_types")
    window = {"global": None, "local": c.window_size}
    if other := sorted(set(c.attention_layers) - set(window)):
        raise ValueError(
            f"config.json: attention_layers has {', '.join(other)}; supported: {', '.join(window)}"
        )
    return DecoderConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_layers=c.num_layers,
        num_heads=c.num_heads,
        num_groups=c.num_heads,
        head_dim=c.hidden_size // c.num_heads,
        mlp_size=c.intermediate_size or 4 * c.hidden_size,
        max_length=c.max_position_embeddings,
        activation=c.activation("activation_function"),
        gated=False,
        norm="layer",
        norm_epsilon=c.layer_norm_epsilon,
        out_bias=True,
        mlp_bias=True,
        scale=1.0,
        tied=c.tie_word_embeddings,
        positions=c.max_position_embeddings,
        windows=tuple(window[kind] for kind in c.attention_layers),
    )


NAMES = {
    "embed": "transformer.wte",
    "positions": "transformer.wpe",
    "layers.*.attention_norm": "transformer.h.*.ln_1",
    "layers.*.attention.query": "transformer.h.*.attn.attention.q_proj",
    "layers.*.attention.key": "transformer.h.*.attn.attention.k_proj",
    "layers.*.attention.value": "transformer.h.*.attn.attention.v_proj",
    "layers.*.attention.out": "transformer.h.*.attn.attention.out_proj",
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
    buffers=r".*\.attn\.attention\.(masked_)?bias",
)
