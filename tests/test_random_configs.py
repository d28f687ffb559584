"""Logits of random configs of every family are those of torch, live."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgfo import load_model
from jaxgfo.models.families import FAMILIES

SEEDS = range(45)
KINDS = ["full_attention", "sliding_attention"]
ACTIVATIONS = ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "quick_gelu", "mish"]


class Draw:
    """Choices from one seed."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def one(self, *options):
        return options[self.rng.integers(len(options))]

    def coin(self):
        return self.one(True, False)

    def number(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def real(self, low, high):
        return float(self.rng.uniform(low, high))

    def list(self, length, *options):
        return [self.one(*options) for _ in range(length)]


ROPES = ["default", "linear", "dynamic", "llama3", "yarn", "longrope"]


def rope(draw, dim, share=1.0, kinds=ROPES):
    """Any kind of rotary embedding, stretched from 16 positions, of `dim` coordinates."""
    kind = draw.one(*kinds)
    if kind == "dynamic" and dim == 2:
        kind = "default"  # a power of dim / (dim - 2)
    given = {"rope_type": kind, "rope_theta": draw.one(100.0, 1e4, 1e6)}
    if share != 1.0:
        given["partial_rotary_factor"] = share
    if kind != "default":
        given["factor"] = draw.real(1.5, 8)
    if kind in ("llama3", "yarn", "longrope"):
        given["original_max_position_embeddings"] = 16
    if kind == "llama3":
        given |= {"low_freq_factor": draw.real(0.5, 1.5), "high_freq_factor": draw.real(2, 6)}
    if kind in ("yarn", "longrope") and draw.coin():
        given["attention_factor"] = draw.real(0.8, 1.3)
    if kind == "yarn" and draw.coin():
        given |= {"beta_fast": draw.real(8, 40), "beta_slow": draw.real(0.5, 2)}
    if kind == "yarn" and draw.coin():
        given |= {"mscale": draw.real(0.5, 2), "mscale_all_dim": draw.real(0.5, 2)}
    if kind == "yarn" and draw.coin():
        given["truncate"] = draw.coin()
    if kind == "longrope":
        for name in ("short_factor", "long_factor"):
            given[name] = [draw.real(1, 6) for _ in range(dim // 2)]
    return given


def old_family(draw, family):
    """GPT-2, GPT-Neo, GPT-NeoX and OPT."""
    heads, layers = draw.number(1, 4), draw.number(1, 4)
    size = heads * draw.one(2, 4, 6, 8)
    config = {"tie_word_embeddings": draw.coin()}
    activation = {"activation_function": draw.one(*ACTIVATIONS)}
    epsilon = {"layer_norm_epsilon": draw.one(1e-6, 1e-5, 1e-2)}
    wide = draw.number(3, 40)
    if family == "gpt2":
        config |= {"n_embd": size, "n_layer": layers, "n_head": heads, "n_positions": 64}
        config |= {"n_inner": draw.one(None, wide), "scale_attn_weights": draw.coin()}
        return config | activation | epsilon | {"scale_attn_by_inverse_layer_idx": draw.coin()}
    config |= {"hidden_size": size, "max_position_embeddings": 64}
    if family == "gpt_neo":
        pattern = draw.list(draw.number(1, 2), "global", "local")
        config |= {"attention_types": [[pattern, layers]], "window_size": draw.number(1, 20)}
        config |= {"num_layers": layers * len(pattern), "num_heads": heads}
        return config | activation | epsilon | {"intermediate_size": draw.one(None, wide)}
    config |= {"num_hidden_layers": layers, "num_attention_heads": heads}
    if family == "opt":
        config |= {"ffn_dim": wide, "word_embed_proj_dim": draw.one(size, 10)}
        config |= {"do_layer_norm_before": draw.coin(), "enable_bias": draw.coin()}
        return config | activation | {"layer_norm_elementwise_affine": draw.coin()}
    head_dim, share = size // heads, draw.one(0.25, 0.5, 1.0)
    share = share if head_dim * share % 2 == 0 else 1.0
    config |= {"intermediate_size": wide, "hidden_act": draw.one(*ACTIVATIONS)}
    config |= {"use_parallel_residual": draw.coin(), "attention_bias": draw.coin()}
    config |= {"layer_norm_eps": epsilon["layer_norm_epsilon"]}
    return config | {"rope_parameters": rope(draw, int(head_dim * share), share)}


def new_family(draw, family):
    """Llama and its relatives."""
    groups, layers, head_dim = draw.number(1, 3), draw.number(1, 4), draw.one(2, 4, 6, 8)
    heads = groups * draw.number(1, 3)
    own_width = family not in ("phi3", "olmo2")  # heads may be of any width
    kinds, window = draw.list(layers, *KINDS), draw.number(1, 20)
    config = {
        "hidden_size": heads * (draw.number(7 // heads + 1, 9) if own_width else head_dim),
        "intermediate_size": draw.number(3, 40),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": 16,
        "rms_norm_eps": draw.one(1e-6, 1e-5, 1e-2),
        "tie_word_embeddings": draw.coin(),
        "hidden_act": draw.one(*ACTIVATIONS),
        "rope_parameters": rope(draw, head_dim),
    }
    if own_width:
        config["head_dim"] = head_dim
    if family not in ("mistral", "phi3", "qwen2"):
        config["attention_bias"] = draw.coin()
    if family in ("llama", "smollm3"):
        config["mlp_bias"] = draw.coin()
    if family in ("mistral", "phi3"):
        config["sliding_window"] = draw.one(None, window)
    if family == "phi3":
        share = draw.one(0.5, 1.0) if head_dim % 4 == 0 else 1.0
        config["rope_parameters"] = rope(
            draw, int(head_dim * share), share, ["default", "longrope"]
        )
        config["original_max_position_embeddings"] = 16
    if family in ("qwen2", "qwen3", "smollm3"):
        config |= {"use_sliding_window": True, "sliding_window": window, "layer_types": kinds}
    if family == "smollm3":
        config["no_rope_layers"] = draw.list(layers, 0, 1)
    if family.startswith("gemma") and family != "gemma":
        config["hidden_activation"] = config.pop("hidden_act")
        config |= {"sliding_window": window, "layer_types": kinds}
        config |= {"query_pre_attn_scalar": draw.number(1, 16)}
        config |= {"final_logit_softcapping": draw.one(None, draw.real(0.5, 3))}
    if family == "gemma2":
        config["attn_logit_softcapping"] = draw.one(None, draw.real(0.5, 3))
    if family == "gemma3_text":
        config["rope_parameters"] = {kind: rope(draw, head_dim) for kind in KINDS}
    return config


def sample(seed):
    """A family and settings of its config; every family comes up every 14 seeds."""
    draw, family = Draw(seed), list(FAMILIES)[seed % len(FAMILIES)]
    make = old_family if family in ("gpt2", "gpt_neo", "gpt_neox", "opt") else new_family
    special = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return family, special | {"vocab_size": draw.number(5, 70)} | make(draw, family)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed {seed}")
def test_logits_of_a_random_config_are_those_of_torch(seed, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    family, settings = sample(seed)
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[family](**settings)
    theirs = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    shape = (2, int(np.random.default_rng(seed).integers(1, 41)))
    tokens = np.random.default_rng(seed).integers(0, config.vocab_size, shape)
    for scale in (0.3, 0.2, 0.15, 0.1, 0.05):
        with torch.no_grad():
            for name, parameter in theirs.named_parameters():
                norm = name.endswith(".weight") and parameter.ndim == 1
                parameter.normal_(float(norm), scale)
            expected = theirs(torch.tensor(tokens)).logits.numpy()
            exact = copy.deepcopy(theirs).double()(torch.tensor(tokens)).logits.numpy()
        # Smaller weights where logits are so large that 1e-4 is within the noise of fp32.
        if np.abs(expected - exact).max() < 1.5e-5:
            break
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    with jax.default_matmul_precision("highest"):
        logits = jax.jit(ours.apply)(ours.params, jnp.asarray(tokens, jnp.int32))
    np.testing.assert_allclose(np.asarray(logits), expected, rtol=0, atol=1e-4, err_msg=f"{config}")
