"""Separable CMA-ES (Ros & Hansen, 2008, doi:10.1007/978-3-540-87700-4_30)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import bounds as box
from .. import tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import cumulation, distribution, stopping
from ..operators.cumulation import CumulationInfo
from ..operators.stopping import History
from ..population import repeat
from ..shaping import differ


class SepCMAState(NamedTuple):
    """State of `SepCMAES`; trees (...) of floats of the default dtype at least."""

    mean: Params  # m
    dtypes: tree.Dtypes  # of the candidate's leaves
    sigma: Float[Array, ""]  # σ, step size
    variance: Params  # the diagonal of C
    sigma_path: Params  # p_σ
    path: Params  # p_c
    history: History
    step: Int[Array, ""]  # generations told


@algorithm
class SepCMAES:
    """CMA-ES with a diagonal covariance: memory and time of a generation grow with n alone.

    Members are N(m, σ² C), C diagonal: every coordinate has a scale of its own, and none depends on
    another. The covariance is learnt (n + 2) / 3 times as fast as by `CMAES`, of which all else is,
    but for weights of the worse half and restarts.

    Attributes:
        init_scale: σ of the first generation; a third of the distance to the optimum is good.
        bounds: the box searched; None: unbounded.
        pop_size: members, at least 4; the paper has 4 + floor(3 ln n).

    Reference: Ros & Hansen (2008), doi:10.1007/978-3-540-87700-4_30; defaults but pop_size as in
    Hansen (2016), arXiv:1604.00772.
    """

    init_scale: Scalar = within(0.05, 2.0**-126)
    bounds: Bounds | None = None
    pop_size: int = static(16)

    least_members = 4

    def init(self, key: Key, start: Params) -> SepCMAState:
        """Begin at `start`; see `jaxgfo.init`."""
        tree.require(tree.is_float, start, "SepCMAES moves real numbers")
        mean = jax.tree.map(tree.wide, start)
        return SepCMAState(
            mean=mean,
            dtypes=tree.dtypes(start),
            sigma=cumulation.first_sigma(self.init_scale),
            variance=jax.tree.map(jnp.ones_like, mean),
            sigma_path=jax.tree.map(jnp.zeros_like, mean),
            path=jax.tree.map(jnp.zeros_like, mean),
            history=stopping.begin(tree.size(start), self.pop_size),
            step=jnp.zeros((), jnp.int32),
        )

    def ask(self, key: Key, state: SepCMAState) -> tuple[Population, SepCMAState]:
        """Members m + σ C^(1/2) N(0, I); row 0 of the first population is the start."""
        center = box.apply(self.bounds, state.mean)
        moves = jax.tree.map(
            lambda z, v: state.sigma * jnp.sqrt(v) * z,
            tree.normal(key, repeat(center, self.pop_size)),
            state.variance,
        )
        moved = state.dtypes.cast(jax.tree.map(jnp.add, center, moves))
        population = box.apply(self.bounds, moved)
        start = state.dtypes.cast(state.mean)
        return distribution.led_by(population, start, state.step == 0), state

    def tell(
        self, key: Key, state: SepCMAState, population: Population, fitness: Fitness
    ) -> tuple[SepCMAState, CumulationInfo]:
        """Move the mean, the step size and the variances towards the better half."""
        n, learnt = tree.size(state.mean), differ(fitness)
        moved = tree.where(learnt, self._moved(state, population, fitness), state)
        history = stopping.record(state.history, fitness)
        state = moved._replace(history=history, step=state.step + 1)
        deviation = jax.tree.map(jnp.sqrt, state.variance)
        leaves = jax.tree.leaves(deviation)
        highest, lowest = (jnp.stack([f(x) for x in leaves]) for f in (jnp.max, jnp.min))
        ratio = jnp.max(highest) / jnp.min(lowest)
        stopped = stopping.stagnates(history, fitness, n, state.step)
        stopped |= stopping.degenerates(
            state.mean, deviation, state.path, state.sigma, self.init_scale
        )
        dtype = fitness.dtype
        info = CumulationInfo(state.sigma, ratio, learnt.astype(dtype), stopped.astype(dtype))
        return state, info

    def center(self, state: SepCMAState) -> Params:
        """The mean, in the candidates' dtypes."""
        return state.dtypes.cast(state.mean)

    def _moved(self, state: SepCMAState, population: Population, fitness: Fitness) -> SepCMAState:
        rates = cumulation.rates(tree.size(state.mean), self.pop_size, diagonal=True)
        center = box.apply(self.bounds, state.mean)

        def moments(x: Params) -> tuple[Params, Params]:
            _, step = cumulation.steps(state.mean, state.sigma, x, self.bounds)
            white = jax.tree.map(jnp.divide, step, deviation)
            reach = cumulation.within_reach(rates, jnp.square(cumulation.norm(white)))
            step = jax.tree.map(lambda y: reach * y, step)
            return step, jax.tree.map(jnp.square, step)

        deviation = jax.tree.map(jnp.sqrt, state.variance)
        weights = cumulation.weigh(rates.better, fitness)
        mean_step, second = distribution.weighted(weights, population, moments)
        sigma, sigma_path, path, kept = cumulation.adapt(
            rates,
            state.sigma,
            state.sigma_path,
            state.path,
            jax.tree.map(jnp.divide, mean_step, deviation),
            mean_step,
            state.step,
        )
        limit = cumulation.largest(sigma.dtype)

        def learn(v, p, s):
            change = rates.rank_one * (p * p + (kept - 1) * v) + rates.rank_mu * (s - v)
            return jnp.clip(v + change, 1 / limit, limit)

        return state._replace(
            mean=jax.tree.map(lambda m, y: m + state.sigma * y, center, mean_step),
            sigma=sigma,
            variance=jax.tree.map(learn, state.variance, path, second),
            sigma_path=sigma_path,
            path=path,
        )
