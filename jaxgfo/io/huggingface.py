"""Hugging Face checkpoints in and out: a folder of config.json, safetensors and a tokenizer.

Only `safetensors` are read, and nothing that a checkpoint brings is ever executed.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import tree
from ..core import Params
from ..models.model import Decoder, Model

FAMILIES = ("llama",)  # model_type of a config.json
CARRIED = (  # files that a saved model takes over byte for byte
    "config.json generation_config.json tokenizer* special_tokens_map.json added_tokens.json "
    "vocab.json vocab.txt merges.txt chat_template*"
).split()
BUFFERS = re.compile(r".*rotary_emb\.inv_freq")  # computed, not learnt
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"


def load_model(
    source: str | os.PathLike[str], *, dtype: Any = None, revision: str | None = None
) -> Model:
    """A decoder and its tokenizer from a local folder or a Hugging Face hub id.

    Args:
        source: a folder, or `owner/name` on the hub (downloaded into `huggingface_hub`'s cache).
        dtype: of the parameters ("float32", "bfloat16", "float16"); None: as in the checkpoint.
        revision: branch, tag or commit on the hub.

    Raises:
        FileNotFoundError: no such folder or hub id, or a file is missing in it.
        ValueError: an architecture, a setting or a format that is not supported; tensors missing,
            unexpected or of the wrong shape.
    """
    folder = _folder(source, revision)
    _check_config(folder)
    files = _weight_files(folder)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from flax import nnx
    from transformers import AutoConfig

    from ..models import llama
    from ..models.function import functional

    parsed = AutoConfig.from_pretrained(folder, local_files_only=True)
    sizes = llama.LlamaConfig.from_huggingface(parsed)
    # The module is built without arrays: the checkpoint brings them.
    shapes, function = functional(nnx.eval_shape(lambda: llama.Llama(sizes, rngs=nnx.Rngs(0))))
    params, names = _read(files, shapes, llama.NAMES, dtype)
    return Model(
        params=params,
        decoder=Decoder(function),
        names=names,
        folder=folder,
        vocab_size=sizes.vocab_size,
        max_length=sizes.max_position_embeddings,
    )


def save_model(model: Model, params: Params, folder: str | os.PathLike[str]) -> Path:
    """Write `params` as a Hugging Face folder that `transformers` opens.

    Config and tokenizer are those of `model`, byte for byte; only the config's dtype follows that
    of `params`. The folder appears whole or not at all.

    Raises:
        FileExistsError: `folder` exists and is not empty.
        ValueError: `params` do not have the structure and shapes of `model.params`.
    """
    from safetensors.numpy import save_file

    folder = check_vacant(folder)
    _check_like(params, model.params)
    flat = tree.flat_paths(params)
    tensors = {
        # safetensors writes the memory as it lies: it must lie in order.
        name: np.ascontiguousarray(_stored(path, np.asarray(flat[path])))
        for name, path in model.names.items()
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = Path(scratch) / "model"
        new.mkdir()
        for pattern in CARRIED:
            for file in model.folder.glob(pattern):
                shutil.copyfile(file, new / file.name)
        save_file(tensors, new / WEIGHTS, metadata={"format": "pt"})
        # safetensors makes its file readable by its owner alone; the others follow the umask.
        (new / WEIGHTS).chmod((new / "config.json").stat().st_mode)
        _follow_dtype(new / "config.json", tensors)
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    return folder


def check_vacant(folder: str | os.PathLike[str]) -> Path:
    """`folder` as a path, if nothing would be lost by writing there.

    Raises:
        FileExistsError: it exists and is not an empty folder.
    """
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(
            f"{path} exists and is not an empty folder: nothing is overwritten; choose another or "
            "remove it"
        )
    return path


def _folder(source: str | os.PathLike[str], revision: str | None) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", str(source))
    if path.exists() or not hub_id:
        raise FileNotFoundError(
            f"model {str(source)!r}: no such folder; expected a folder with config.json and "
            "model.safetensors, or a hub id like owner/name"
        )
    from huggingface_hub import snapshot_download

    try:
        wanted = ["*.json", "*.safetensors", "tokenizer*", "*.txt", "chat_template*"]
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=wanted))
    except Exception as error:  # many kinds: offline, not found, gated, a proxy
        raise FileNotFoundError(
            f"model {str(source)!r}: no such folder, and the hub did not give it: {error}"
        ) from error


def _check_config(folder: Path) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no config.json; expected a Hugging Face model folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(config).__name__}")
    if config.get("model_type") not in FAMILIES:
        raise ValueError(
            f"{path}: model_type is {config.get('model_type')!r}, which is not supported; "
            f"supported: {', '.join(FAMILIES)}"
        )
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method")
        raise ValueError(
            f"{path}: the checkpoint is quantised ({method}); use the original in float32, "
            "bfloat16 or float16"
        )


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        try:
            shards = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / INDEX}: no weight_map of file names in it") from error
        files = [folder / name for name in sorted(set(shards))]
    else:
        files = [folder / WEIGHTS]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        weights = (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt")
        others = sorted(file.name for file in folder.iterdir() if file.suffix in weights)
        found = f"; found {', '.join(others)}, which is not safetensors" if others else ""
        raise FileNotFoundError(
            f"{folder}: {', '.join(missing)} is missing{found}. Convert a checkpoint with "
            "transformers' model.save_pretrained(FOLDER)"
        )
    return files


def _read(
    files: list[Path], shapes: Params, table: dict[str, str], dtype: Any
) -> tuple[Params, dict[str, str]]:
    expected = tree.flat_paths(shapes)
    arrays, names, faults, seen = {}, {}, [], set()
    for name, array in _tensors(files):
        path = _path(name, table)
        if BUFFERS.fullmatch(name) or (path == "head.kernel" and path not in expected):
            continue  # a tied head that was saved all the same
        if path is None or path not in expected:
            faults.append(f"unexpected {name}")
            continue
        seen.add(path)
        array = _stored(path, array)
        if array.shape != expected[path].shape:
            wanted = _stored(path, np.empty(expected[path].shape)).shape
            faults.append(f"{name} has shape {_stored(path, array).shape}, expected {wanted}")
            continue
        arrays[path] = jnp.asarray(array, dtype)
        names[name] = path
    faults += [f"missing {path}" for path in expected if path not in seen]
    if faults:
        raise ValueError(
            f"{files[0].parent}: the tensors do not fit config.json: " + "; ".join(faults[:20])
        )
    leaves = [arrays[path] for path in expected]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves), names


def _tensors(files: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict)
                    yield name, opened.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"{file} is not a safetensors file: {error}") from error


def _path(name: str, table: dict[str, str]) -> str | None:
    for pattern, path in table.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(path)
    return None


def _stored(path: str, array: np.ndarray) -> np.ndarray:
    # Checkpoints hold linear layers as [out, in], Flax as [in, out]: each way is a transpose.
    return array.T if path.endswith(".kernel") else array


def _check_like(params: Params, reference: Params) -> None:
    ours, theirs = tree.flat_paths(params), tree.flat_paths(reference)
    wrong = [p for p in theirs if p not in ours or ours[p].shape != theirs[p].shape]
    wrong += [p for p in ours if p not in theirs]
    if wrong:
        raise ValueError(
            "params do not have the structure of model.params; look at " + ", ".join(wrong[:5])
        )


def _follow_dtype(path: Path, tensors: dict[str, np.ndarray]) -> None:
    dtypes = {str(array.dtype) for array in tensors.values()}
    config = json.loads(path.read_text(encoding="utf-8"))
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    if len(dtypes) == 1 and config.get(key) not in dtypes:
        config[key] = dtypes.pop()
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
