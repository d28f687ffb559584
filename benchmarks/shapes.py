"""Random models by the size of their shapes."""

from typing import Any


def _llama(vocab: int, hidden: int, inner: int, layers: int, heads: int, **more: Any) -> Any:
    return {
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        **more,
    }


def _qwen(hidden: int, inner: int, layers: int, heads: int) -> Any:
    shape = _llama(151936, hidden, inner, layers, heads, num_key_value_heads=2)
    return {**shape, "model_type": "qwen2"}


# The last three have the shapes of Qwen2.5-0.5B, Qwen2.5-1.5B and Llama 2 7B.
SHAPES = {
    "4M": _llama(2048, 256, 688, 4, 8),
    "25M": _llama(8192, 512, 1376, 6, 8),
    "110M": _llama(32000, 768, 2048, 12, 12),
    "0.5B": _qwen(896, 4864, 24, 14),
    "1.5B": _qwen(1536, 8960, 28, 12),
    "7B": _llama(32000, 4096, 11008, 32, 32, tie_word_embeddings=False),
}
