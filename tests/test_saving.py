"""Saving: the files that transformers writes and opens, the names and the bytes that were read."""

import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import TOKENIZER, random_tensors, shard, write
from problems import assert_equal
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jaxgfo import load_model, random_model, save_model
from jaxgfo.models.families import FAMILIES

GPT2 = {"model_type": "gpt2", "vocab_size": 61, "n_embd": 16, "n_layer": 3, "n_head": 4}
NEOX = {
    "model_type": "gpt_neox",
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
PHI3 = NEOX | {"model_type": "phi3", "num_key_value_heads": 1, "pad_token_id": 0}
SMALL = {"gpt2": GPT2, "gpt_neox": NEOX, "phi3": PHI3}  # fused in three ways
INDEX = "model.safetensors.index.json"
TOKENS = np.random.default_rng(0).integers(0, 61, (2, 12))


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def opened(torch, folder):
    """What transformers opens without a warning, a tensor missing or one too many."""
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    return model.eval()


def logits_of(torch, model, tokens=TOKENS):
    with torch.no_grad():
        return model(torch.tensor(np.asarray(tokens))).logits.float().numpy()


def contents(folder):
    """Dtype, shape and bytes of every tensor, by file and name."""
    files = sorted(folder.glob("*.safetensors"))
    return {
        file.name: {n: (x.dtype, x.shape, x.tobytes()) for n, x in load_file(file).items()}
        for file in files
    }


def merged(parts):
    return {name: tensor for part in parts.values() for name, tensor in part.items()}


def fresh(folder, config, seed=0, dtype="float32"):
    """A checkpoint of any family, written without torch."""
    model = random_model(config, key=jax.random.key(seed), dtype=dtype)
    return save_model(model, model.params, folder)


@pytest.mark.parametrize("model_type", SMALL)
def test_the_files_are_those_that_transformers_writes(torch, tmp_path, model_type):
    source = opened(torch, fresh(tmp_path / "fresh", SMALL[model_type]))
    expected = logits_of(torch, source)
    for size in (10**9, 4_000):
        theirs, ours = tmp_path / f"theirs-{size}", tmp_path / f"ours-{size}"
        source.save_pretrained(theirs, max_shard_size=size)
        model = load_model(theirs)
        save_model(model, model.params, ours, max_shard_size=size)
        parts, sharded = contents(ours), size == 4_000
        assert merged(parts) == merged(contents(theirs))
        assert parts.keys() == contents(theirs).keys()
        assert (len(parts) > 2) == sharded
        for part in parts.values():  # a tensor that is too large has a file of its own
            assert len(part) == 1 or sum(len(data) for _, _, data in part.values()) <= size
        if sharded:
            index, known = (json.loads((f / INDEX).read_text()) for f in (ours, theirs))
            assert index["weight_map"] == {n: file for file, part in parts.items() for n in part}
            assert index["metadata"]["total_size"] == known["metadata"]["total_size"]
        np.testing.assert_array_equal(logits_of(torch, opened(torch, ours)), expected)


def test_shards_in_and_out_change_no_bit(tmp_path):
    folder = shard(write(tmp_path / "model", dtype="bfloat16"), files=3)
    (folder / "generation_config.json").write_text('{"eos_token_id":   0}')
    model = load_model(folder)
    saved = save_model(model, model.params, tmp_path / "saved", max_shard_size=10_000)
    before, after = contents(folder), contents(saved)
    assert len(after) > 1
    assert merged(after) == merged(before)
    for name in ("config.json", "generation_config.json", *TOKENIZER):
        assert (folder / name).read_bytes() == (saved / name).read_bytes()
    for file in after:
        assert file.startswith("model-0000")
        with safe_open(saved / file, "numpy") as reader:
            assert reader.metadata() == {"format": "pt"}
    assert_equal(load_model(saved).params, model.params)


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_that_was_saved_follows_the_embedding_it_is_tied_to(tmp_path, tied):
    tensors = random_tensors()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model = load_model(write(tmp_path / "model", tensors, tie_word_embeddings=tied))
    assert ("head" in model.params) != tied
    again = load_file(save_model(model, model.params, tmp_path / "again") / "model.safetensors")
    assert again.keys() == tensors.keys()
    np.testing.assert_array_equal(again["lm_head.weight"], tensors["lm_head.weight"])
    tuned = {**model.params, "embed": {"embedding": model.params["embed"]["embedding"] + 1}}
    saved = save_model(model, tuned, tmp_path / "tuned")
    written = load_file(saved / "model.safetensors")
    moved = tensors["model.embed_tokens.weight"] + 1
    np.testing.assert_array_equal(written["model.embed_tokens.weight"], moved)
    np.testing.assert_array_equal(
        written["lm_head.weight"], moved if tied else tensors["lm_head.weight"]
    )
    assert_equal(load_model(saved).params, tuned)


@pytest.fixture
def short(tmp_path):
    """A GPT-2 with names as on the hub, and causal masks among its tensors."""
    folder = fresh(tmp_path / "short", GPT2 | {"n_positions": 8})
    tensors = load_file(folder / "model.safetensors")
    tensors = {name.removeprefix("transformer."): array for name, array in tensors.items()}
    mask = np.tril(np.ones((1, 1, 8, 8), np.float32))
    tensors |= {f"h.{i}.attn.bias": mask for i in range(GPT2["n_layer"])}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("size", ["5GB", 4_000])
def test_names_without_a_prefix_and_buffers_stay_as_they_are(short, tmp_path, size):
    tensors = load_file(short / "model.safetensors")
    tensors["h.0.attn.masked_bias"] = np.array(-1e4, np.float32)
    tensors["h.1.attn.bias"] = tensors["h.1.attn.bias"].astype(np.uint8)
    tensors["h.2.attn.bias"] = tensors["h.2.attn.bias"].astype(bool)
    save_file(tensors, short / "model.safetensors", metadata={"format": "pt"})
    model = load_model(short)
    assert set(model.buffers) == {n for n in tensors if n.endswith((".attn.bias", "masked_bias"))}
    saved = save_model(model, model.params, tmp_path / "saved", max_shard_size=size)
    after = merged(contents(saved))
    assert after == contents(short)["model.safetensors"]
    assert "h.0.attn.c_attn.weight" in after


def test_transformers_opens_names_without_a_prefix(torch, short, tmp_path):
    model = load_model(short)
    theirs = opened(torch, save_model(model, model.params, tmp_path / "saved"))
    tokens = TOKENS[:, :8]
    expected = logits_of(torch, opened(torch, short), tokens)
    np.testing.assert_array_equal(logits_of(torch, theirs, tokens), expected)
    logits = model.apply(model.params, jnp.asarray(tokens, jnp.int32))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_rotary_buffers_are_carried_over(tmp_path):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    buffer = {name: np.ones(3, np.float32)}
    model = load_model(write(tmp_path / "model", random_tensors() | buffer), dtype="bfloat16")
    assert set(model.buffers) == {name}
    saved = load_file(save_model(model, model.params, tmp_path / "saved") / "model.safetensors")
    np.testing.assert_array_equal(saved[name], buffer[name])
    assert saved[name].dtype == np.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_to_save_in_is_followed_by_the_config(tmp_path, dtype):
    folder = write(tmp_path / "model")
    model = load_model(folder)
    saved = save_model(model, model.params, tmp_path / "saved", dtype=dtype)
    config = json.loads((folder / "config.json").read_text())
    assert json.loads((saved / "config.json").read_text()) == config | {"dtype": dtype}
    for name, array in load_file(saved / "model.safetensors").items():
        expected = load_file(folder / "model.safetensors")[name].astype(jnp.dtype(dtype))
        assert (array.dtype, array.tobytes()) == (expected.dtype, expected.tobytes())


# Fresh models


@pytest.mark.parametrize(
    ("model_type", "dtype"), [("gpt2", "float32"), ("gpt_neox", "bfloat16"), ("phi3", "float32")]
)
def test_a_fresh_model_opens_in_transformers(torch, tmp_path, model_type, dtype):
    model = random_model(SMALL[model_type], key=jax.random.key(0), dtype=dtype)
    assert {str(x.dtype) for x in jax.tree.leaves(model.params)} == {dtype}
    saved = save_model(model, model.params, tmp_path / "saved")
    theirs = opened(torch, saved)
    assert {str(p.dtype) for p in theirs.parameters()} == {f"torch.{dtype}"}
    assert_equal(load_model(saved).params, model.params)
    expected = logits_of(torch, theirs)
    logits = np.asarray(model.apply(model.params, jnp.asarray(TOKENS, jnp.int32)))
    np.testing.assert_allclose(logits, expected, atol=1e-5 if dtype == "float32" else 2e-2)


def test_the_key_decides_on_a_fresh_model():
    models = [random_model(GPT2, key=jax.random.key(seed)).params for seed in (0, 0, 1)]
    assert_equal(models[0], models[1])
    first, _, other = (np.asarray(params["embed"]["embedding"]) for params in models)
    assert np.all(first != other)
    assert first.std() == pytest.approx(0.02, rel=0.1)


def test_a_fresh_model_of_an_unknown_family_is_refused():
    for config in ({"model_type": "bert"}, {}):
        with pytest.raises(ValueError, match=f"not supported; supported: {', '.join(FAMILIES)}"):
            random_model(config, key=jax.random.key(0))


def test_a_model_whose_folder_is_gone_is_saved_all_the_same(tmp_path):
    model = load_model(write(tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    saved = save_model(model, model.params, tmp_path / "saved")
    assert_equal(load_model(saved).params, model.params)


def test_a_file_of_no_size_is_refused(tmp_path):
    model = load_model(write(tmp_path / "model"))
    with pytest.raises(ValueError, match="max_shard_size is 0; expected at least 1 byte"):
        save_model(model, model.params, tmp_path / "saved", max_shard_size=0)
