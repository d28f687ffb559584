"""Populations that hold every member: a row for each in every leaf."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .. import bounds as box
from .. import draws, tree
from ..bounds import Bounds
from ..core import Key, Params, Population, Scalar


def repeat(start: Params, pop_size: int) -> Population:
    """`pop_size` copies of one candidate: leaves (pop, ...)."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (pop_size, *x.shape)), start)


def initial(
    key: Key,
    start: Params,
    pop_size: int,
    init_scale: Scalar | None,
    bounds: Bounds | None,
    begins: bool | Bool[Array, ""] = True,
) -> Population:
    """The first population: `start` itself in row 0, the others around it.

    Real leaves are `start` + `init_scale` * N(0, 1), or uniform in the bounds when `init_scale` is
    None; bits are fair coins and integers uniform in their bounds. Row 0 is `start` unchanged,
    also where it lies outside the bounds, so that no run ends worse than it began; only where
    `begins`.

    Raises:
        ValueError: bounds are missing where a uniform draw needs them.
    """
    copies = repeat(start, pop_size)
    lower, upper = box.expand(bounds, copies)

    def leaf(k, x, low, high):
        if tree.is_float(x) and init_scale is not None:
            wide = tree.wide(x)
            return (wide + init_scale * draws.normal(k, x.shape, wide.dtype)).astype(x.dtype)
        return box.draw(k, x, low, high)

    spread = box.apply(bounds, tree.map_keys(leaf, key, copies, lower, upper))
    first = begins & (jnp.arange(pop_size) == 0)
    return jax.tree.map(lambda x, s: jnp.where(tree.rows(first, x), s, x), spread, start)
