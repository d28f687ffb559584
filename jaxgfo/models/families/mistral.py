"""Mistral (Jiang et al., 2023, arXiv:2310.06825): Llama with a sliding window."""

from ..config import DecoderConfig
from ..settings import Settings
from . import llama
from .family import Family


def describe(c: Settings) -> DecoderConfig:
    """A `MistralConfig`."""
    c.refuse(layer_types="transformers' Mistral has one window for all layers")
    return DecoderConfig(**llama.common(c), windows=(c.sliding_window,) * c.num_hidden_layers)


FAMILY = Family(describe=describe, names=llama.NAMES, prefix="model.")
