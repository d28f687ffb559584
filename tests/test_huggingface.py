"""Checkpoints in and out, held against torch: live where it is installed, else its numbers."""

import hashlib
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import CONFIG, TOKENIZER, random_tensors, write
from problems import assert_equal, unchecked
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import jaxgfo
from jaxgfo import Batch, MeanNLL, embedded, load_model, save_model, tree

REFERENCES = Path(__file__).parent / "references"
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 512, (2, 33)), jnp.int32)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "model")


def precise(function, *arguments):
    """Float32 products as they stand, on any device."""
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(function)(*arguments), np.float64)


def row_nll(model, tokens):
    """Nats of every row."""
    score = MeanNLL(model).sums

    def one(row):
        return score(model.params, Batch(row[None], jnp.ones((1, row.size), bool)))[0]

    return precise(lambda rows: jax.lax.map(one, rows), tokens)


def reference(name):
    with safe_open(REFERENCES / f"{name}.safetensors", framework="numpy") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


# What torch computed, as committed


@pytest.mark.parametrize("name", ["grouped", "tied", "single", "bf16"])
def test_logits_are_those_that_torch_computed(tmp_path, name):
    arrays, notes = reference(name)
    weights = {k.split("/")[1]: v for k, v in arrays.items() if k.startswith("checkpoint/")}
    (tmp_path / "config.json").write_text(notes["config"])
    save_file(weights, tmp_path / "model.safetensors")
    model = load_model(tmp_path, dtype="float32")
    tokens = jnp.asarray(arrays["tokens"])
    logits = precise(model.apply, model.params, tokens)
    np.testing.assert_allclose(logits, arrays["logits"], atol=1e-4)
    assert np.ptp(arrays["logits"]) > 1  # or agreeing would mean little
    np.testing.assert_allclose(row_nll(model, tokens), arrays["nll"], rtol=1e-5)


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


# What torch computes now

LIVE = {
    "grouped": {},
    "tied": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    "single": {"num_key_value_heads": 1, "rms_norm_eps": 1e-3},
    "bf16": {"dtype": "bfloat16"},
    "sharded": {"max_shard_size": 20_000},
    "wide rope": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
}


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def torch_logits(torch, folder, **options):
    from transformers import LlamaForCausalLM

    model, loading = LlamaForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(loading.values()), loading
    with torch.no_grad():
        return model.eval()(torch.tensor(np.asarray(TOKENS))).logits.double().numpy()


@pytest.mark.parametrize("name", LIVE)
def test_torch_and_jax_agree_before_and_after_saving(torch, tmp_path, name):
    changes = dict(LIVE[name])
    shard = changes.pop("max_shard_size", None)
    folder = write(tmp_path / "model", **changes)
    if shard:
        from transformers import LlamaForCausalLM

        LlamaForCausalLM.from_pretrained(folder).save_pretrained(
            tmp_path / "sharded", max_shard_size=shard
        )
        folder = tmp_path / "sharded"
        assert len(list(folder.glob("*.safetensors"))) > 2
    expected = torch_logits(torch, folder, dtype=torch.float32)
    model = load_model(folder, dtype="float32")
    logits = precise(model.apply, model.params, TOKENS)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    nll = -torch.tensor(expected)[:, :-1].log_softmax(-1).numpy()
    chosen = np.take_along_axis(nll, np.asarray(TOKENS)[:, 1:, None], -1)
    with jax.default_matmul_precision("highest"):
        value = jaxgfo.perplexity(model, model.params, Batch(TOKENS, TOKENS >= 0))
    assert value == pytest.approx(math.exp(chosen.mean()), rel=1e-5)
    again = save_model(load_model(folder), load_model(folder).params, tmp_path / "again")
    np.testing.assert_array_equal(torch_logits(torch, again, dtype=torch.float32), expected)


def test_half_precision_is_near_torch_in_half_precision(torch, tmp_path):
    folder = write(tmp_path / "model", dtype="bfloat16")
    model = load_model(folder)
    expected = torch_logits(torch, folder)
    exact = torch_logits(torch, folder, dtype=torch.float32)
    logits = np.asarray(model.apply(model.params, TOKENS), np.float64)
    # Neither rounds in the other's places: as near to the truth as torch is.
    assert np.abs(logits - exact).mean() < 1.5 * np.abs(expected - exact).mean()


