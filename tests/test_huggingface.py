"""A Llama folder in and out, and what is refused about one."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import TOKENIZER, random_tensors, write
from problems import assert_equal, unchecked
from safetensors.numpy import load_file

from jaxgfo import Batch, MeanNLL, load_model, save_model, tree

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 512, (2, 33)), jnp.int32)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "model")


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
    shapes = {path: leaf.shape for path, leaf in tree.flat_paths(model.params).items()}
    assert shapes["layers.*.attention.query.kernel"] == (2, 12, 24)
    assert shapes["layers.*.mlp.down.kernel"] == (2, 20, 12)
    assert shapes["embed.embedding"] == (512, 12)
    assert set(model.tensors) == set(random_tensors())
    logits = model.apply(model.params, TOKENS)
    assert (logits.shape, logits.dtype) == ((2, 33, 512), jnp.float32)
    features = model.decoder.features(model.params, TOKENS)
    again = model.decoder.logits(model.params, features)
    np.testing.assert_allclose(again, logits, rtol=1e-5, atol=1e-5)
    assert model.tokenizer.decode(model.tokenizer("a blue hat")["input_ids"]) == "a blue hat"


def test_layers_are_stacked_in_their_order(folder):
    tensors, params = random_tensors(), load_model(folder).params
    stack = tree.flat_paths(params)["layers.*.mlp.up.kernel"]
    for i, layer in enumerate(stack):
        np.testing.assert_array_equal(layer, tensors[f"model.layers.{i}.mlp.up_proj.weight"].T)


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


@pytest.mark.parametrize("source", ["./nowhere", "no/where/at-all", "/no/where", "", "a b"])
def test_a_missing_folder_is_told(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder; expected a folder with config"):
        load_model(source or tmp_path / "nowhere")


@pytest.mark.parametrize("source", ["owner/name", "name"])
def test_a_hub_id_that_cannot_be_had_is_told(source):
    with pytest.raises(FileNotFoundError, match=f"'{source}': no such folder, and the hub did"):
        load_model(source)


def test_a_revision_of_a_folder_is_refused(folder):
    with pytest.raises(ValueError, match=r"revision is 'main', but .* is a local folder"):
        load_model(folder, revision="main")


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
        "missing model.norm.weight",
    ):
        assert part in str(caught.value)
    assert "missing model.layers.1.mlp" not in str(caught.value)  # said once is enough


def test_a_tokenizer_is_loaded_when_it_is_asked_for(tmp_path):
    model = load_model(write(tmp_path / "model", tokenizer=False))
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        _ = model.tokenizer


def test_an_unknown_dtype_is_refused(folder):
    with unchecked(), pytest.raises((TypeError, ValueError), match="float31"):
        load_model(folder, dtype="float31")
