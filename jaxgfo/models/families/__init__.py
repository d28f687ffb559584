"""Families of decoders: for each what its config means and how its tensors are called."""

from . import (
    gemma,
    gemma2,
    gemma3,
    gpt2,
    gpt_neo,
    gpt_neox,
    llama,
    mistral,
    olmo2,
    opt,
    phi3,
    qwen2,
    qwen3,
    smollm3,
)
from .family import Family as Family

FAMILIES: dict[str, Family] = {  # by model_type of a config.json
    "gemma": gemma.FAMILY,
    "gemma2": gemma2.FAMILY,
    "gemma3_text": gemma3.FAMILY,
    "gpt2": gpt2.FAMILY,
    "gpt_neo": gpt_neo.FAMILY,
    "gpt_neox": gpt_neox.FAMILY,
    "llama": llama.FAMILY,
    "mistral": mistral.FAMILY,
    "olmo2": olmo2.FAMILY,
    "opt": opt.FAMILY,
    "phi3": phi3.FAMILY,
    "qwen2": qwen2.FAMILY,
    "qwen3": qwen3.FAMILY,
    "smollm3": smollm3.FAMILY,
}
