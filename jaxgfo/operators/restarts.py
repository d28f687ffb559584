"""What a restart begins with: IPOP (Auger & Hansen, 2005) and BIPOP (Hansen, 2009)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import bounds as box
from .. import draws, tree
from ..bounds import Bounds
from ..core import Key, Params, Scalar

MOST_DOUBLINGS = 9  # as in Hansen (2009)
NEVER = 2**31 - 1


class Runs(NamedTuple):
    """The run at hand and those before it: int32 numbers."""

    index: Int[Array, ""]  # runs before this one
    default: Int[Array, ""]  # pop_size of the first run
    doublings: Int[Array, ""]  # runs with twice the largest population before
    small: Int[Array, ""]  # 1 where this run is of BIPOP's regime of small populations
    spent_large: Int[Array, ""]  # evaluations of finished runs of one regime
    spent_small: Int[Array, ""]  # and of the other
    last_large: Int[Array, ""]  # of the last finished run with a large population
    limit: Int[Array, ""]  # evaluations after which this run ends


def first(pop_size: int) -> Runs:
    """The first run; to BIPOP it counts as one with a small population."""
    return _numbers(0, pop_size, 0, 1, 0, 0, 0, NEVER)


def following(
    key: Key, runs: Runs, evaluations: int, *, bipop: bool
) -> tuple[Runs, int, float] | None:
    """The next run, its pop_size, and what its first step size is multiplied with.

    IPOP doubles the population. BIPOP does that too where its runs with large populations have
    spent no more evaluations than those with small ones, and else draws a pop_size between the
    default and half the largest, and a step size down to a hundredth.

    Args:
        key: for BIPOP's draws.
        runs: as the state of the run that ended has it.
        evaluations: of that run.
        bipop: BIPOP rather than IPOP.

    Returns:
        None once the population has been doubled nine times.
    """
    index, default, doublings, small, spent_large, spent_small, last_large, _ = map(int, runs)
    if small:
        spent_small = min(spent_small + evaluations, NEVER)
    else:
        spent_large, last_large = min(spent_large + evaluations, NEVER), evaluations
    if bipop and spent_small < spent_large:
        u, v = map(float, jax.random.uniform(key, (2,)))
        pop_size = math.floor(default * (0.5 * 2**doublings) ** (u**2))
        limit = max(last_large // 2, pop_size)
        spent = (spent_large, spent_small, last_large, limit)
        return _numbers(index + 1, default, doublings, 1, *spent), pop_size, 10 ** (-2 * v)
    if doublings == MOST_DOUBLINGS:
        return None
    doublings += 1
    spent = (spent_large, spent_small, last_large, NEVER)
    return _numbers(index + 1, default, doublings, 0, *spent), default * 2**doublings, 1.0


def elsewhere(key: Key, start: Params, init_scale: Scalar, bounds: Bounds | None) -> Params:
    """Where a run begins: uniform in the bounds where finite, else start + init_scale N(0, 1).

    What is not bounded on both sides still stays inside.
    """
    lower, upper = box.expand(bounds, start)

    def leaf(key, x, low, high):
        uniform_key, normal_key = draws.split(key)
        wide = tree.wide(x)
        around = wide + init_scale * draws.normal(normal_key, x.shape, wide.dtype)
        if low is None or high is None:
            return around.astype(x.dtype)
        closed = jnp.isfinite(jnp.asarray(low)) & jnp.isfinite(jnp.asarray(high))
        uniform = box.draw(uniform_key, wide, low, high)
        return jnp.where(closed, uniform, around).astype(x.dtype)

    return box.apply(bounds, tree.map_keys(leaf, key, start, lower, upper))


def _numbers(*values: int) -> Runs:
    return Runs(*(jnp.asarray(value, jnp.int32) for value in values))
