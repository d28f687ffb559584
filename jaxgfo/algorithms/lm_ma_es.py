"""Limited-memory matrix adaptation (Loshchilov et al., 2017, arXiv:1705.06693)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .. import bounds as box
from .. import shaping, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import distribution
from ..population import repeat
from ..tree import Dtypes


class LMMAESState(NamedTuple):
    """State of `LMMAES`."""

    mean: Params  # (...) of the distribution, in wide precision
    sigma: Float[Array, ""]  # step size
    path: Params  # (...) p_sigma
    vectors: Params  # (m, ...) m_i
    updates: Int[Array, ""]  # of the vectors; the first so many of them are used
    dtypes: Dtypes  # dtypes of the candidate
    step: Int[Array, ""]  # generations told


class LMMAESInfo(NamedTuple):
    """What a generation of `LMMAES` shows."""

    sigma: Float[Array, ""]  # step size
    path: Float[Array, ""]  # root mean square of p_sigma: above 1, sigma grows
    learnt: Float[Array, ""]  # 1, or 0 where no member was better than another


@algorithm
class LMMAES:
    """Limited-memory matrix adaptation evolution strategy, for very many coordinates.

    x = mean + sigma d with d = P z, z ~ N(0, I). The matrix P is a product of m factors
    (1 - c_d,i) I + c_d,i m_i m_i^T and is never built: time and memory are O(m n). The direction
    vectors m_i and the path p_sigma are means of the selected z, fading over as many time
    scales as there are vectors; sigma grows where p_sigma is longer than that of random selection.

    The mean of the selected z is found from that of the selected d, by the inverses of the
    factors: no noise is stored or drawn again, and what bounds and rounding did is learnt. Its
    length is limited as Hansen (2011, arXiv:1110.4181) limits that of injected solutions; sigma
    changes by a factor of e at most in one generation.

    The paper's rates are for n much larger than pop_size. Here c_sigma = 2 pop_size / n, c_c,i =
    pop_size / (4^(i - 1) n) and c_d,i = 1 / (1.5^(i - 1) n) are at most 1/2.

    Attributes:
        m: direction vectors; None: 4 + floor(3 ln n) for n coordinates.
        init_scale: first step size sigma.
        bounds: the box searched; None: unbounded. Where the optimum lies on walls the search stops
            near it, not at it: there `SNES` is exact.
        pop_size: members, at least 2; the paper's choice is 4 + floor(3 ln n).

    Reference: Loshchilov, Glasmachers & Beyer (2017), "Large scale black-box optimization by
    limited-memory matrix adaptation", arXiv:1705.06693, algorithm 1.
    """

    m: int | None = static(None)
    init_scale: Scalar = within(0.05, 1e-12)
    bounds: Bounds | None = None
    pop_size: int = static(16)

    least_members = 2

    def __post_init__(self) -> None:
        """A distribution without a direction vector would be a sphere."""
        if self.m is not None and self.m < 1:
            raise ValueError(
                f"LMMAES: m is {self.m}; expected at least 1 direction vector, or None"
            )

    def init(self, key: Key, start: Params) -> LMMAESState:
        """Begin at `start` with a sphere; see `jaxgfo.init`."""
        mean, dtypes = distribution.begin(start, "LMMAES")
        num = 4 + math.floor(3 * math.log(tree.size(mean))) if self.m is None else self.m
        path = jax.tree.map(jnp.zeros_like, mean)
        vectors = jax.tree.map(lambda x: jnp.zeros((num, *x.shape), x.dtype), mean)
        sigma = jnp.asarray(self.init_scale, jnp.result_type(float))
        zero = jnp.zeros((), jnp.int32)
        return LMMAESState(mean, sigma, path, vectors, zero, dtypes, jnp.copy(zero))

    def ask(self, key: Key, state: LMMAESState) -> tuple[Population, LMMAESState]:
        """Draw the members."""
        z = tree.normal(key, repeat(state.mean, self.pop_size))
        kept, added = _stretched(_shares(state), _products(z, state.vectors), _gram(state.vectors))

        def leaf(x, vectors):
            along = jnp.tensordot(added, vectors, 1, precision="highest")
            return state.sigma * (kept * x + along)

        steps = jax.tree.map(leaf, z, state.vectors)
        return distribution.members(state.mean, steps, state.dtypes, state.step, self.bounds), state

    def center(self, state: LMMAESState) -> Params:
        """The mean, in the candidates' dtypes."""
        return state.dtypes.cast(state.mean)

    def tell(
        self, key: Key, state: LMMAESState, population: Population, fitness: Fitness
    ) -> tuple[LMMAESState, LMMAESInfo]:
        """Move the mean to the better members, and the path and the vectors with them."""
        size, num = tree.size(state.mean), jax.tree.leaves(state.vectors)[0].shape[0]
        table = distribution.recombination(self.pop_size)
        mass = 1 / np.sum(table**2)
        weights = shaping.by_rank(jnp.asarray(table, fitness.dtype), fitness)
        learnt = shaping.differ(fitness)
        move = distribution.weighted(
            weights, population, lambda x: distribution.deviations(x, state.mean)
        )
        mean = box.apply(self.bounds, tree.lift(jnp.add, state.mean, move))

        d = jax.tree.map(lambda x: x / state.sigma, move)
        along = _products(jax.tree.map(lambda x: x[None], d), state.vectors)[0]
        kept, added = _shrunk(_shares(state), along, _gram(state.vectors))
        z = jax.tree.map(
            lambda x, v: kept * x + jnp.tensordot(added, v, 1, precision="highest"),
            d,
            state.vectors,
        )
        # Where walls or rounding moved members in a narrow direction, it is out of all proportion.
        longest = math.sqrt(2) + 2 * math.sqrt(size) / (size + 2)
        length = math.sqrt(mass) * distribution.root_mean_square(z)
        z = jax.tree.map(lambda x: x * (longest / jnp.maximum(length, longest)), z)

        c_sigma = min(2 * self.pop_size / size, 0.5)
        rates = np.minimum(self.pop_size / (4.0 ** np.arange(num) * size), 0.5)
        path = _faded(state.path, np.asarray(c_sigma), mass, z)
        vectors = _faded(state.vectors, rates, mass, z)
        length = distribution.root_mean_square(path)
        sigma = distribution.grown(state.sigma, 0.5 * c_sigma * (jnp.square(length) - 1.0))

        updated = LMMAESState(
            mean, sigma, path, vectors, state.updates + 1, state.dtypes, state.step
        )
        state = jax.tree.map(lambda a, b: jnp.where(learnt, a, b), updated, state)
        length = distribution.root_mean_square(state.path)
        info = LMMAESInfo(state.sigma, length, learnt.astype(fitness.dtype))
        return state._replace(step=state.step + 1), info


