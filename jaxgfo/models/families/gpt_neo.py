"""GPT-Neo (Black et al., 2021): GPT-2 with windows on every other layer and unscaled scores."""

from ..config import DecoderConfig
from ..settings import Settings
from . import gpt2
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


PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
OWN = {
    f"layers.*.attention.{ours}": f"transformer.h.*.attn.attention.{theirs}"
    for ours, theirs in PROJECTIONS.items()
}
NAMES = {ours: name for ours, name in gpt2.NAMES.items() if "attention." not in ours} | OWN
FAMILY = Family(
    describe=describe,
    names=NAMES,
    prefix="transformer.",
    buffers=r".*\.attn\.attention\.(masked_)?bias",
)
