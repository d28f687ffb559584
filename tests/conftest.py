"""Strict settings for every test: types checked, no silent promotion, eight simulated devices."""

import gc
import itertools
import os
import tempfile
from pathlib import Path

# Before anything imports jax: tests run on the CPU, whatever else the machine has.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jaxlib

# Most of the time goes into compiling, and little is computed. XLA's older code generator takes
# half the time; later versions have only the newer one, and stop at a flag that they do not know.
if tuple(map(int, jaxlib.__version__.split(".")[:2])) < (0, 11):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import pytest
from jaxtyping import install_import_hook

# What takes long and is compiled again comes from files. One folder a process: JAX does not write
# them atomically.
CACHE = tempfile.TemporaryDirectory(prefix="jaxgfo-tests-")
jax.config.update("jax_compilation_cache_dir", CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
install_import_hook("jaxgfo", "beartype.beartype")


# Traces are full of small objects that live long: collecting them as often as usual takes a
# twentieth of all the time.
gc.set_threshold(50_000, 20, 20)

MAPS = Path("/proc/self/maps")
MOST_MAPS = 45_000  # Linux allows a process 65,530 regions of memory
TESTS = itertools.count(1)


@pytest.fixture(autouse=True)
def compiled_programs_are_let_go():
    """Every compiled program takes regions of memory, and XLA crashes where none are left."""
    yield
    # Listing them takes its time, too.
    if next(TESTS) % 10 == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def optimised():
    """As for users: where more is computed than compiled, or memory is asked about."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