def _shares(state: LMMAESState) -> Float[Array, " m"]:
    """c_d,i of the factors that are used, 0 of the others."""
    num = jax.tree.leaves(state.vectors)[0].shape[0]
    shares = np.minimum(1 / (1.5 ** np.arange(num) * tree.size(state.mean)), 0.5)
    used = jnp.arange(num) < state.updates
    return jnp.where(used, jnp.asarray(shares, jnp.result_type(float)), 0.0)


def _stretched(
    shares: Float[Array, " m"], along: Float[Array, "pop m"], gram: Float[Array, "m m"]
) -> tuple[Float[Array, ""], Float[Array, "pop m"]]:
    """P z as a share of z and of every vector: factor by factor (1 - c) x + c v (v^T x).

    Args:
        along: v_i^T z of every member.
        gram: v_i^T v_j.
    """

    def factor(so_far, item):
        kept, added = so_far
        index, share, products = item
        inner = kept * along[:, index] + added @ products  # v^T x
        return ((1 - share) * kept, ((1 - share) * added).at[:, index].set(share * inner)), None

    start = jnp.ones((), along.dtype), jnp.zeros_like(along)
    items = jnp.arange(shares.size), shares.astype(along.dtype), gram
    with jax.default_matmul_precision("highest"):
        return jax.lax.scan(factor, start, items)[0]


def _shrunk(
    shares: Float[Array, " m"], along: Float[Array, " m"], gram: Float[Array, "m m"]
) -> tuple[Float[Array, ""], Float[Array, " m"]]:
    """P^-1 d likewise, the last factor first: (x - c v (v^T x) / q) / (1 - c) (Sherman & Morrison).

    Args:
        along: v_i^T d of one candidate.
        gram: v_i^T v_j.
    """

    def factor(so_far, item):
        kept, added = so_far
        index, share, products = item
        inner = kept * along[index] + added @ products
        part = share * inner / (1 - share + share * products[index])
        return (kept / (1 - share), added.at[index].add(-part) / (1 - share)), None

    start = jnp.ones((), along.dtype), jnp.zeros_like(along)
    items = jnp.arange(shares.size), shares.astype(along.dtype), gram
    with jax.default_matmul_precision("highest"):
        return jax.lax.scan(factor, start, items, reverse=True)[0]


def _products(x: Population, vectors: Population) -> Float[Array, "pop m"]:
    """v^T x of every member and vector."""

    def leaf(a, v):
        rows = a.reshape(a.shape[0], -1), v.reshape(v.shape[0], -1)
        return jnp.einsum("pn,mn->pm", *rows, precision="highest")

    return jnp.asarray(sum(jax.tree.leaves(jax.tree.map(leaf, x, vectors))))


def _gram(vectors: Population) -> Float[Array, "m m"]:
    return _products(vectors, vectors)


def _faded(old: Population, rate: np.ndarray, mass: float, z: Params) -> Population:
    """(1 - c) old + sqrt(mass c (2 - c)) z, for one c or one per row of `old`."""
    keep, add = 1 - rate, np.sqrt(mass * rate * (2 - rate))  # in double: c may be 1e-30

    def leaf(x, z):
        kept, added = (tree.rows(jnp.asarray(c, x.dtype), x) for c in (keep, add))
        return kept * x + added * z

    return jax.tree.map(leaf, old, z)
