"""What search distributions share: a mean in wide precision, and members drawn around it.

They learn from the members that were evaluated: rounded to the candidate's dtype, inside the box.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import bounds as box
from .. import tree
from ..bounds import Bounds
from ..core import Params, Population, Scalar
from ..tree import Dtypes

FARTHEST = 10.0  # standard deviations: no draw lies beyond, what a wall or rounding moved may


def begin(start: Params, name: str) -> tuple[Params, Dtypes]:
    """`start` in wide precision, and the dtypes of its leaves.

    Raises:
        ValueError: a leaf that is not real.
    """
    tree.require(tree.is_float, start, f"{name} moves real numbers")
    return jax.tree.map(tree.wide, start), tree.dtypes(start)


def members(
    mean: Params, steps: Population, dtypes: Dtypes, step: Int[Array, ""], bounds: Bounds | None
) -> Population:
    """mean + steps (pop, ...), in the candidate's dtypes and inside the box.

    Member 0 is the mean itself, also where it lies outside the box, in generation 0.
    """
    centers, treedef = jax.tree.flatten(mean)

    def narrow(x, dtype):
        limits = jnp.finfo(dtype)
        return jnp.clip(x, limits.min.astype(x.dtype), limits.max.astype(x.dtype)).astype(dtype)

    moved = [
        narrow(x + s, dtype) for x, s, dtype in zip(centers, jax.tree.leaves(steps), dtypes.leaves)
    ]
    still = [narrow(x, dtype) for x, dtype in zip(centers, dtypes.leaves)]
    inside = box.apply(bounds, treedef.unflatten(moved))
    return led_by(inside, treedef.unflatten(still), step == 0)


def led_by(population: Population, start: Params, begins: Bool[Array, ""]) -> Population:
    """The population with the start in row 0, where a search begins."""

    def leaf(x, s):
        # Not a row that is set: an update in place would draw the members one number at a time.
        first = begins & (jnp.arange(x.shape[0]) == 0)
        return jnp.where(tree.rows(first, x), s, x)

    return jax.tree.map(leaf, population, start)


def deviations(population: Population, center: Params) -> Population:
    """x - center of one member or of all (pop, ...), in wide precision."""
    return jax.tree.map(lambda x, c: tree.wide(x) - tree.wide(c), population, center)


def weighted(
    weights: Float[Array, " pop"], population: Population, of: Callable[[Params], Params]
) -> Params:
    """sum_k w_k of(x_k), one member after the other: no second population is made.

    As a reduction over the first axis it took 10 s for 16 members of a million coordinates, on a
    CPU with JAX 0.10, and 5 ms like this.
    """

    def add(total, member):
        weight, x = member
        return jax.tree.map(lambda t, v: t + weight.astype(v.dtype) * v, total, of(x)), None

    one = jax.eval_shape(of, jax.tree.map(lambda x: x[0], population))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), one)
    return jax.lax.scan(add, nothing, (weights, population))[0]


def excess(away: Array, sigma: Array) -> Array:
    """s^2 - 1 of s = (x - mean) / sigma."""
    return jnp.square(jnp.clip(away / sigma, -FARTHEST, FARTHEST)) - 1.0


def grown(sigma: Array, exponent: Scalar) -> Array:
    """sigma * exp(exponent), by a factor of e at most, where its square is a normal number."""
    limits = jnp.finfo(sigma.dtype)
    low, high = np.sqrt(float(limits.tiny)), np.sqrt(float(limits.max))
    factor = jnp.exp(jnp.clip(exponent, -1.0, 1.0)).astype(sigma.dtype)
    return jnp.clip(sigma * factor, sigma.dtype.type(low), sigma.dtype.type(high))


def utilities(pop_size: int) -> Float[Array, " pop"]:
    """Weights of NES by rank, best first: they sum to 0.

    Reference: Wierstra et al. (2014), JMLR 15, section 3.1.
    """
    raw = np.maximum(0.0, np.log(pop_size / 2 + 1) - np.log(np.arange(1, pop_size + 1)))
    return jnp.asarray(raw / raw.sum() - 1 / pop_size, jnp.result_type(float))


def recombination(pop_size: int) -> np.ndarray:
    """Weights of the mean of the better half by rank, best first (pop,): they sum to 1.

    Reference: Hansen & Ostermeier (2001), doi:10.1162/106365601750190398, with the logarithms of
    Loshchilov et al. (2017), arXiv:1705.06693, algorithm 1.
    """
    half = pop_size // 2
    raw = np.maximum(0.0, np.log(half + 0.5) - np.log(np.arange(1, pop_size + 1)))
    return raw / raw.sum()


def geometric(sigma: Params) -> Float[Array, ""]:
    """Geometric mean of all coordinates."""
    total = sum(jnp.sum(jnp.log(x)) for x in jax.tree.leaves(sigma))
    return jnp.exp(jnp.asarray(total) / tree.size(sigma))


def root_mean_square(values: Params) -> Float[Array, ""]:
    """Root mean square of all coordinates."""
    total = sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(values))
    return jnp.sqrt(jnp.asarray(total) / tree.size(values))
