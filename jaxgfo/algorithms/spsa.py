"""Simultaneous perturbation stochastic approximation (Spall, 1992), MeZO (Malladi et al., 2023),
FZOO (Dang et al., 2025)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import shaping
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..noise import Generator, Kind, Noise
from ..operators import evolution
from ..operators.evolution import Optimizer, StrategyInfo, StrategyState
from ..operators.rounding import Rounding
from ..operators.schedules import Schedule
from ..population import LowRank, Seeded, signs


@algorithm
class SPSA:
    """Steps along random directions, each weighted by the slope of the fitness along it.

    The slope along noise z, from both sides or from one:
        p = (f(center + scale z) - f(center - scale z)) / (2 scale)
        p = (f(center + scale z) - f(center)) / scale
    and the gradient is estimated by the mean of p z. Members are drawn from keys and never stored,
    and the center is not touched for it: it is restored without drift. MeZO is two members, normal
    noise, plain steps of `sgd`. A probe that fails does not count.

    Attributes:
        scale: standard deviation of the noise.
        scale_schedule: a factor on it for every generation: `constant`, a schedule of optax with
            its numbers after the first value, which is 1, like `cosine_decay_schedule:500:0.1`; or,
            in Python, a function of the generation's number.
        learning_rate: of the optimiser.
        learning_rate_schedule: a factor on it, as for the scale.
        optimizer: name of an optimiser in optax; or, in Python, a function of the learning rate
            like `optax.adam`, or a ready transformation, whose own rate holds then.
        sides: `two`: every two members are one probe; `one`: member 0 is the center, every other
            one a probe.
        step: `plain`: the estimate itself; `sign`: its signs (Zhang et al., 2024, ZO-signSGD);
            `normalised`: differences over the standard deviation of the fitness instead of over the
            scale (FZOO; its learning rate over its scale is the learning rate here).
        noise: `normal`, `signs` (+1 or -1: Rademacher) or `table`.
        generator: of random words: `threefry2x32`, `threefry4x32`, `rbg` or `unsafe_rbg`.
        rank: of the noise of a matrix, as in `LowRank`; 0: full rank.
        rounding: of a center narrower than fp32: `none`, it is kept in fp32 as well, 4 bytes a
            parameter; or `stochastic`, up or down at random, right on average, without a copy.
        pop_size: members, at least 2; even with two sides. Of the very first generation the first
            member is the center, and the first probe one-sided.

    Reference: Spall (1992), doi:10.1109/9.119632; MeZO: Malladi et al. (2023), arXiv:2305.17333;
    FZOO: Dang et al. (2025), arXiv:2506.09034; signs: Zhang et al. (2024), arXiv:2402.11592; low
    rank: Chen et al. (2024), arXiv:2410.07698.
    """

    scale: Scalar = within(0.02, 1e-12)
    scale_schedule: Schedule = static("constant")
    learning_rate: Scalar = within(0.05, 0)
    learning_rate_schedule: Schedule = static("constant")
    optimizer: Optimizer = static("sgd")
    sides: Literal["two", "one"] = static("two")
    step: Literal["plain", "sign", "normalised"] = static("normalised")
    noise: Kind = static("signs")
    generator: Generator = static("threefry2x32")
    rank: int = static(0)
    rounding: Rounding = static("none")
    pop_size: int = static(8)

    least_members = 2

    def __post_init__(self) -> None:
        """Check the rank, and that probes have both sides."""
        if self.rank < 0:
            raise ValueError(f"SPSA: rank is {self.rank}; expected at least 1, or 0 for full rank")
        if self.sides == "two" and self.pop_size % 2:
            raise ValueError(
                f"SPSA: pop_size is {self.pop_size}; two-sided probes need an even number"
            )

    def init(self, key: Key, start: Params) -> StrategyState:
        """Begin at `start`; see `jaxgfo.init`."""
        return evolution.begin(self, start)

    def ask(self, key: Key, state: StrategyState) -> tuple[Population, StrategyState]:
        """The probes, as a `Seeded` or `LowRank` population."""
        two, noise = self.sides == "two", Noise(self.noise, self.generator)
        lead = jnp.where(state.step > 0, 1.0, 0.0) if two else jnp.zeros(())
        given = (state.center, key, evolution.scale(self, state), self.pop_size)
        if self.rank:
            return LowRank(*given, self.rank, noise, antithetic=two, lead=lead), state
        return Seeded(*given, noise, antithetic=two, lead=lead), state

    def tell(
        self, key: Key, state: StrategyState, population: Population, fitness: Fitness
    ) -> tuple[StrategyState, StrategyInfo]:
        """One step of the optimiser along the mean of p z."""
        rises, tried = self._rises(population, fitness)
        over = shaping.spread(fitness) if self.step == "normalised" else population.scale
        over = jnp.asarray(over, fitness.dtype)
        factors = rises / jnp.maximum(tried, 1) / jnp.where(over > 0, over, 1)
        slope = population.combine(factors)
        if self.step == "sign":
            slope = jax.tree.map(jnp.sign, slope)
        learnt = jnp.any(factors != 0)
        state, update = evolution.move(self, key, state, slope, learnt)
        return state, evolution.told(fitness, self._center(fitness), update, learnt)

    def _rises(
        self, population: Population, fitness: Fitness
    ) -> tuple[Float[Array, " noises"], Float[Array, ""]]:
        """The rise of fitness along one length of every noise, and how many are known."""
        if self.sides == "two":
            sign = signs(jnp.arange(self.pop_size), population.lead)
            a, b, apart = fitness[::2], fitness[1::2], sign[::2] - sign[1::2]
        else:  # member 0 has no noise; apart from itself it is 0
            a, b = fitness, jnp.broadcast_to(fitness[0], fitness.shape)
            apart = jnp.ones_like(fitness)
        known = jnp.isfinite(a) & jnp.isfinite(b)
        if self.sides == "one":
            known &= jnp.arange(self.pop_size) > 0
        rises = jnp.where(known, a - b, 0.0) / apart.astype(fitness.dtype)
        return rises, jnp.sum(known).astype(fitness.dtype)

    def _center(self, fitness: Fitness) -> Float[Array, ""]:
        """The fitness of the center: the mean of two-sided probes is that to second order."""
        if self.sides == "one":
            return fitness[0]
        middle = (fitness[::2] + fitness[1::2]) / 2
        finite = jnp.isfinite(middle)
        total = jnp.sum(jnp.where(finite, middle, 0.0))
        return jnp.where(jnp.any(finite), total / jnp.sum(finite).astype(total.dtype), jnp.inf)
