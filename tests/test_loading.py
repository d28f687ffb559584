"""Loading: dtypes, names, files that are refused, code that is not run, memory that is not used."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import CONFIG, random_tensors, shapes_of, shard, write
from problems import assert_equal
from safetensors.numpy import save_file

from jaxgfo import load_model, save_model


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "model")


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("wanted", [None, "float32", "bfloat16", "float16"])
def test_every_dtype_is_read_into_every_other(tmp_path, stored, wanted):
    tensors = random_tensors(CONFIG | {"dtype": stored})
    params = load_model(write(tmp_path / "model", tensors, dtype=stored), dtype=wanted).params
    expected = tensors["model.embed_tokens.weight"].astype(jnp.dtype(wanted or stored))
    embedding = np.asarray(params["embed"]["embedding"])
    assert {x.dtype for x in jax.tree.leaves(params)} == {expected.dtype}
    assert embedding.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["int32", jnp.int8, "bool"])
def test_a_dtype_that_is_not_real_is_refused(folder, tmp_path, dtype):
    model, message = load_model(folder), "expected float32, bfloat16 or float16"
    with pytest.raises(ValueError, match=message):
        load_model(folder, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        save_model(model, model.params, tmp_path / "saved", dtype=dtype)
    assert not (tmp_path / "saved").exists()


def test_a_checkpoint_of_integers_is_refused(tmp_path):
    tensors = random_tensors()
    tensors["model.norm.weight"] = np.ones(12, np.int32)
    with pytest.raises(ValueError, match=r"model\.norm\.weight is of dtype I32, expected one of"):
        load_model(write(tmp_path / "model", tensors), dtype="float32")


def test_layers_of_several_dtypes_need_one_that_is_asked_for(tmp_path):
    tensors = random_tensors()
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name].astype(jnp.bfloat16)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(jnp.bfloat16)
    folder = write(tmp_path / "model", tensors)
    message = r"layers\.0\.mlp\.up_proj\.weight and its likes .* bfloat16 and float32: .* dtype="
    with pytest.raises(ValueError, match=message):
        load_model(folder)
    stack = load_model(folder, dtype="float32").params["layers"]["*"]["mlp"]["up"]["kernel"]
    np.testing.assert_array_equal(stack[1], tensors[name].T.astype(np.float32))
    tensors[name] = tensors[name].astype(np.float32)
    params = load_model(write(tmp_path / "other", tensors)).params  # not of one stack: fine
    assert {str(x.dtype) for x in jax.tree.leaves(params)} == {"float32", "bfloat16"}


def test_a_tensor_in_many_blocks_is_read_whole(folder, monkeypatch):
    whole = load_model(folder).params
    monkeypatch.setattr("jaxgfo.io.tensors.BLOCK", 100)
    assert_equal(load_model(folder).params, whole)


def test_shards_are_one_model(folder):
    whole, tensors = load_model(folder).params, random_tensors()
    assert_equal(load_model(shard(folder, files=3)).params, whole)
    save_file(dict(list(tensors.items())[:2]), folder / "model-00002-of-00003.safetensors")
    with pytest.raises(ValueError, match=r"is in model-00002-.* and in model-00003-.*; missing"):
        load_model(folder)


def test_an_index_does_not_lead_out_of_the_folder(folder):
    (folder.parent / "other.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    index = {"weight_map": {"a": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="files outside of the folder"):
        load_model(folder)


# What is recognised and refused


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.gguf", "flax_model.msgpack"])
def test_other_formats_are_never_opened(folder, file):
    (folder / "model.safetensors").rename(folder / file)
    message = rf"found {file}, which is not safetensors\. Convert .*\.save_pretrained"
    with pytest.raises(FileNotFoundError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "value", "method"),
    [
        ("quantization_config", {"quant_method": "gptq", "bits": 4}, "gptq"),
        ("quantization_config", {"quant_method": "awq", "bits": 4}, "awq"),
        (
            "quantization_config",
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "bitsandbytes",
        ),
        ("compression_config", {"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ],
)
def test_quantised_checkpoints_are_refused_with_the_way_out(folder, key, value, method):
    (folder / "config.json").write_text(json.dumps(CONFIG | {key: value}))
    with pytest.raises(ValueError, match=rf"quantised \({method}.*\.dequantize\(\)"):
        load_model(folder)


def test_an_adapter_is_refused_with_the_way_out(folder):
    (folder / "adapter_config.json").write_text("{}")
    for present in (True, False):
        if not present:
            (folder / "config.json").unlink()
        with pytest.raises(ValueError, match=r"an adapter .*merge_and_unload\(\)"):
            load_model(folder)


# Nothing of a checkpoint is run


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    auto_map = {
        "AutoConfig": "modeling_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnModel",
        "AutoTokenizer": ["modeling_own.OwnTokenizer", None],
    }
    trace = tmp_path / "trace"
    plain = load_model(write(tmp_path / "plain"))
    folder = write(tmp_path / "model", auto_map=auto_map)
    (folder / "modeling_own.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    model = load_model(folder)
    assert_equal(model.params, plain.params)
    assert model.tokenizer("a hat")["input_ids"] == plain.tokenizer("a hat")["input_ids"]
    (folder / "config.json").write_text(
        json.dumps(CONFIG | {"auto_map": auto_map, "model_type": "own"})
    )
    with pytest.raises(ValueError, match="model_type is 'own', which is not supported; supported"):
        load_model(folder)
    assert not trace.exists()


# Memory

PROBE = """
import gc, pathlib, re, sys
sys.modules["torch"] = None  # transformers would take seconds to import it
import jax
from jaxgfo import load_model, save_model

def status(key):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(key + r":\\s+(\\d+) kB", text)[1]) * 1024

small, large, dtype = sys.argv[1:]
load_model(small, dtype=dtype)
gc.collect()
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is
before = status("VmRSS")
params = load_model(large, dtype=dtype).params
print(status("VmHWM") - before, sum(x.nbytes for x in jax.tree.leaves(params)))
"""
WIDE = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "tie_word_embeddings": True,
}
LARGE = {  # 45 million parameters: nearly all of them in layers, or more than half in one table
    "deep": WIDE | {"vocab_size": 4_000, "num_hidden_layers": 13},
    "broad": WIDE | {"vocab_size": 52_000, "num_hidden_layers": 6},
}


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="asks Linux")
@pytest.mark.parametrize(
    ("kind", "sharded", "dtypes"),
    [
        ("deep", True, [("float32", "float32"), ("bfloat16", "float32")]),
        ("broad", False, [("float32", "bfloat16"), ("bfloat16", "float32")]),
    ],
)
def test_loading_holds_no_second_copy(tmp_path, kind, sharded, dtypes):
    small = write(tmp_path / "small", num_hidden_layers=1)
    for stored, wanted in dtypes:
        changes = LARGE[kind] | {"dtype": stored}
        shapes = shapes_of(CONFIG | changes)
        tensors = {name: np.ones(shape, jnp.dtype(stored)) for name, shape in shapes.items()}
        large = write(tmp_path / stored / wanted, tensors, tokenizer=False, **changes)
        if sharded:
            shard(large)
        done = subprocess.run(
            [sys.executable, "-c", PROBE, small, large, wanted],
            capture_output=True,
            text=True,
            check=True,
        )
        peak, size = map(int, done.stdout.split())
        assert size > 85e6
        assert size <= peak <= 1.3 * size, f"{stored} to {wanted}: {peak / size:.2f}"
