"""Tiny random Llama folders in Hugging Face layout, written without torch."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

from jaxgfo import embedded

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 512,  # as the tokenizer's
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,  # not hidden / heads
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": False,
    "max_position_embeddings": 64,
    "dtype": "float32",
}


def shapes_of(config):
    """Every tensor of the checkpoint: its shape by name."""
    c = config
    size, wide, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    heads, groups = (c[f"num_{k}_heads"] * c["head_dim"] for k in ("attention", "key_value"))
    shapes = {"model.embed_tokens.weight": (vocab, size), "model.norm.weight": (size,)}
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.{n}_layernorm.weight": (size,) for n in ("input", "post_attention")}
        rows = {"q": heads, "k": groups, "v": groups}
        shapes |= {f"{layer}.self_attn.{n}_proj.weight": (r, size) for n, r in rows.items()}
        shapes |= {f"{layer}.self_attn.o_proj.weight": (size, heads)}
        shapes |= {f"{layer}.mlp.{n}_proj.weight": (wide, size) for n in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (size, wide)}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, size)
    return shapes


def random_tensors(config=CONFIG, seed=0):
    """Every tensor of the checkpoint, all random, norm scales included."""
    rng, dtype, shapes = np.random.default_rng(seed), jnp.dtype(config["dtype"]), shapes_of(config)
    return {n: (0.3 * rng.normal(size=s) + (len(s) == 1)).astype(dtype) for n, s in shapes.items()}


def write(folder, tensors=None, tokenizer=True, **changes):
    """A folder with the usual config but for `changes`."""
    folder, config = Path(folder), CONFIG | changes
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = random_tensors(config) if tensors is None else tensors
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name in TOKENIZER if tokenizer else ():
        shutil.copyfile(embedded.MODEL / name, folder / name)
    return folder


def shard(folder, files=2):
    """The tensors of a folder's one file in turn in several."""
    tensors = load_file(folder / "model.safetensors")
    weight_map = {}
    for i in range(files):
        file, part = f"model-{i + 1:05}-of-{files:05}.safetensors", list(tensors)[i::files]
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
