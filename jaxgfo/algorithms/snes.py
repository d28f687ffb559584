"""Separable natural evolution strategy (Wierstra et al., 2014, JMLR 15, 949-980)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import bounds as box
from .. import shaping, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import distribution
from ..population import repeat
from ..tree import Dtypes


class SNESState(NamedTuple):
    """State of `SNES`."""

    mean: Params  # (...) of the distribution, in wide precision
    sigma: Params  # (...) standard deviation of every coordinate
    dtypes: Dtypes  # dtypes of the candidate
    step: Int[Array, ""]  # generations told


class SNESInfo(NamedTuple):
    """What a generation of `SNES` shows."""

    sigma: Float[Array, ""]  # geometric mean of the standard deviations
    learnt: Float[Array, ""]  # 1, or 0 where no member was better than another


@algorithm
class SNES:
    """Separable natural evolution strategy: a normal distribution, a deviation per coordinate.

    x = mean + sigma s with s ~ N(0, I). With utilities u of the ranks, mean <- mean + eta_mu sigma
    sum u s and sigma <- sigma exp(eta_sigma / 2 sum u (s^2 - 1)), coordinate by coordinate. Time
    and memory are linear in the coordinates; what couples them is not learnt.

    A standard deviation changes by a factor of e at most in one generation.

    Attributes:
        mean_rate: eta_mu.
        sigma_rate: eta_sigma; None: (3 + ln n) / (5 sqrt(n)) for n coordinates.
        init_scale: first standard deviation of every coordinate.
        bounds: the box searched; None: unbounded. What `wrap` moved is learnt where it came to lie.
        pop_size: members, at least 2; the paper's choice is 4 + floor(3 ln n).

    Reference: Wierstra et al. (2014), "Natural evolution strategies", JMLR 15, 949-980, section
    3.4; the defaults are those of its table 1.
    """

    mean_rate: Scalar = within(1.0, 0)
    sigma_rate: Scalar | None = within(None, 0)
    init_scale: Scalar = within(0.05, 1e-12)
    bounds: Bounds | None = None
    pop_size: int = static(16)

    least_members = 2

    def init(self, key: Key, start: Params) -> SNESState:
        """Begin at `start`; see `jaxgfo.init`."""
        mean, dtypes = distribution.begin(start, "SNES")
        sigma = jax.tree.map(lambda x: jnp.full(x.shape, self.init_scale, x.dtype), mean)
        return SNESState(mean, sigma, dtypes, jnp.zeros((), jnp.int32))

    def ask(self, key: Key, state: SNESState) -> tuple[Population, SNESState]:
        """Draw the members."""
        noise = tree.normal(key, repeat(state.mean, self.pop_size))
        steps = jax.tree.map(jnp.multiply, noise, repeat(state.sigma, self.pop_size))
        return distribution.members(state.mean, steps, state.dtypes, state.step, self.bounds), state

    def center(self, state: SNESState) -> Params:
        """The mean, in the candidates' dtypes."""
        return state.dtypes.cast(state.mean)

    def tell(
        self, key: Key, state: SNESState, population: Population, fitness: Fitness
    ) -> tuple[SNESState, SNESInfo]:
        """One step along the natural gradient."""
        weights = shaping.by_rank(distribution.utilities(self.pop_size), fitness)
        learnt, size = shaping.differ(fitness), tree.size(state.mean)

        def terms(x):
            away = distribution.deviations(x, state.mean)
            return away, jax.tree.map(distribution.excess, away, state.sigma)

        move, slope = distribution.weighted(weights, population, terms)
        moved = tree.lift(lambda m, d: m + self.mean_rate * d, state.mean, move)
        mean = box.apply(self.bounds, moved)
        rate = (3 + math.log(size)) / (5 * math.sqrt(size))
        rate = rate if self.sigma_rate is None else self.sigma_rate
        sigma = jax.tree.map(lambda s, g: distribution.grown(s, 0.5 * rate * g), state.sigma, slope)
        mean = tree.where(learnt, mean, state.mean)
        sigma = tree.where(learnt, sigma, state.sigma)
        info = SNESInfo(distribution.geometric(sigma), learnt.astype(fitness.dtype))
        return SNESState(mean, sigma, state.dtypes, state.step + 1), info