# In and out


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"dtype": "bfloat16"}])
def test_loading_and_saving_changes_no_bit(tmp_path, changes):
    folder = write(tmp_path / "model", **changes)
    (folder / "generation_config.json").write_text('{"eos_token_id":   0}')
    (folder / "notes.md").write_text("not part of a model")
    model = load_model(folder)
    saved = save_model(model, model.params, tmp_path / "deep" / "er")
    before, after = (load_file(f / "model.safetensors") for f in (folder, saved))
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert (array.dtype, array.shape) == (after[name].dtype, after[name].shape)
        assert array.tobytes() == after[name].tobytes()
    for name in ("config.json", "generation_config.json", *TOKENIZER):
        assert (folder / name).read_bytes() == (saved / name).read_bytes()
    assert {f.name for f in saved.iterdir()} == {f.name for f in folder.iterdir()} - {"notes.md"}
    assert [f.name for f in saved.parent.iterdir()] == ["er"]
    assert_equal(load_model(saved).params, model.params)


def test_a_model_says_what_it_is(folder):
    model = load_model(str(folder))
    assert (model.vocab_size, model.max_length) == (512, 64)
    paths = tree.flat_paths(model.params)
    assert paths["layers.1.attention.query.kernel"].shape == (12, 24)
    assert paths["layers.0.mlp.down.kernel"].shape == (20, 12)
    logits = model.apply(model.params, TOKENS)
    assert (logits.shape, logits.dtype) == ((2, 33, 512), jnp.float32)
    features = model.decoder.features(model.params, TOKENS)
    again = model.decoder.logits(model.params, features)
    np.testing.assert_allclose(again, logits, rtol=1e-5, atol=1e-5)
    assert model.tokenizer.decode(model.tokenizer("a blue hat")["input_ids"]) == "a blue hat"


def test_a_change_of_every_parameter_is_seen(folder):
    model = load_model(folder)
    loss = jax.jit(jax.grad(MeanNLL(model)))
    gradient = tree.flat_paths(loss(model.params, Batch(TOKENS, TOKENS >= 0)))
    for path, slope in gradient.items():
        assert jnp.max(jnp.abs(slope)) > 1e-6, path


def test_the_future_is_not_seen(folder):
    model = load_model(folder)
    other = TOKENS.at[:, 20:].set(7)
    first, second = (model.apply(model.params, t)[:, :20] for t in (TOKENS, other))
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", jnp.bfloat16])
@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_parameters_are_cast_and_the_config_follows(tmp_path, dtype, key):
    folder = write(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config[key] = config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config))
    model = load_model(folder, dtype=dtype)
    assert {x.dtype for x in jax.tree.leaves(model.params)} == {jnp.dtype(dtype)}
    assert model.apply(model.params, TOKENS).dtype == jnp.float32
    saved = save_model(model, model.params, tmp_path / "saved")
    assert json.loads((saved / "config.json").read_text()) == config | {key: jnp.dtype(dtype).name}
    assert_equal(load_model(saved).params, model.params)


def test_a_tied_head_that_was_saved_all_the_same_is_passed_over(tmp_path):
    tensors = random_tensors()
    folder = write(tmp_path / "model", tensors, tie_word_embeddings=True)
    model = load_model(folder)
    assert "head" not in model.params
    assert "lm_head.weight" not in model.names


def test_rotary_buffers_are_passed_over(tmp_path):
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)}
    load_model(write(tmp_path / "model", random_tensors() | buffer))


# What is refused


def test_a_folder_with_something_in_it_is_left_alone(folder, tmp_path):
    model = load_model(folder)
    (tmp_path / "out").mkdir()
    save_model(model, model.params, tmp_path / "out")  # empty: fine
    before = {f: f.read_bytes() for f in folder.iterdir()}
    for target in (folder, tmp_path / "out", folder / "config.json"):
        with pytest.raises(FileExistsError, match="not an empty folder: nothing is overwritten"):
            save_model(model, model.params, target)
    assert {f: f.read_bytes() for f in folder.iterdir()} == before


