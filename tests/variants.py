"""Tiny configs of every family: between them, every feature that a decoder may have."""

LENGTH = 48  # of the rows that variants are made for: windows and limits are shorter than this

LLAMA = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,  # not hidden / heads
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
WIDE = LLAMA | {"num_attention_heads": 2}  # for families without head_dim: heads of 8
del WIDE["head_dim"]
NEOX = {key: value for key, value in WIDE.items() if key != "num_key_value_heads"}
GPT = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_layers": 4,
    "num_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BASES = {
    "gpt2": {
        "vocab_size": 61,
        "n_embd": 16,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "llama": LLAMA,
    "mistral": LLAMA | {"sliding_window": 5},
    "qwen2": LLAMA | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": LLAMA,
    "gemma": LLAMA,
    "gemma2": LLAMA
    | {
        "sliding_window": 5,
        "query_pre_attn_scalar": 2,
        "attn_logit_softcapping": 1.0,
        "final_logit_softcapping": 2.0,
    },
    "gemma3_text": LLAMA
    | {
        "num_hidden_layers": 4,
        "sliding_window": 5,
        "query_pre_attn_scalar": 2,
        "sliding_window_pattern": 2,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
        },
    },
    "gpt_neox": NEOX | {"rotary_pct": 0.5, "use_parallel_residual": True},
    "gpt_neo": GPT | {"window_size": 5, "attention_types": [[["global", "local"], 2]]},
    "opt": {
        "vocab_size": 61,
        "hidden_size": 16,
        "ffn_dim": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 16,
    },
    "phi3": WIDE,
    "olmo2": WIDE,
    "smollm3": WIDE | {"no_rope_layer_interval": 2, "tie_word_embeddings": False},
}


def rope(kind, **settings):
    """The change of a config that gives it this rotary embedding."""
    return {
        "head_dim": 8,
        "rope_parameters": {"rope_type": kind, "rope_theta": 100.0} | settings,
    }


def longrope(limit, **settings):
    """The same for Phi-3, with other frequencies beyond `limit` tokens."""
    stretch = {"short_factor": [1.0, 1.2, 1.5, 2.0], "long_factor": [1.5, 2.0, 3.0, 5.0]}
    given = {"rope_type": "longrope", "rope_theta": 100.0} | stretch | settings
    return {
        "max_position_embeddings": 4 * limit,
        "original_max_position_embeddings": limit,
        "rope_parameters": given,
    }


FULL, SLIDING = "full_attention", "sliding_attention"
YARN = {"factor": 4.0, "original_max_position_embeddings": 32}
OPT_350M = {"word_embed_proj_dim": 8, "do_layer_norm_before": False}

