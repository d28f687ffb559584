"""Matrices as int8 with a scale: symmetric, so that the largest of a column or row is 127."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from ..core import Params

LARGEST = 127
SCALE = "_scale"  # of a leaf stands beside it, under its name and this
INPUTS = {"kernel": -2, "embedding": -1}  # the axis of a matrix whose numbers share a scale


def quantise(params: Params) -> Params:
    """`params` with int8 matrices: a kernel (..., inputs, outputs) has a scale for every output, an
    embedding (rows, width) for every row; other leaves are the same arrays.

    Args:
        params: nested dicts, in which matrices are called `kernel` and `embedding`.

    A scale has the dtype of the matrix; it is that of the model's activations.
    """
    return _walked(params, _narrow)


def dequantise(params: Params) -> Params:
    """Real matrices again, int8 times scale, in the dtype of the scale; the inverse of `quantise`
    up to half a scale.

    `model.quantised()` needs the int8 ones; the model it was made of takes these.
    """
    return _walked(params, _widen)


@functools.partial(jax.jit, static_argnames="axis")
def narrowed(x: Float[Array, "..."], axis: int) -> tuple[Int8[Array, "..."], Float[Array, "..."]]:
    """int8 of the shape of x, and the scales, which lack the axis."""
    wide = x.astype(jnp.float32)
    scale = (jnp.max(jnp.abs(wide), axis=axis) / LARGEST).astype(x.dtype)
    scale = jnp.where(scale > 0, scale, 1).astype(x.dtype)
    steps = jnp.round(wide / jnp.expand_dims(scale.astype(jnp.float32), axis))
    return jnp.clip(steps, -LARGEST, LARGEST).astype(jnp.int8), scale


def widened(x: Int8[Array, "..."], scale: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """x times its scales."""
    return x.astype(scale.dtype) * jnp.expand_dims(scale, axis)


def _walked(params: Any, change: Callable[[dict[str, Any], str], dict[str, Any]]) -> Any:
    if not isinstance(params, dict):
        return params
    new = {name: _walked(x, change) for name, x in params.items()}
    for name in INPUTS:
        new = change(new, name) if name in new else new
    return new


def _narrow(leaves: dict[str, Any], name: str) -> dict[str, Any]:
    if leaves[name].dtype == jnp.int8:
        return leaves
    matrix, scale = narrowed(leaves[name], INPUTS[name])
    return leaves | {name: matrix, name + SCALE: scale}


def _widen(leaves: dict[str, Any], name: str) -> dict[str, Any]:
    scale = leaves.get(name + SCALE)
    if scale is None:
        return leaves
    rest = {n: x for n, x in leaves.items() if n != name + SCALE}
    return rest | {name: widened(leaves[name], scale, INPUTS[name])}
