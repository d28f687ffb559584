"""Every family against torch, and every feature of a decoder: without it, the two do not agree."""

import contextlib
import dataclasses
import functools
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parity import (
    nll_of,
    precise,
    some_tokens,
    torch_logits,
    torch_model,
    torch_opened,
)
from safetensors.numpy import load_file, save_file
from variants import BASES, LENGTH, VARIANTS

import jaxgfo
from jaxgfo import Batch, load_model, save_model, tree
from jaxgfo.models.activations import ACTIVATIONS
from jaxgfo.models.config import DecoderConfig
from jaxgfo.models.families import FAMILIES
from jaxgfo.models.function import functional
from jaxgfo.models.rope import KEYS, Rope, from_parameters
from jaxgfo.models.transformer import Transformer

torch = pytest.importorskip("torch")

TOKENS = some_tokens(3)
LENGTHS = np.array([LENGTH, 31, 6])  # of the rows that are padded
REAL = np.arange(LENGTH) < LENGTHS[:, None]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Variant -> its folder and torch's logits in fp32; made once each."""

    @functools.cache
    def made(name):
        folder = tmp_path_factory.mktemp("checkpoint")
        torch_model(VARIANTS[name]).save_pretrained(folder)
        # Opened anew: the rotary table of a model cast to bf16 and back is not that of fp32.
        return folder, torch_logits(torch_opened(folder), TOKENS)

    return made


@contextlib.contextmanager
def no_warning_logged():
    """`transformers` says nothing, not even that it found something odd in a checkpoint."""
    from transformers.utils import logging as theirs

    said, logger, before = [], logging.getLogger("transformers"), theirs.get_verbosity()
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger.addHandler(handler)
    theirs.set_verbosity_warning()
    try:
        yield
    finally:
        theirs.set_verbosity(before)
        logger.removeHandler(handler)
    assert not said


@pytest.mark.parametrize("name", VARIANTS)
def test_torch_and_jax_agree_before_and_after_saving(checkpoint, tmp_path, name):
    folder, expected = checkpoint(name)
    model, tokens = load_model(folder, dtype="float32"), jnp.asarray(TOKENS, jnp.int32)
    np.testing.assert_allclose(precise(model.apply, model.params, tokens), expected, atol=1e-4)
    assert np.ptp(expected) > 1  # or agreeing would mean little

    opened = torch_opened(folder)
    padded = np.where(REAL, TOKENS, 0)
    theirs = torch_logits(opened, padded, REAL)
    ours = precise(model.apply, model.params, jnp.asarray(padded, jnp.int32))
    np.testing.assert_allclose(ours[REAL], theirs[REAL], atol=1e-4)

    batches = [Batch(tokens, tokens >= 0), Batch(jnp.asarray(padded, jnp.int32), jnp.asarray(REAL))]
    nll = [nll_of(expected, TOKENS).ravel(), nll_of(theirs, padded)[REAL[:, 1:]]]
    with jax.default_matmul_precision("highest"):
        value = jaxgfo.perplexity(model, model.params, batches)
    assert value == pytest.approx(math.exp(np.concatenate(nll).mean()), rel=1e-5)

    model = load_model(folder)
    saved = save_model(model, model.params, tmp_path / "saved")
    assert_same_tensors(folder, saved)
    with no_warning_logged():
        again = torch_opened(saved)
    np.testing.assert_array_equal(torch_logits(again, TOKENS), expected)


def assert_same_tensors(folder, saved):
    before, after = (load_file(f / "model.safetensors") for f in (folder, saved))
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert (array.dtype, array.shape) == (after[name].dtype, after[name].shape), name
        assert array.tobytes() == after[name].tobytes(), name
