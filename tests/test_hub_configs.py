"""Configs as they are spelt on the hub, in old and new ways: read without a word, and right."""

import warnings

import pytest
from transformers import AutoConfig

from jaxgfo.models.model import build

SMALL = {"num_hidden_layers": 6, "vocab_size": 100}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
CONFIGS = {  # model_type, settings -> what they mean
    "gpt2": (
        {
            "vocab_size": 100,
            "n_ctx": 64,
            "n_positions": 64,
            "n_embd": 32,
            "n_head": 4,
            "n_layer": 6,
            "activation_function": "gelu_new",
            "task_specific_params": {"text-generation": {"do_sample": True}},
            "summary_type": "cls_index",
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
        {"positions": 64, "mlp_size": 128, "tied": True, "qkv_bias": True, "scale": 8**-0.5},
    ),
    "llama": (
        SIZES | {"num_key_value_heads": 2, "rope_theta": 5e5, "rope_scaling": LLAMA3},
        {"num_groups": 2, "head_dim": 16, "tied": False, "qkv_bias": False, "norm": "rms"},
    ),
    "gpt_neox": (
        SIZES | {"rotary_pct": 0.5, "rotary_emb_base": 10000, "use_parallel_residual": True},
        {"parallel": True, "tied": False, "gated": False, "activation": "gelu"},
    ),
    "gpt_neo": (
        {
            "vocab_size": 100,
            "hidden_size": 64,
            "num_heads": 4,
            "num_layers": 6,
            "attention_types": [[["global", "local"], 3]],
            "attention_layers": ["global", "local"] * 3,
            "window_size": 32,
            "gradient_checkpointing": False,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
        {"windows": (None, 32) * 3, "scale": 1.0, "mlp_size": 256},
    ),
    "opt": (
        {
            "hidden_size": 64,
            "ffn_dim": 96,
            "num_attention_heads": 4,
            "do_layer_norm_before": False,
            "word_embed_proj_dim": 32,
            "_remove_final_layer_norm": False,
            "activation_dropout": 0.0,
            "prefix": "</s>",
            "torch_dtype": "float16",
        },
        {"norm_place": "sum", "final_norm": False, "embed_size": 32, "position_offset": 2},
    ),
    "qwen2": (
        SIZES
        | {
            "num_key_value_heads": 2,
            "use_sliding_window": False,
            "sliding_window": 32,
            "max_window_layers": 4,
            "rope_theta": 1e6,
        },
        {"windows": (None,) * 6, "qkv_bias": True, "out_bias": False},
    ),
    "qwen2 with windows": (
        SIZES
        | {
            "num_key_value_heads": 2,
            "use_sliding_window": True,
            "sliding_window": 32,
            "max_window_layers": 4,
        },
        {"windows": (None, None, None, None, 32, 32)},
    ),
    "qwen3": (
        SIZES
        | {
            "num_key_value_heads": 2,
            "head_dim": 32,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": None,
            "use_sliding_window": False,
            "max_window_layers": 28,
        },
        {"head_dim": 32, "query_key_norm": "head", "windows": (None,) * 6},
    ),
    "gemma3_text": (
        SIZES
        | {
            "num_key_value_heads": 1,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "rope_local_base_freq": 10000,
            "rope_theta": 1000000,
            "sliding_window": 32,
            "sliding_window_pattern": 3,
            "cache_implementation": "hybrid",
            "pad_token_id": None,
        },
        {"layer_ropes": (1, 1, 0, 1, 1, 0), "windows": (32, 32, None) * 2, "embed_scale": 8.0},
    ),
    "phi3": (
        SIZES
        | {
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
            "rope_scaling": {
                "type": "longrope",
                "long_factor": [2.0] * 8,
                "short_factor": [1.0] * 8,
            },
            "rope_theta": 10000.0,
            "max_position_embeddings": 64,
            "original_max_position_embeddings": 32,
            "sliding_window": 48,
            "pad_token_id": None,
            "eos_token_id": 2,
        },
        {"windows": (48,) * 6, "tied": False},
    ),
    "mistral": (
        SIZES | {"num_key_value_heads": 2, "sliding_window": 48, "rope_theta": 10000.0},
        {"windows": (48,) * 6, "tied": False},
    ),
    "olmo2": (
        SIZES | {"rope_scaling": None, "rope_theta": 500000, "pad_token_id": None},
        {"norm_place": "after", "query_key_norm": "all"},
    ),
    "smollm3": (
        SIZES
        | {
            "num_key_value_heads": 2,
            "no_rope_layer_interval": 3,
            "no_rope_layers": [1, 1, 0, 1, 1, 0],
            "layer_types": ["full_attention"] * 6,
            "use_sliding_window": False,
            "sliding_window": None,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": None,
        },
        {"layer_ropes": (0, 0, None, 0, 0, None), "tied": True},
    ),
}
ROPES = {  # the first two frequencies of the rotary embeddings
    "llama": [(1.0, 5e5 ** (-1 / 8))],
    "gpt_neox": [(1.0, 1e4 ** (-1 / 4))],
    "qwen2": [(1.0, 1e6 ** (-1 / 8))],
    "gemma3_text": [(1.0, 1e6 ** (-1 / 8)), (1.0, 1e4 ** (-1 / 8))],
    "phi3": [(1.0, 1e4 ** (-1 / 8))],
    "smollm3": [(1.0, 2e6 ** (-1 / 8))],
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_of_the_hub_is_understood(name):
    settings, meaning = CONFIGS[name]
    kind = name.split()[0]
    common = {} if "vocab_size" in settings else SMALL
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = AutoConfig.for_model(kind, **common | settings)
        described = build(config)[2].config
    for attribute, value in meaning.items():
        assert getattr(described, attribute) == value, attribute
    for rope, frequencies in zip(described.ropes, ROPES.get(name, [])):
        assert rope.frequencies[:2] == pytest.approx(frequencies)
