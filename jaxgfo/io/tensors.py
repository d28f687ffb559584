"""The tensors of a checkpoint into parameters and back, a few at a time.

Reading never holds a second copy of the model: parameters are filled in the dtype that is asked
for, the largest first, each from one tensor at a time.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from ..models.families import Family
from ..models.layout import Tensor
from ..models.quantised import INPUTS, SCALE, widened
from ..models.sharding import Placement
from .folder import INDEX

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
BLOCK = 2**23  # bytes of a tensor read at a time


class Found(NamedTuple):
    """A tensor in a file, not read yet."""

    file: Path
    shape: tuple[int, ...]
    dtype: str  # as safetensors call it


class Checkpoint(NamedTuple):
    """What lies in the files of a checkpoint, checked against what should."""

    found: dict[str, Found]
    tensors: dict[str, Tensor]  # those to be read, or written again
    buffers: dict[str, Path]


def inspect(files: Iterable[Path], expected: Mapping[str, Tensor], family: Family) -> Checkpoint:
    """Look at names, shapes and dtypes, before anything is read.

    Raises:
        ValueError: a file that is not safetensors; or tensors that are missing, unexpected, of the
            wrong shape or of a dtype that is not real: all of them together.
    """
    found, faults = {}, []
    files = list(files)
    for file in files:
        for name, entry in _entries(file):
            if name in found:
                faults.append(f"{name} is in {found[name].file.name} and in {file.name}")
            found[name] = entry
    tensors = _named_as_found(expected, family.prefix, found)
    kept, again, buffers = {}, {}, {}
    tied = _tied_head(tensors, family)
    for name, (file, shape, dtype) in found.items():
        tensor = tensors.get(name) or tied.get(name)
        if tensor is None:
            if re.fullmatch(family.buffers, name):
                buffers[name] = file
            else:
                faults.append(f"unexpected {name}")
        elif dtype not in DTYPES:
            faults.append(f"{name} is of dtype {dtype}, expected one of {', '.join(DTYPES)}")
        elif shape != tensor.shape:
            faults.append(f"{name} has shape {shape}, expected {tensor.shape}")
        else:
            (again if name in tied else kept)[name] = tensor
    faults += [f"missing {name}" for name in tensors if name not in found]
    if faults:
        more = f"; and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise ValueError(
            f"{files[0].parent}: the tensors do not fit config.json: {'; '.join(faults[:20])}{more}"
        )
    return Checkpoint(found, kept | again, buffers)  # those seen again come last


def read(
    checkpoint: Checkpoint, shapes: Mapping[str, Any], dtype: Any, placement: Placement
) -> dict[str, jax.Array]:
    """The parameters by path.

    Args:
        checkpoint: what `inspect` gave.
        shapes: path -> what has the shape of the parameter.
        dtype: of the parameters; None: as in the checkpoint.
        placement: path and shape -> sharding; None: JAX's default device.

    Raises:
        ValueError: layers of one parameter have several dtypes, and none was asked for.
    """
    sources: dict[tuple[str, ...], list[Tensor]] = {}
    for tensor in checkpoint.tensors.values():
        sources.setdefault(tensor.paths, []).append(tensor)
    held: dict[str, jax.Array] = {}

    def size(paths):
        return sum(np.prod(shapes[path].shape) for path in paths)

    # The largest first: what is held twice for a moment is then small beside what is there.
    for paths in sorted(sources, key=size, reverse=True):
        tensors = sources[paths]
        kind = jnp.dtype(dtype) if dtype is not None else _one_dtype(tensors, checkpoint.found)
        filled = {path: aligned(shapes[path].shape, kind) for path in paths}
        seen = set()
        for tensor in tensors:
            if tensor.layer in seen:  # a tied head, after the embedding that it is
                continue
            seen.add(tensor.layer)
            _fill(filled, tensor, checkpoint.found[tensor.name])
        for path in paths:
            held[path] = _placed(filled.pop(path), placement(path, shapes[path].shape))
    return held


def write(
    folder: Path,
    tensors: Mapping[str, Tensor],
    params: Mapping[str, jax.Array],
    buffers: Mapping[str, Path],
    *,
    dtype: Any,
    max_shard_size: int | str,
) -> set[str]:
    """Write the checkpoint's files, one at a time in memory; returns the dtypes written."""
    from huggingface_hub import split_state_dict_into_shards_factory
    from safetensors.numpy import save_file

    kinds = {
        name: jnp.dtype(dtype) if dtype is not None else _real(params, tensor.paths[0]).dtype
        for name, tensor in tensors.items()
    }
    extra = {name: found for file in set(buffers.values()) for name, found in _entries(file)}

    def size(held):
        (name,) = held  # a bare string would be passed over
        if name in tensors:
            return int(np.prod(tensors[name].shape)) * kinds[name].itemsize
        return int(np.prod(extra[name].shape)) * WIDTHS.get(extra[name].dtype, 8)

    plan = split_state_dict_into_shards_factory(
        {name: (name,) for name in [*tensors, *buffers]},
        get_storage_size=size,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_size,
    )

    def array(name):
        if name in buffers:
            return _array(extra[name], name)
        return _gathered(tensors[name], params).astype(kinds[name], copy=False)

    for file, names in plan.filename_to_tensors.items():
        arrays = {name: np.asarray(array(name), order="C") for name in names}
        save_file(arrays, folder / file, metadata={"format": "pt"})
        # safetensors makes its file readable by its owner alone; the others follow the umask.
        (folder / file).chmod((folder / "config.json").stat().st_mode)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / INDEX).write_text(text, encoding="utf-8")
    return {str(kind) for kind in kinds.values()}


WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Empty memory that begins where XLA wants it: on a CPU it then becomes the array itself."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def _fill(filled: dict[str, np.ndarray], tensor: Tensor, found: Found) -> None:
    if len(tensor.paths) == 1:
        target = filled[tensor.paths[0]]
        target = target if tensor.layer is None else target[tensor.layer]
        target = target.T if tensor.transposed else target
        for rows, block in _blocks(tensor.name, found):
            target[rows] = block
        return
    for path, part in zip(tensor.paths, tensor.split(_array(found, tensor.name))):
        filled[path][tensor.layer if tensor.layer is not None else ...] = part


def _blocks(name: str, found: Found) -> Iterator[tuple[slice, np.ndarray]]:
    """A tensor a few rows at a time; the file is opened anew each time, so that no more of it
    stays mapped into memory.
    """
    rows = found.shape[0]
    width = int(np.prod(found.shape[1:])) * WIDTHS[found.dtype]
    step = max(1, BLOCK // max(width, 1))
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        with _opened(found.file) as file:
            yield block, file.get_slice(name)[block]


def _array(found: Found, name: str) -> np.ndarray:
    with _opened(found.file) as file:
        return file.get_tensor(name)


def _placed(array: np.ndarray, sharding: jax.sharding.Sharding | None) -> jax.Array:
    if sharding is None:  # jnp.asarray would copy, whatever the alignment
        return jax.device_put(array, may_alias=True)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _gathered(tensor: Tensor, params: Mapping[str, jax.Array]) -> np.ndarray:
    def part(path):
        layer = ... if tensor.layer is None else tensor.layer
        scale = params.get(path + SCALE)
        if scale is None:
            return params[path][layer]
        return widened(params[path][layer], scale[layer], INPUTS[path.rpartition(".")[2]])

    return tensor.join([np.asarray(part(path)) for path in tensor.paths])


def _real(params: Mapping[str, jax.Array], path: str) -> jax.Array:
    """What has the dtype of a parameter, or that of its scale where it is int8."""
    return params.get(path + SCALE, params[path])


def _named_as_found(
    expected: Mapping[str, Tensor], prefix: str, found: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Without the prefix, where no tensor of the checkpoint has it."""
    if any(name.startswith(prefix) for name in found):
        return dict(expected)
    short = [replace(t, name=t.name.removeprefix(prefix)) for t in expected.values()]
    return {tensor.name: tensor for tensor in short}


def _tied_head(tensors: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """A tied head that some checkpoints hold all the same: the embedding under another name."""
    name = f"{family.names['head']}.weight"
    if name in tensors:
        return {}
    embed = next(t for t in tensors.values() if t.paths == ("embed.embedding",))
    return {name: replace(embed, name=name)}


def _one_dtype(tensors: list[Tensor], found: Mapping[str, Found]) -> Any:
    dtypes = {DTYPES[found[tensor.name].dtype] for tensor in tensors}
    if len(dtypes) > 1:
        raise ValueError(
            f"{tensors[0].name} and its likes in other layers are {' and '.join(sorted(dtypes))}: "
            "say which one is wanted, with dtype="
        )
    return jnp.dtype(dtypes.pop())


def _entries(file: Path) -> Iterator[tuple[str, Found]]:
    with _opened(file) as opened:
        for name in opened.keys():  # noqa: SIM118 (not a dict)
            entry = opened.get_slice(name)
            yield name, Found(file, tuple(entry.get_shape()), entry.get_dtype())


def _opened(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    _ = ml_dtypes  # imported: NumPy knows bfloat16 by it
    try:
        return safe_open(file, framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"{file} is not a safetensors file: {error}") from error
