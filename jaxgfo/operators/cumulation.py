"""What the CMA strategies share: weights, learning rates, evolution paths and the step size.

Reference: Hansen (2016), The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772: its table 1 has
the defaults, its figure 6 the algorithm.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import bounds as box
from .. import tree
from ..bounds import Bounds
from ..core import Fitness, Params, Population, Scalar
from ..shaping import by_rank


class CumulationInfo(NamedTuple):
    """What a generation of a CMA strategy shows."""

    sigma: Float[Array, ""]  # step size of the next generation
    axis_ratio: Float[Array, ""]  # longest over shortest axis of the distribution
    learnt: Float[Array, ""]  # 0 where members were all alike or all failed, else 1
    stopped: Float[Array, ""]  # 1 where this run should end: see `operators.stopping`


class Rates(NamedTuple):
    """What follows from the numbers of coordinates and of members alone: plain numbers."""

    n: int  # coordinates
    better: np.ndarray  # (pop,) w_i by rank where positive, else 0; they sum to 1
    worse: np.ndarray  # (pop,) w_i by rank where negative, else 0
    mu_eff: float  # variance effective selection mass
    sigma_path: float  # c_σ
    damping: float  # d_σ
    path: float  # c_c
    rank_one: float  # c_1
    rank_mu: float  # c_μ
    length: float  # E||N(0, I)||


def rates(n: int, pop_size: int, *, active: bool = False, diagonal: bool = False) -> Rates:
    """The defaults of table 1.

    Args:
        n: coordinates.
        pop_size: members, at least 2.
        active: negative weights for the worse half.
        diagonal: the covariance has n numbers only and is learnt (n + 2) / 3 times as fast (Ros &
            Hansen, 2008, section 3).
    """
    raw = math.log((pop_size + 1) / 2) - np.log(np.arange(1, pop_size + 1))
    half = np.arange(pop_size) < pop_size // 2
    better, worse = np.where(half, raw, 0), np.where(half, 0, raw)
    mu_eff = better.sum() ** 2 / np.sum(better**2)
    faster = (n + 2) / 3 if diagonal else 1
    rank_one = min(1, faster * 2 / ((n + 1.3) ** 2 + mu_eff))
    most = faster * 2 * (1 / 4 + mu_eff + 1 / mu_eff - 2) / ((n + 2) ** 2 + mu_eff)
    rank_mu = min(1 - rank_one, most)
    sigma_path = (mu_eff + 2) / (n + mu_eff + 5)
    total = 0.0
    if active:
        against = worse.sum() ** 2 / np.sum(worse**2)
        total = min(
            1 + rank_one / rank_mu,
            1 + 2 * against / (mu_eff + 2),
            (1 - rank_one - rank_mu) / (n * rank_mu),  # so that C stays positive definite
        )
    return Rates(
        n=n,
        better=better / better.sum(),
        worse=worse / -worse.sum() * total,
        mu_eff=float(mu_eff),
        sigma_path=float(sigma_path),
        damping=float(1 + 2 * max(0, math.sqrt((mu_eff - 1) / (n + 1)) - 1) + sigma_path),
        path=float((4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)),
        rank_one=float(rank_one),
        rank_mu=float(rank_mu),
        length=math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2)),
    )


def weigh(table: np.ndarray, fitness: Fitness) -> Float[Array, " pop"]:
    """What a table gives to every member's rank; equals share."""
    return by_rank(jnp.asarray(table, fitness.dtype), fitness)


def largest(dtype: Any) -> float:
    """Step sizes and variances stay between this and its inverse: their product is finite."""
    return math.sqrt(float(jnp.finfo(dtype).max)) / 2


def bounded(sigma: Float[Array, ""]) -> Float[Array, ""]:
    """The nearest step size that arithmetic in its dtype can work with."""
    return jnp.clip(sigma, 1 / largest(sigma.dtype), largest(sigma.dtype))


def within_reach(rates: Rates, square: Float[Array, "*pop"]) -> Float[Array, "*pop"]:
    """Factors that cut steps of these squared Mahalanobis lengths to the longest ever drawn.

    N(0, I) is longer than sqrt(n) + 7 once in 4e10 draws. A step that is longer was rounded or
    brought back from a wall, and would teach a step size that has nothing to do with fitness
    (Hansen, 2011, arXiv:1110.4181, cuts injected solutions like this).
    """
    longest = math.sqrt(rates.n) + 7
    return jnp.minimum(1.0, longest / jnp.sqrt(jnp.maximum(square, 1.0)))


def cumulate(path: Params, rate: float, factor: Any, step: Params) -> Params:
    """(1 - rate) path + factor step, of trees."""
    return jax.tree.map(lambda p, y: (1 - rate) * p + factor * y, path, step)


def norm(values: Params) -> Float[Array, ""]:
    """Euclidean length of a tree."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(values)))


def adapt(
    rates: Rates,
    sigma: Float[Array, ""],
    sigma_path: Params,
    path: Params,
    whitened: Params,
    step: Params,
    generation: Int[Array, ""],
) -> tuple[Float[Array, ""], Params, Params, Float[Array, ""]]:
    """One generation of both paths and of the step size.

    Args:
        rates: of the numbers of coordinates and members.
        sigma: σ, the step size.
        sigma_path, path: p_σ and p_c.
        whitened: C^(-1/2) step.
        step: <y>_w, the weighted mean of (x - m) / σ of the better half.
        generation: of this run, from 0.

    Returns:
        σ, p_σ, p_c, and what the covariance's old value gains where p_c waits for p_σ.
    """
    factor = math.sqrt(rates.sigma_path * (2 - rates.sigma_path) * rates.mu_eff)
    sigma_path = cumulate(sigma_path, rates.sigma_path, factor, whitened)
    length = norm(sigma_path)
    change = rates.sigma_path / rates.damping * (length / rates.length - 1)
    # At most e times as large, whatever was rounded.
    sigma = bounded(sigma * jnp.exp(jnp.minimum(change, 1.0)))
    moves = ~halted(rates, length, generation)
    factor = math.sqrt(rates.path * (2 - rates.path) * rates.mu_eff)
    path = cumulate(path, rates.path, jnp.where(moves, factor, 0.0), step)
    return sigma, sigma_path, path, jnp.where(moves, 0.0, rates.path * (2 - rates.path))


def halted(rates: Rates, length: Float[Array, ""], generation: Int[Array, ""]) -> Bool[Array, ""]:
    """1 - h_σ: whether p_σ is so long that σ is still too small for p_c to mean anything."""
    told = (generation + 1).astype(length.dtype)
    grown = jnp.sqrt(1 - (1 - rates.sigma_path) ** (2 * told))
    return length / grown >= (1.4 + 2 / (rates.n + 1)) * rates.length


def first_sigma(init_scale: Scalar) -> Float[Array, ""]:
    """The step size to begin with."""
    return bounded(jnp.asarray(init_scale, jnp.result_type(float)))


def steps(
    mean: Params, sigma: Float[Array, ""], population: Population, bounds: Bounds | None
) -> tuple[Params, Population]:
    """The mean, and every member's (x - m) / σ, as they were rounded and brought inside the bounds.

    The start may lie outside: its step counts from the mean to the wall, like everything else.
    """
    center, limit = box.apply(bounds, mean), largest(sigma.dtype)
    inside = box.apply(bounds, population)

    def leaf(x, m):
        return jnp.clip((tree.wide(x) - m) / sigma, -limit, limit)

    return center, jax.tree.map(leaf, inside, center)
