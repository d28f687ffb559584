"""Recombination as masks: which coordinates a child takes from its second parent.

A mask is a tree of booleans (pop, ...) of the members' shapes. A member's leaves count as one
string, in the order of the flattened tree, so a cut may fall inside a leaf or between two.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from .. import draws, tree
from ..core import Key, Population, Scalar

Masks = PyTree[Bool[Array, "..."]]


def single_point(key: Key, parents: Population) -> Masks:
    """Everything after a cut, uniform over the size-1 places between two coordinates.

    Two loci i, j part company with probability |i - j| / (size - 1) (Holland, 1975).
    """
    pop, length = _shape(parents)
    if length < 2:
        return _masks(parents, lambda i, like: jnp.zeros(like.shape, bool))
    cut = 1 + draws.integers(key, (pop,), length - 1)
    return _masks(parents, lambda i, like: i >= tree.rows(cut, like))


def two_point(key: Key, parents: Population) -> Masks:
    """Everything between two different cuts; one cut where a string has only one place for it."""
    pop, length = _shape(parents)
    if length < 3:
        return single_point(key, parents)
    first_key, second_key = draws.split(key)
    first = 1 + draws.integers(first_key, (pop,), length - 1)
    second = 1 + draws.integers(second_key, (pop,), length - 2)
    second = jnp.where(second >= first, second + 1, second)  # uniform over the other places
    low, high = jnp.minimum(first, second), jnp.maximum(first, second)
    return _masks(
        parents, lambda i, like: (i >= tree.rows(low, like)) & (i < tree.rows(high, like))
    )


def uniform(key: Key, parents: Population) -> Masks:
    """Every coordinate by the toss of a fair coin (Syswerda, 1989)."""
    return tree.map_keys(lambda k, x: draws.coins(k, x.shape), key, parents)


def binomial(key: Key, parents: Population, crossover: Scalar) -> Masks:
    """Every coordinate with probability CR, and one uniformly chosen coordinate for certain.

    Reference: Storn & Price (1997), eq. 4, doi:10.1023/A:1008202821328. CR may be (pop,).
    """
    noise_key, sure_key = draws.split(key)
    pop, length = _shape(parents)
    sure = draws.integers(sure_key, (pop,), length)
    rate = jnp.broadcast_to(crossover, (pop,)).astype(jnp.float32)
    noise = tree.uniform(noise_key, parents)
    return jax.tree.map(
        lambda i, u: (u < tree.rows(rate, u)) | (i == tree.rows(sure, u)),
        tree.coordinates(parents),
        noise,
    )


def exponential(key: Key, parents: Population, crossover: Scalar) -> Masks:
    """A run of coordinates from a random start, around the end: length L, P(L >= v) = CR^(v-1).

    Reference: Storn & Price (1995), ICSI TR-95-012. CR may be (pop,).
    """
    start_key, length_key = draws.split(key)
    pop, length = _shape(parents)
    start = draws.integers(start_key, (pop,), length)
    # L = 1 + floor(ln u / ln CR) has that law for u uniform on (0, 1].
    u = 1.0 - draws.uniform(length_key, (pop,))
    rate = jnp.broadcast_to(crossover, (pop,)).astype(jnp.float32)
    ratio = jnp.log(u) / jnp.log(jnp.clip(rate, 1e-30, 1.0))
    run = jnp.where(rate >= 1.0, jnp.float32(length), 1.0 + jnp.floor(ratio))
    run = jnp.minimum(run, jnp.float32(length)).astype(jnp.int32)
    return _masks(
        parents,
        lambda i, like: jnp.mod(i - tree.rows(start, like), length) < tree.rows(run, like),
    )


def _shape(parents: Population) -> tuple[int, int]:
    return jax.tree.leaves(parents)[0].shape[0], tree.row_size(parents)


def _masks(parents: Population, inside: Callable[[Array, Array], Array]) -> Masks:
    return jax.tree.map(inside, tree.coordinates(parents), parents)
