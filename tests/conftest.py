"""Strict settings for every test: types checked, no silent promotion, eight simulated devices."""

import os

# Before anything imports jax: tests run on the CPU, whatever else the machine has.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
install_import_hook("jaxgfo", "beartype.beartype")
