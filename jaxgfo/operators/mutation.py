"""Small random changes of a population, coordinate by coordinate, each with probability `rate`."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .. import bounds as box
from .. import draws, tree
from ..bounds import Bounds
from ..core import Key, Population, Scalar


def mutate(
    key: Key,
    population: Population,
    kind: str,
    rate: Scalar,
    scale: Scalar,
    bounds: Bounds | None,
) -> Population:
    """`population` (pop, ...) with every coordinate changed with probability `rate`.

    gaussian: x + scale * N(0, 1), real leaves; scale may be (pop,). bit_flip: a boolean is
    negated; one bit of an integer, counted from its lower bound, is flipped among those its bounds
    leave room for, and what lands above the upper bound is clipped.
    uniform_reset: a fresh uniform draw from the bounds (a fair coin for bits). auto: gaussian on
    real leaves, bit_flip on booleans, uniform_reset on integers.

    Raises:
        ValueError: a leaf whose dtype the mutation does not fit, or bounds missing where needed.
    """
    if kind == "gaussian":
        tree.require(tree.is_float, population, "gaussian mutation moves real numbers")
    if kind == "bit_flip":
        tree.require(
            lambda x: not tree.is_float(x), population, "bit_flip mutation needs bits or integers"
        )
    lower, upper = box.expand(bounds, population)

    def leaf(key, x, low, high):
        every = isinstance(rate, float | int) and rate >= 1
        hit_key, key = (key, key) if every else draws.split(key)
        hit = every or draws.uniform(hit_key, x.shape) < jnp.asarray(rate, jnp.float32)
        if tree.is_float(x) and kind != "uniform_reset":
            wide = tree.wide(x)
            size = jnp.asarray(scale)
            size = tree.rows(size, wide).astype(wide.dtype) if size.ndim else scale
            changed = wide + size * draws.normal(key, x.shape, wide.dtype)
        elif tree.is_bool(x) and kind != "uniform_reset":
            changed = ~x
        elif kind == "bit_flip":
            changed = _flip_one_bit(key, x, low, high)
        else:
            changed = box.draw(key, x, low, high)
        changed = changed.astype(x.dtype)
        return changed if every else jnp.where(hit, changed, x)

    return box.apply(bounds, tree.map_keys(leaf, key, population, lower, upper))


def neighbour(key: Key, population: Population, scale: Scalar, bounds: Bounds | None) -> Population:
    """One symmetric step of every member: the proposal of a Metropolis chain.

    Real leaves move by scale * N(0, 1). Of all bits and integers together exactly one, uniformly
    chosen, changes: a bit is negated, an integer takes another value of its bounds, each equally
    likely.

    Raises:
        ValueError: an integer leaf without bounds.
    """
    leaves, treedef = jax.tree.flatten(population)
    lower, upper = map(treedef.flatten_up_to, box.expand(bounds, population))
    discrete = [x for x in leaves if not tree.is_float(x)]
    site_key, key = draws.split(key) if discrete else (key, key)
    site = draws.integers(site_key, leaves[0].shape[:1], max(tree.row_size(discrete), 1))
    number = iter(tree.coordinates(discrete))

    def leaf(key, x, low, high):
        if tree.is_float(x):
            wide = tree.wide(x)
            return (wide + scale * draws.normal(key, x.shape, wide.dtype)).astype(x.dtype)
        hit = next(number) == tree.rows(site, x)
        return x ^ hit if tree.is_bool(x) else jnp.where(hit, _other(key, x, low, high), x)

    keys = tree.split(key, len(leaves))
    moved = [leaf(*args) for args in zip(keys, leaves, lower, upper)]
    return box.apply(bounds, treedef.unflatten(moved))


def _other(key: Key, x: Array, low: Any, high: Any) -> Array:
    if low is None or high is None:
        raise ValueError(
            f"integers of dtype {x.dtype} need bounds: pass bounds=Bounds(lower, upper)"
        )
    low, high = jnp.asarray(low).astype(x.dtype), jnp.asarray(high).astype(x.dtype)
    drawn = jax.random.randint(key, x.shape, low, jnp.maximum(high, low + 1), x.dtype)
    return jnp.minimum(drawn + (drawn >= x).astype(x.dtype), high)


def _flip_one_bit(key: Key, x: Array, low: Any, high: Any) -> Array:
    if low is None or high is None:
        raise ValueError(
            f"bit_flip on integers of dtype {x.dtype} needs bounds, which say how many bits there "
            "are: pass bounds=Bounds(0, 2**bits - 1)"
        )
    # Modular, so that the width of a signed dtype's whole range is right.
    low, high, offset = (jnp.asarray(v).astype(x.dtype).astype(jnp.uint32) for v in (low, high, x))
    width, offset = high - low, offset - low
    bits = 32 - jax.lax.clz(width)
    bit = jax.random.randint(key, x.shape, 0, jnp.maximum(bits, 1).astype(jnp.int32), jnp.int32)
    flipped = offset ^ (jnp.uint32(1) << bit.astype(jnp.uint32))
    return (jnp.minimum(flipped, width) + low).astype(x.dtype)
