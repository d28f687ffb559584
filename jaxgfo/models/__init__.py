"""Flax language models, and the wrapper that makes any Flax module a function of its parameters."""