CHANGES = {  # variant -> family, and what is not as in its base
    "gpt2 unscaled": ("gpt2", {"scale_attn_weights": False}),
    "gpt2 by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2 sizes": (
        "gpt2",
        {"n_inner": 24, "activation_function": "gelu", "tie_word_embeddings": False},
    ),
    "gpt2 epsilon": ("gpt2", {"layer_norm_epsilon": 0.3, "activation_function": "relu"}),
    "gpt2 fp16": ("gpt2", {"dtype": "float16", "activation_function": "gelu_python"}),
    "llama tied": ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama multi-query": ("llama", {"num_key_value_heads": 1, "hidden_act": "swish"}),
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True, "hidden_act": "sigmoid"}),
    "llama epsilon": ("llama", {"rms_norm_eps": 0.3, "hidden_act": "linear"}),
    "llama bf16": ("llama", {"dtype": "bfloat16", "num_hidden_layers": 4}),
    "llama linear": ("llama", rope("linear", factor=3.0) | {"hidden_act": "relu6"}),
    "llama dynamic": (
        "llama",
        rope("dynamic", factor=2.0) | {"max_position_embeddings": 16, "hidden_act": "hardswish"},
    ),
    "llama yarn": ("llama", rope("yarn", **YARN) | {"hidden_act": "leaky_relu"}),
    "llama yarn factor": ("llama", rope("yarn", **YARN, attention_factor=1.5)),
    "llama yarn mscale": (
        "llama",
        rope("yarn", **YARN, mscale=2.0, mscale_all_dim=0.5, beta_fast=1, beta_slow=0.25),
    ),
    "llama yarn exact": ("llama", rope("yarn", **YARN, truncate=False)),
    "llama llama3": (
        "llama",
        rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        )
        | {"hidden_act": "mish"},
    ),
    "mistral full": (
        "mistral",
        {"sliding_window": None, "num_key_value_heads": 1, "hidden_act": "tanh"},
    ),
    "qwen2 full": ("qwen2", {"use_sliding_window": False, "tie_word_embeddings": True}),
    "qwen2 layer types": (
        "qwen2",
        {
            "num_hidden_layers": 4,
            "layer_types": [SLIDING, FULL, SLIDING, SLIDING],
            "sliding_window": 7,
            "hidden_act": "quick_gelu",
        },
    ),
    "qwen3 biases": ("qwen3", {"attention_bias": True, "hidden_act": "gelu_accurate"}),
    "qwen3 layer types": (
        "qwen3",
        {
            "num_hidden_layers": 4,
            "use_sliding_window": True,
            "sliding_window": 6,
            "layer_types": [FULL, SLIDING, SLIDING, FULL],
        },
    ),
    "qwen3 yarn": ("qwen3", rope("yarn", **YARN) | {"tie_word_embeddings": True}),
    "gemma untied": (
        "gemma",
        {"tie_word_embeddings": False, "num_key_value_heads": 1, "hidden_act": "gelu_fast"},
    ),
    "gemma biases": ("gemma", {"attention_bias": True, "rms_norm_eps": 0.3}),
    "gemma bf16": ("gemma", {"dtype": "bfloat16", "hidden_act": "gelu_python_tanh"}),
    "gemma2 plain": (
        "gemma2",
        {
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "attention_bias": True,
            "tie_word_embeddings": False,
            "layer_types": [FULL, FULL, SLIDING],
            "hidden_activation": "gelu_10",
        },
    ),
    "gemma3 capped": (
        "gemma3_text",
        {
            "attention_bias": True,
            "final_logit_softcapping": 2.0,
            "layer_types": [SLIDING, SLIDING, FULL, SLIDING],
            "num_key_value_heads": 1,
        },
    ),
    "gemma3 stretched": (
        "gemma3_text",
        {
            "head_dim": 8,
            "rope_parameters": {
                FULL: {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0},
                SLIDING: {"rope_type": "default", "rope_theta": 20.0},
            },
        },
    ),
    "gpt_neox serial": ("gpt_neox", {"use_parallel_residual": False, "rotary_pct": 1.0}),
    "gpt_neox no bias": (
        "gpt_neox",
        {"attention_bias": False, "tie_word_embeddings": True, "hidden_act": "relu2"},
    ),
    "gpt_neox quarter": ("gpt_neox", {"rotary_pct": 0.25, "layer_norm_eps": 0.3}),
    "gpt_neox dynamic": (
        "gpt_neox",
        {
            "max_position_embeddings": 16,
            "rope_parameters": {
                "rope_type": "dynamic",
                "rope_theta": 100.0,
                "factor": 2.0,
                "partial_rotary_factor": 0.5,
            },
        },
    ),
    "gpt_neo uneven": (
        "gpt_neo",
        {
            "num_layers": 4,
            "attention_types": [[["global"], 1], [["local"], 2], [["global"], 1]],
            "intermediate_size": 24,
            "activation_function": "gelu_pytorch_tanh",
            "tie_word_embeddings": False,
            "layer_norm_epsilon": 0.3,
        },
    ),
    "opt 350m": ("opt", OPT_350M),
    "opt 350m untied": ("opt", OPT_350M | {"tie_word_embeddings": False}),
    "opt sum": ("opt", {"do_layer_norm_before": False, "activation_function": "silu"}),
    "opt no final norm": ("opt", {"_remove_final_layer_norm": True}),
    "opt narrow": ("opt", {"word_embed_proj_dim": 8}),
    "opt plain norms": (
        "opt",
        {"layer_norm_elementwise_affine": False, "activation_function": "gelu"},
    ),
    "opt no bias": ("opt", {"enable_bias": False}),
    "phi3 window": ("phi3", {"sliding_window": 7, "num_key_value_heads": 1}),
    "phi3 partial": ("phi3", {"partial_rotary_factor": 0.5, "tie_word_embeddings": True}),
    "phi3 long": ("phi3", longrope(32)),
    "phi3 short": ("phi3", longrope(64)),
    "phi3 long factor": ("phi3", longrope(32, attention_factor=1.5)),
    "phi3 long partial": (
        "phi3",
        longrope(32, partial_rotary_factor=0.5, short_factor=[1.0, 1.5], long_factor=[2.0, 4.0]),
    ),
    "olmo2 biases": ("olmo2", {"attention_bias": True, "tie_word_embeddings": True}),
    "olmo2 epsilon": ("olmo2", {"rms_norm_eps": 0.3, "num_key_value_heads": 1}),
    "smollm3 window": (
        "smollm3",
        {"use_sliding_window": True, "sliding_window": 5, "tie_word_embeddings": True},
    ),
    "smollm3 uneven": (
        "smollm3",
        {
            "num_hidden_layers": 4,
            "no_rope_layers": [0, 1, 1, 0],
            "layer_types": [SLIDING, SLIDING, FULL, FULL],
            "use_sliding_window": False,  # of no account where layer_types are given
            "sliding_window": 6,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
}
# Variant -> content of its config.json, as far as it is not what the family has anyway.
VARIANTS = {family: {"model_type": family} | base for family, base in BASES.items()} | {
    name: {"model_type": family} | BASES[family] | changes
    for name, (family, changes) in CHANGES.items()
}
COMMITTED = [  # those whose logits, as torch computed them, are in tests/references
    *BASES,
    "gpt2 by layer",
    "gpt2 fp16",
    "llama biases",
    "llama bf16",
    "llama linear",
    "llama dynamic",
    "llama yarn",
    "llama llama3",
    "gpt_neox serial",
    "opt 350m",
    "phi3 long",
    "phi3 short",
    "smollm3 uneven",
]
