"""What torch computed, as committed: parity where torch is not installed."""

import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_same_tensors, precise
from safetensors import safe_open
from safetensors.numpy import save_file
from variants import COMMITTED

import jaxgfo
from jaxgfo import Batch, MeanNLL, embedded, load_model, save_model
from jaxgfo.models.families import FAMILIES

REFERENCES = Path(__file__).parent / "references"


def reference(name):
    path = REFERENCES / f"{name.replace(' ', '-')}.safetensors"
    with safe_open(path, framework="numpy") as file:
        notes = json.loads(file.metadata()["notes"])
        return {key: file.get_tensor(key) for key in file.keys()}, notes  # noqa: SIM118


def row_nll(model, tokens):
    """Nats of every row."""
    score = MeanNLL(model).sums

    def one(row):
        return score(model.params, Batch(row[None], jnp.ones((1, row.size), bool)))[0]

    return precise(lambda rows: jax.lax.map(one, rows), tokens)


def scores(model, tokens):
    """Logits, and nats of all rows together; compiled as one, for the most of it is the same."""
    batch = Batch(tokens, tokens >= 0)

    @jax.jit
    def both(params, batch):
        return model.apply(params, batch.tokens), MeanNLL(model).sums(params, batch)[0]

    with jax.default_matmul_precision("highest"):
        return both(model.params, batch)


@pytest.mark.parametrize("name", COMMITTED)
def test_logits_are_those_that_torch_computed(tmp_path, name):
    arrays, notes = reference(name)
    prefix = "checkpoint/"
    weights = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    (tmp_path / "config.json").write_text(notes["config"])
    save_file(weights, tmp_path / "model.safetensors")
    model, tokens = load_model(tmp_path, dtype="float32"), jnp.asarray(arrays["tokens"])
    logits, nll = scores(model, tokens)
    np.testing.assert_allclose(logits, arrays["logits"], atol=1e-4)
    assert np.ptp(arrays["logits"]) > 1  # or agreeing would mean little
    np.testing.assert_allclose(nll, arrays["nll"].sum(), rtol=1e-5)
    model = load_model(tmp_path)
    assert_same_tensors(tmp_path, save_model(model, model.params, tmp_path / "saved"))


def test_there_is_a_reference_of_every_family_and_no_other():
    files = {path.stem for path in REFERENCES.iterdir()}
    assert files == {name.replace(" ", "-") for name in [*COMMITTED, "embedded"]} | {"bbob"}
    assert set(FAMILIES) <= files


def test_the_embedded_model_is_the_one_that_torch_opened():
    arrays, notes = reference("embedded")
    weights = (embedded.MODEL / "model.safetensors").read_bytes()
    stale = "the weights are new: run python scripts/make_references.py"
    assert hashlib.sha256(weights).hexdigest() == notes["weights"], stale
    model, tokens = load_model(embedded.MODEL), jnp.asarray(arrays["tokens"])
    np.testing.assert_allclose(row_nll(model, tokens), arrays["nll"], rtol=1e-5)
    with jax.default_matmul_precision("highest"):
        value = jaxgfo.perplexity(model, model.params, Batch(tokens, tokens >= 0))
    assert value == pytest.approx(float(arrays["perplexity"]), rel=1e-5)
    read = model.tokenizer(embedded.VALIDATION.read_text(encoding="utf-8"), verbose=False)
    np.testing.assert_array_equal(read["input_ids"][: tokens.size], tokens.ravel())