@pytest.mark.parametrize("existing", [True, False])
def test_a_save_that_fails_leaves_nothing_behind(folder, tmp_path, monkeypatch, existing):
    def full(*_, **__):
        raise OSError("no space left on device")

    model, out = load_model(folder), tmp_path / "parent" / "out"
    out.parent.mkdir()
    if existing:
        out.mkdir()
    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save_model(model, model.params, out)
    assert [f.name for f in out.parent.iterdir()] == (["out"] if existing else [])
    assert not existing or not list(out.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["norm"].pop("scale"), r"structure of model\.params; look at norm\.scale"),
        (lambda p: p.update(extra=jnp.zeros(2)), "look at extra"),
        (lambda p: p["norm"].update(scale=jnp.zeros(2)), r"look at norm\.scale"),
    ],
)
def test_params_of_another_model_are_not_saved(folder, tmp_path, change, message):
    model = load_model(folder)
    params = jax.tree.map(lambda x: x, model.params)
    change(params)
    with pytest.raises(ValueError, match=message):
        save_model(model, params, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["nowhere", "./no/where/at-all", "/no/where", ""])
def test_a_missing_folder_is_told(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder; expected a folder with config"):
        load_model(source or tmp_path / "nowhere")


def test_a_hub_id_that_cannot_be_had_is_told():
    with pytest.raises(FileNotFoundError, match="'owner/name': no such folder, and the hub did"):
        load_model("owner/name")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2', which is not supported; supported: llama"),
        ({"model_type": None}, "model_type is None"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; supported: 'silu'"),
        ({"attention_bias": True}, "attention_bias is True; supported: False"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type is 'linear'; supported: 'default'",
        ),
        (
            {"quantization_config": {"quant_method": "gptq"}},
            r"quantised \(gptq\); use the original",
        ),
    ],
)
def test_an_architecture_that_is_not_supported_is_refused_by_name(folder, changes, message):
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(ValueError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("config.json", None, FileNotFoundError, r"no config\.json"),
        ("config.json", "{", ValueError, r"config\.json is not JSON"),
        ("config.json", "[]", ValueError, "expected a JSON object, got list"),
        ("model.safetensors", None, FileNotFoundError, r"model\.safetensors is missing\. Convert"),
        ("model.safetensors", "garbage", ValueError, "is not a safetensors file"),
        ("model.safetensors", "", ValueError, "is not a safetensors file"),
        ("model.safetensors.index.json", "{", ValueError, "no weight_map"),
        ("model.safetensors.index.json", "{}", ValueError, "no weight_map"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"a": "one.safetensors", "b": "model.safetensors"}}',
            FileNotFoundError,
            r"one\.safetensors is missing",
        ),
    ],
)
def test_broken_files_are_refused_by_name(folder, name, content, error, message):
    (folder / name).write_text(content) if content is not None else (folder / name).unlink()
    with pytest.raises(error, match=message):
        load_model(folder)


def test_a_truncated_checkpoint_is_refused(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_model(folder)


def test_pickled_weights_are_never_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = r"found pytorch_model\.bin, which is not safetensors\. Convert"
    with pytest.raises(FileNotFoundError, match=message):
        load_model(folder)


def test_tensors_that_do_not_fit_are_reported_together(tmp_path):
    tensors = random_tensors()
    del tensors["model.norm.weight"]
    tensors["model.layers.7.mlp.up_proj.weight"] = np.zeros((20, 12), np.float32)
    tensors["model.layers.1.mlp.up_proj.weight"] = np.zeros((20, 13), np.float32)
    tensors["model.extra"] = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match="do not fit config.json") as caught:  # noqa: RUF043
        load_model(write(tmp_path / "model", tensors))
    for part in (
        "unexpected model.layers.7.mlp.up_proj.weight",
        "unexpected model.extra",
        "model.layers.1.mlp.up_proj.weight has shape (20, 13), expected (20, 12)",
        "missing norm.scale",
    ):
        assert part in str(caught.value)
    assert "missing layers.1.mlp" not in str(caught.value)  # said once is enough


def test_a_tokenizer_is_loaded_when_it_is_asked_for(tmp_path):
    model = load_model(write(tmp_path / "model", tokenizer=False))
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        _ = model.tokenizer


def test_an_unknown_dtype_is_refused(folder):
    with unchecked(), pytest.raises((TypeError, ValueError), match="float31"):
        load_model(folder, dtype="float31")
