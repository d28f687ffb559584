"""Which members become parents: indices into the population, from fitness that is minimised.

Every operator is safe for +inf (a failed evaluation) and -inf in any subset of the members.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import draws
from ..core import Fitness, Key


def roulette_weights(fitness: Fitness) -> Float[Array, " pop"]:
    """Non-negative weights (pop,) from minimised fitness, by windowing (Goldberg, 1989, ch. 3).

    w_i = f_worst - f_i, where f_worst is the worst finite fitness: any offset or sign of the
    fitness is allowed, and the worst finite member has weight 0. A failed member (+inf) has weight
    0; members at -inf share all the weight. Where that leaves no weight at all, every finite
    member, or failing that every member, has weight 1.
    """
    finite = jnp.isfinite(fitness)
    worst = jnp.max(jnp.where(finite, fitness, -jnp.inf))
    best = jnp.min(jnp.where(finite, fitness, jnp.inf))
    # Dividing by the range first keeps a range near the largest float from overflowing the sum;
    # the scale itself stays where its reciprocal is a normal number.
    limits = jnp.finfo(fitness.dtype)
    scale = jnp.clip(worst / 2 - best / 2, limits.tiny, limits.max / 64)
    windowed = jnp.where(finite, (worst / 2 - fitness / 2) / scale, 0.0)
    perfect = jnp.isneginf(fitness)
    weights = jnp.where(jnp.any(perfect), perfect.astype(fitness.dtype), windowed)
    flat = jnp.where(jnp.any(finite), finite, True).astype(fitness.dtype)
    return jnp.where(jnp.sum(weights) > 0, weights, flat)


def roulette(key: Key, fitness: Fitness, num: int) -> Int[Array, " num"]:
    """`num` members drawn with probability P_i = w_i / sum(w), w from `roulette_weights`."""
    weights = roulette_weights(fitness)
    wheel = jnp.cumsum(weights)
    ball = draws.uniform(key, (num,), wheel.dtype) * wheel[-1]
    # side="right" never stops on a member of weight zero, and rounding never runs off the end.
    index = jnp.searchsorted(wheel, ball, side="right")
    last = jnp.max(jnp.where(weights > 0, jnp.arange(weights.size), 0))
    return jnp.minimum(index, last).astype(jnp.int32)


def tournament(key: Key, fitness: Fitness, num: int, size: int) -> Int[Array, " num"]:
    """The winners of `num` tournaments between `size` members drawn with replacement.

    Reference: Blickle & Thiele (1996), doi:10.1162/evco.1996.4.4.361.
    """
    drawn = draws.integers(key, (num, size), fitness.size)
    winner = jnp.argmin(fitness[drawn], axis=1)
    return jnp.take_along_axis(drawn, winner[:, None], axis=1)[:, 0]


def truncation(key: Key, fitness: Fitness, num: int, share: float | int) -> Int[Array, " num"]:
    """`num` members drawn uniformly from the best `share` (at least one) of the population."""
    kept = max(1, round(share * fitness.size))
    best = jax.lax.top_k(-fitness, kept)[1]
    return best[draws.integers(key, (num,), kept)].astype(jnp.int32)


def distinct(
    key: Key, pop_size: int, pools: Sequence[int | Int[Array, ""]]
) -> tuple[Int[Array, " pop"], ...]:
    """One index per member and pool, all different from each other and from the member's own.

    Index k is uniform over what is free of 0 ... pools[k]-1; the pools may only grow.
    """
    taken, found = jnp.arange(pop_size, dtype=jnp.int32)[None], []
    for k, (pool_key, pool) in enumerate(zip(draws.split(key, len(pools)), pools)):
        index = draws.integers(pool_key, (pop_size,), pool - 1 - k)
        # Counting past the taken indices in rising order makes every free one equally likely.
        for used in jnp.sort(taken, axis=0):
            index = jnp.where(index >= used, index + 1, index)
        taken = jnp.concatenate([taken, index[None]])
        found.append(index)
    return tuple(found)
