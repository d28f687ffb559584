"""A center narrower than fp32 that small moves still move."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import draws, tree
from ..core import Key, Params

Rounding = Literal["none", "stochastic"]


def copies(center: Params, rounding: Rounding) -> dict[str, Array]:
    """Leaves narrower than the default float in full precision, by path; none if moves are rounded
    at random."""
    leaves = {} if rounding == "stochastic" else tree.flat_paths(center)
    return {path: tree.wide(x) for path, x in leaves.items() if tree.wide(x).dtype != x.dtype}


def add(
    key: Key, center: Params, exact: dict[str, Array], moves: Params, rounding: Rounding
) -> tuple[Params, dict[str, Array]]:
    """center + moves, and the copies in full precision where there are some."""
    leaves = tree.flat_paths(center)
    steps = dict(zip(leaves, jax.tree.leaves(moves)))
    kept = {path: x + steps[path] for path, x in exact.items()}
    keys = draws.split(key, len(leaves)) if rounding == "stochastic" else [key] * len(leaves)

    def moved(key, path, x):
        total = kept.get(path, tree.wide(x) + steps[path])
        narrow = rounding == "stochastic" and total.dtype != x.dtype
        return round_at_random(key, total, x.dtype) if narrow else total.astype(x.dtype)

    new = [moved(k, path, x) for k, (path, x) in zip(keys, leaves.items())]
    return jax.tree.unflatten(jax.tree.structure(center), new), kept


def round_at_random(key: Key, x: Float[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """x in a narrower dtype: one of its two neighbours there, with x as the mean.

    Reference: Gupta et al. (2015), "Deep learning with limited numerical precision",
    arXiv:1502.02551, section 3.1.
    """
    near = x.astype(dtype)
    rest = x - near.astype(x.dtype)
    towards = jnp.where(rest > 0, jnp.inf, -jnp.inf).astype(dtype)
    other = jnp.where(rest == 0, near, jnp.nextafter(near, towards))
    step = jnp.abs(other.astype(x.dtype) - near.astype(x.dtype))
    chance = jnp.where(step > 0, jnp.abs(rest) / jnp.where(step > 0, step, 1), 0)
    return jnp.where(draws.uniform(key, x.shape, x.dtype) < chance, other, near)
