"""Hugging Face checkpoints in and out: a folder of config.json, safetensors and a tokenizer."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from .. import tree
from ..core import Params
from ..models.model import Model, build, family_of
from ..models.sharding import placement
from . import tensors
from .folder import carried, check_vacant, find, read_config, weight_files


def load_model(
    source: str | os.PathLike[str],
    *,
    dtype: Any = None,
    revision: str | None = None,
    sharding: Any = None,
) -> Model:
    """A decoder and its tokenizer from a local folder or a Hugging Face hub id.

    Parameters are read one after another, straight into the dtype and onto the devices that are
    asked for; there is never a second copy of the model in host memory. Nothing that the
    checkpoint brings is executed.

    Args:
        source: a folder, or `owner/name` on the hub (downloaded into `huggingface_hub`'s cache).
        dtype: of the parameters ("float32", "bfloat16", "float16"); None: as in the checkpoint.
        revision: branch, tag or commit on the hub.
        sharding: a `jax.sharding.Mesh` (large weights are split over its axis "model"), a
            `jax.sharding.Sharding` for all parameters, or a function (path, shape) -> sharding;
            None: JAX's default device.

    Raises:
        FileNotFoundError: no such folder or hub id, or a file is missing in it.
        ValueError: an architecture, a setting or a format that is not supported; tensors missing,
            unexpected or of the wrong shape; a dtype that is not real.
    """
    _check_real(dtype)
    place = placement(sharding)
    folder = find(source, revision)
    config = read_config(folder)
    files = weight_files(folder)
    _, shapes, decoder, expected = build(config)
    checkpoint = tensors.inspect(files, expected, family_of(config.model_type))
    flat = tensors.read(checkpoint, tree.flat_paths(shapes), dtype, place)
    leaves = [flat[path] for path in tree.flat_paths(shapes)]
    params = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    return Model(params, decoder, config, checkpoint.tensors, folder, checkpoint.buffers)


def save_model(
    model: Model,
    params: Params,
    folder: str | os.PathLike[str],
    *,
    dtype: Any = None,
    max_shard_size: int | str = "5GB",
) -> Path:
    """Write `params` as a Hugging Face folder that `transformers` opens.

    Tensors are named as in the checkpoint that `model` came from; config, generation config and
    tokenizer are its own, byte for byte, but for the config's dtype where it is another now. The
    folder appears whole or not at all.

    Args:
        model: what `params` are parameters of.
        params: of the structure and shapes of `model.params`. Of a quantised model, int8 times
            scale is written.
        folder: new or empty.
        dtype: of the tensors; None: that of `params`, or of the scale where they are int8.
        max_shard_size: bytes of the largest file, as a number or like "5GB".

    Raises:
        FileExistsError: `folder` exists and is not empty.
        ValueError: `params` do not have the structure and shapes of `model.params`; a dtype that
            is not real; a size below 1.
    """
    _check_real(dtype)
    if isinstance(max_shard_size, int) and max_shard_size < 1:
        raise ValueError(f"max_shard_size is {max_shard_size}; expected at least 1 byte, or '5GB'")
    folder = check_vacant(folder)
    _check_like(params, model.params)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = Path(scratch) / "model"
        new.mkdir()
        for file in carried(model.folder):
            shutil.copyfile(file, new / file.name)
        if not (new / "config.json").exists():  # a fresh model, or its folder is gone by now
            model.config.save_pretrained(new)
        dtypes = tensors.write(
            new,
            model.tensors,
            tree.flat_paths(params),
            {name: file for name, file in model.buffers.items() if file.exists()},
            dtype=dtype,
            max_shard_size=max_shard_size,
        )
        _follow_dtype(new / "config.json", dtypes)
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    return folder


def _check_real(dtype: Any) -> None:
    if dtype is not None and not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
        raise ValueError(f"dtype is {dtype!r}; expected float32, bfloat16 or float16")


def _check_like(params: Params, reference: Params) -> None:
    ours, theirs = tree.flat_paths(params), tree.flat_paths(reference)
    wrong = [p for p in theirs if p not in ours or ours[p].shape != theirs[p].shape]
    wrong += [p for p in ours if p not in theirs]
    if wrong:
        raise ValueError(
            "params do not have the structure of model.params; look at " + ", ".join(wrong[:5])
        )


def _follow_dtype(path: Path, dtypes: set[str]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    if len(dtypes) == 1 and config.get(key) not in dtypes:
        _write_json(path, config | {key: next(iter(dtypes))})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
