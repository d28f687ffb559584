"""When a run of a CMA strategy ends (Hansen, 2009, doi:10.1145/1570256.1570333).

The criteria have the paper's names. Its thresholds are for double precision; where the dtype is
narrower, those that rounding would hide give way to a few of its steps.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..core import Fitness, Params, Scalar
from .cumulation import largest

History = Float[Array, "2 length"]  # best and median fitness of generations, the newest last
LONGEST = 1000  # generations in a history, also where the paper has more


def begin(n: int, pop_size: int) -> History:
    """The history before the first generation: all failed."""
    return jnp.full((2, min(LONGEST, math.ceil(120 + 30 * n / pop_size))), jnp.inf)


def record(history: History, fitness: Fitness) -> History:
    """The history with one generation more, and without the oldest."""
    new = jnp.stack([jnp.min(fitness), _median(fitness)])
    return jnp.concatenate([history[:, 1:], new[:, None]], axis=1)


def stagnates(
    history: History, fitness: Fitness, n: int, generation: Int[Array, ""]
) -> Bool[Array, ""]:
    """TolHistFun, Stagnation and MaxIter.

    Args:
        history: ends with this fitness (pop,).
        fitness: of the last generation.
        n: coordinates.
        generation: how many were told in this run.
    """
    pop_size, length = fitness.shape[0], history.shape[1]
    recent = history[0, -min(length, 10 + math.ceil(30 * n / pop_size)) :]
    low = jnp.minimum(jnp.min(recent), jnp.min(fitness))
    high = jnp.maximum(jnp.max(recent), jnp.max(fitness))
    tolerance = 4 * jnp.finfo(history.dtype).eps * jnp.abs(low)
    # Infinities make inf or NaN of the difference, which is no reason to stop.
    flat = high - low <= jnp.maximum(tolerance, 1e-12)
    part = max(1, round(0.3 * length))
    newest, oldest = (jax.vmap(_median)(x) for x in (history[:, -part:], history[:, :part]))
    stagnant = (generation >= length) & jnp.all(newest >= oldest)
    most = 100 + 50 * (n + 3) ** 2 / math.sqrt(pop_size)
    late = generation >= min(int(most), jnp.iinfo(jnp.int32).max)
    return flat | stagnant | late


def degenerates(
    mean: Params,
    deviation: Params,
    path: Params,
    sigma: Float[Array, ""],
    init_scale: Scalar,
) -> Bool[Array, ""]:
    """TolX, NoEffectCoord and TolUpSigma.

    Args:
        mean, path: trees of floats, m and p_c.
        deviation: the same shapes, the square roots of C's diagonal.
        sigma: step size.
        init_scale: the one that the run began with.
    """
    leaves = list(zip(*map(jax.tree.leaves, (mean, deviation, path))))
    widest = [jnp.max(jnp.maximum(d, jnp.abs(p))) for _, d, p in leaves]
    small = sigma * jnp.max(jnp.stack(widest)) < 1e-12 * init_scale
    idle = jnp.any(jnp.stack([jnp.any(m == m + 0.2 * sigma * d) for m, d, _ in leaves]))
    most = min(largest(sigma.dtype), 1e20)
    return small | idle | (sigma >= most * jnp.minimum(1.0, init_scale))


def ill_conditioned(axis_ratio: Float[Array, ""]) -> Bool[Array, ""]:
    """ConditionCov, for the square root of C's condition."""
    most = min(1e14, 0.5 / float(jnp.finfo(axis_ratio.dtype).eps))
    return axis_ratio > math.sqrt(most)


def _median(x: Float[Array, " num"]) -> Float[Array, ""]:
    # One of the values: the mean of two would make NaN of infinities.
    return jnp.sort(x)[(x.shape[0] - 1) // 2]
