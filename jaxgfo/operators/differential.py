"""Differences of members, the moves of differential evolution."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import draws, tree
from ..core import Fitness, Key, Population, Scalar


def differential(
    base: Population, weight: Scalar, *pairs: tuple[Population, Population]
) -> Population:
    """base + F * sum(a - b) over the pairs; F a scalar or one per member (pop,)."""
    weight = jnp.asarray(weight)

    def leaf(x, *ends):
        total = sum(a - b for a, b in zip(ends[::2], ends[1::2]))
        return x + (tree.rows(weight, x) if weight.ndim else weight) * total

    return tree.lift(leaf, base, *(end for pair in pairs for end in pair))


def among_best(key: Key, fitness: Fitness, count: Scalar) -> Int[Array, " pop"]:
    """For every member one of the `count` best (a whole number), uniformly."""
    pick = jnp.floor(draws.uniform(key, fitness.shape) * count).astype(jnp.int32)
    return jnp.argsort(fitness)[pick].astype(jnp.int32)
