"""Fitness made into weights of a gradient estimate: whatever its scale, and however many failed."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .core import Fitness


def centred_ranks(fitness: Fitness) -> Float[Array, " pop"]:
    """Ranks from -0.5 (lowest fitness) to 0.5; equals share their mean rank.

    Reference: Salimans et al. (2017), arXiv:1703.03864, section 2.
    """
    lower = jnp.sum(fitness[None, :] < fitness[:, None], axis=1, dtype=fitness.dtype)
    equal = jnp.sum(fitness[None, :] == fitness[:, None], axis=1, dtype=fitness.dtype)
    others = fitness.shape[0] - 1
    # Twice the rank, less twice the mean rank: exactly 0 where all are equal.
    return (2 * lower + equal - 1 - others) / max(2 * others, 1)


def z_scores(fitness: Fitness) -> Float[Array, " pop"]:
    """Fitness less its mean, over its standard deviation; 0 where there is no spread.

    An evaluation that failed counts as much as the worst that did not.
    """
    finite = jnp.isfinite(fitness)
    highest = jnp.max(jnp.where(finite, fitness, -jnp.inf))
    lowest = jnp.min(jnp.where(finite, fitness, jnp.inf))
    inside = jnp.where(jnp.any(finite), jnp.clip(fitness, lowest, highest), 0.0)
    # Of numbers near the lowest one, so that a spread of a few bits is not lost in the mean.
    above = inside - jnp.where(jnp.any(finite), lowest, 0.0)
    centred = above - jnp.mean(above)
    spread = jnp.sqrt(jnp.mean(jnp.square(centred)))
    return jnp.where(spread > 0, centred / jnp.where(spread > 0, spread, 1.0), 0.0)


def by_rank(table: Float[Array, " pop"], fitness: Fitness) -> Float[Array, " pop"]:
    """What a table gives to every member's rank, lowest fitness first; equals share the mean.

    So weights that sum to 0 are 0 to a rounding where all members are equal; see `differ`.
    """
    lower = jnp.sum(fitness[None, :] < fitness[:, None], axis=1)
    equal = jnp.sum(fitness[None, :] == fitness[:, None], axis=1)
    before = jnp.concatenate([jnp.zeros(1, table.dtype), jnp.cumsum(table)])
    return (before[lower + equal] - before[lower]) / equal.astype(table.dtype)


def differ(fitness: Fitness) -> Bool[Array, ""]:
    """Whether there is anything to learn: some members that did not fail, and not all alike."""
    return jnp.any(fitness != fitness[0])


def spread(fitness: Fitness) -> Float[Array, ""]:
    """Standard deviation of the fitness of members that did not fail."""
    finite = jnp.isfinite(fitness)
    count = jnp.maximum(jnp.sum(finite), 1).astype(fitness.dtype)
    mean = jnp.sum(jnp.where(finite, fitness, 0.0)) / count
    return jnp.sqrt(jnp.sum(jnp.where(finite, jnp.square(fitness - mean), 0.0)) / count)


SHAPINGS = {"ranks": centred_ranks, "z-scores": z_scores}
