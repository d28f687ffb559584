"""Folders in Hugging Face layout: where one is, and whether it holds what can be read.

Nothing that a checkpoint brings is ever executed, and only `safetensors` are read.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from ..models.model import family_of

INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
CARRIED = (  # files that a saved model takes over byte for byte
    "config.json generation_config.json tokenizer* special_tokens_map.json added_tokens.json "
    "vocab.json vocab.txt merges.txt chat_template* *.tiktoken spiece.model"
).split()
OTHERS = (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt", ".npz", ".pkl")


def find(source: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The folder of a checkpoint: a local one, or the hub's in `huggingface_hub`'s cache.

    Raises:
        FileNotFoundError: there is no such folder, and the hub does not give it.
        ValueError: a revision of a local folder.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ValueError(
                f"revision is {revision!r}, but {path} is a local folder: leave it out"
            )
        return path
    hub_id = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", str(source))
    if path.exists() or not hub_id:
        raise FileNotFoundError(
            f"model {str(source)!r}: no such folder; expected a folder with config.json and "
            "model.safetensors, or a hub id like owner/name"
        )
    from huggingface_hub import snapshot_download

    try:
        # Not *.safetensors: some repositories hold the same weights under several names.
        wanted = [*CARRIED, "adapter_config.json", INDEX, WEIGHTS, "model-*-of-*.safetensors"]
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=wanted))
    except Exception as error:  # many kinds: offline, not found, gated, a proxy
        at = "" if revision is None else f" at revision {revision!r}"
        raise FileNotFoundError(
            f"model {str(source)!r}{at}: no such folder, and the hub did not give it: {error}"
        ) from error


def read_config(folder: Path) -> Any:
    """The config as `transformers` reads it.

    Raises:
        FileNotFoundError: no config.json.
        ValueError: one that cannot be read, an unknown architecture, a quantised checkpoint or an
            adapter.
    """
    path = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder}: an adapter (adapter_config.json), not a whole model; merge it with peft: "
            "AutoPeftModelForCausalLM.from_pretrained(ADAPTER).merge_and_unload()"
            ".save_pretrained(FOLDER)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no config.json; expected a Hugging Face model folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(config).__name__}")
    try:
        family_of(config.get("model_type"))
    except ValueError as error:
        raise ValueError(f"{path.parent}/{error}") from None
    for name in ("quantization_config", "compression_config"):
        if quantized := config.get(name):
            method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
            raise ValueError(
                f"{path}: the checkpoint is quantised ({method}); use the original in float32, "
                "bfloat16 or float16, or write one with transformers: "
                "from_pretrained(SOURCE).dequantize().save_pretrained(FOLDER)"
            )
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of many kinds, KeyError among them
        raise ValueError(f"{path}: transformers refuses it: {error}") from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, single or sharded.

    Raises:
        FileNotFoundError: one is missing; or there are weights, but in another format.
        ValueError: an index that is not one.
    """
    if (folder / INDEX).is_file():
        try:
            shards = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
            files = [folder / name for name in sorted(set(shards))]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / INDEX}: no weight_map of file names in it") from error
        if outside := [f.name for f in files if f.parent != folder]:
            raise ValueError(f"{folder / INDEX}: files outside of the folder: {outside}")
    else:
        files = [folder / WEIGHTS]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        others = sorted(file.name for file in folder.iterdir() if file.suffix in OTHERS)
        found = f"; found {', '.join(others)}, which is not safetensors" if others else ""
        raise FileNotFoundError(
            f"{folder}: {', '.join(missing)} is missing{found}. Convert a checkpoint with "
            "transformers' model.save_pretrained(FOLDER)"
        )
    return files


def carried(folder: Path | None) -> list[Path]:
    """The files beside the weights that a saved model takes over, as far as they are there."""
    return [file for pattern in CARRIED if folder for file in folder.glob(pattern)]


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
