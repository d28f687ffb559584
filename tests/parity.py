"""The two sides of a comparison with torch: random checkpoints, logits, nats of every row."""

import re

import jax
import numpy as np
from safetensors.numpy import load_file
from variants import LENGTH


def precise(function, *arguments):
    """Float32 products as they stand, on any device."""
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(function)(*arguments), np.float64)


def assert_same_tensors(folder, saved):
    """Both hold the same bits under the same names."""
    before, after = (load_file(f / "model.safetensors") for f in (folder, saved))
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert (array.dtype, array.shape) == (after[name].dtype, after[name].shape), name
        assert array.tobytes() == after[name].tobytes(), name


def some_tokens(rows, vocab=61, seed=0):
    """Rows of random tokens."""
    return np.random.default_rng(seed).integers(0, vocab, (rows, LENGTH))


def torch_model(config, seed=0):
    """A model of `transformers` whose parameters are all random, biases and norms included."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**config)
    dtype = config.dtype or torch.float32
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    torch.manual_seed(seed)
    center = 0.0 if config.model_type.startswith("gemma") else 1.0  # Gemma's norms hold scale - 1
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(center if scale else 0.0, 0.3)
    return model.to(dtype).eval()


def torch_opened(folder, dtype="float32", besides="nothing"):
    """What `transformers` opens, if it finds every parameter there and no tensor besides."""
    import torch
    from transformers import AutoModelForCausalLM

    model, loading = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        attn_implementation="eager",
        output_loading_info=True,
    )
    extra = loading.pop("unexpected_keys")
    assert not any(loading.values()), loading
    assert not [name for name in extra if not re.fullmatch(besides, name)], extra
    return model.eval()


def torch_logits(model, tokens, mask=None):
    """Logits (rows, length, vocab) in the dtype of the model, as fp64."""
    import torch

    with torch.no_grad():
        mask = None if mask is None else torch.tensor(mask).long()
        logits = model(torch.tensor(tokens), attention_mask=mask, use_cache=False).logits
    return logits.double().numpy()


def nll_of(logits, tokens):
    """Nats of every token but the first of a row, from logits in fp64."""
    shifted = logits[:, :-1] - logits[:, :-1].max(-1, keepdims=True)
    chosen = np.take_along_axis(shifted, np.asarray(tokens)[:, 1:, None], -1)[..., 0]
    return np.log(np.exp(shifted).sum(-1)) - chosen
