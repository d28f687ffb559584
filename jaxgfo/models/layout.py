"""Which tensors a checkpoint has, and which parameters each of them holds."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..tree import STACK
from .families import Family

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint.

    Attributes:
        name: in the checkpoint.
        paths: of the parameters it holds: one, or several fused along their outputs.
        sizes: outputs of each of them.
        shape: in the checkpoint.
        layer: index into the leading axis of the parameters; None: they have no such axis.
        transposed: whether the checkpoint holds [out, in] and the parameters [in, out].
        heads: fused head by head: how many heads; 0: one parameter after another.
    """

    name: str
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    layer: int | None = None
    transposed: bool = False
    heads: int = 0

    def split(self, array: np.ndarray) -> list[np.ndarray]:
        """The parts of the parameters that lie in it, in the order of `paths`."""
        array = array.T if self.transposed else array
        if not self.heads:
            return np.split(array, np.cumsum(self.sizes)[:-1], axis=-1)
        shape = array.shape[:-1]
        by_head = array.reshape(*shape, self.heads, len(self.paths), -1)
        return [by_head[..., i, :].reshape(*shape, -1) for i in range(len(self.paths))]

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The tensor as the checkpoint holds it: the inverse of `split`."""
        array = np.concatenate(parts, axis=-1)
        if self.heads:
            shape = array.shape[:-1]
            by_head = [part.reshape(*shape, self.heads, -1) for part in parts]
            array = np.stack(by_head, axis=-2).reshape(array.shape)
        # In order, for what is written is the memory as it lies.
        return np.ascontiguousarray(array.T if self.transposed else array)


def expected(shapes: Mapping[str, Any], family: Family, heads: int) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    Args:
        shapes: path -> what has the shape of the parameter.
        family: how its tensors are called.
        heads: query heads of a layer.
    """
    tensors = {}
    for ours, theirs in family.names.items():
        stems = _alternatives(ours)
        for leaf, suffix in LEAVES.items():
            paths = tuple(f"{stem}.{leaf}" for stem in stems)
            if paths[0] in shapes:
                made = _tensors(paths, f"{theirs}.{suffix}", shapes, family, heads)
                tensors |= {tensor.name: tensor for tensor in made}
    held = {path for tensor in tensors.values() for path in tensor.paths}
    assert held == set(shapes), f"no name for {sorted(set(shapes) - held)}"
    return tensors


def _tensors(
    paths: tuple[str, ...], name: str, shapes: Mapping[str, Any], family: Family, heads: int
) -> Iterator[Tensor]:
    stacked = STACK in paths[0]
    first, *others = (shapes[path].shape[stacked:] for path in paths)
    sizes = (first[-1], *(shape[-1] for shape in others))
    kernel = paths[0].endswith(".kernel")
    # The head is an ordinary linear layer even where the blocks' are stored the other way.
    transposed = kernel and (family.stored == "out,in" or not stacked)
    shape = (*first[:-1], sum(sizes))
    for layer in range(shapes[paths[0]].shape[0]) if stacked else [None]:
        yield Tensor(
            name=name if layer is None else name.replace("*", str(layer)),
            paths=paths,
            sizes=sizes,
            shape=shape[::-1] if transposed else shape,
            layer=layer,
            transposed=transposed,
            heads=heads if family.by_head and len(paths) > 1 else 0,
        )


def _alternatives(pattern: str) -> list[str]:
    """`a.{b,c}` as [a.b, a.c]."""
    match = re.fullmatch(r"(.*)\{(.*)\}(.*)", pattern)
    if not match:
        return [pattern]
    return [f"{match[1]}{middle}{match[3]}" for middle in match[2].split(",")]
