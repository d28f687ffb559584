"""Parallel tempering, replica exchange (Swendsen & Wang, 1986; Geyer, 1991)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import draws, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import annealing
from ..operators.mutation import neighbour
from ..population import initial


class TemperingState(NamedTuple):
    """State of `ParallelTempering`."""

    population: Population  # (pop, ...) where the replicas stand, coldest first
    fitness: Fitness  # (pop,), +inf before the first tell
    hottest: Float[Array, ""]  # T of the last replica; 0 until it is calibrated
    step: Int[Array, ""]  # generations told


class TemperingInfo(NamedTuple):
    """What a generation of `ParallelTempering` shows."""

    accepted: Float[Array, ""]  # share of proposals that were accepted
    exchanged: Float[Array, ""]  # share of replicas that changed places
    hottest: Float[Array, ""]  # T of the hottest replica


@algorithm
class ParallelTempering:
    """Metropolis chains at fixed temperatures that exchange places with their neighbours.

    Temperatures are a geometric ladder from `coldest_ratio` * T to T. After every generation
    replicas (0, 1), (2, 3) ... or (1, 2), (3, 4) ..., in turn, change places with probability
    min(1, exp((1/T_i - 1/T_j)(E_i - E_j))).

    Attributes:
        temperature: T of the hottest replica, in units of fitness; None: calibrated in the first
            generations from `acceptance`, as in `SimulatedAnnealing`.
        acceptance: target rate of accepted rises at the hottest replica, in (0, 1).
        coldest_ratio: coldest over hottest temperature, in (0, 1]; None: 1e-3 where a leaf is real,
            0.1 for bits and integers, whose smallest rise is near the others
            (`python -m benchmarks discrete`).
        scale: standard deviation of a step of the real leaves.
        init_scale: standard deviation of the replicas' starts around `start`; None: uniform in
            `bounds`. Bits are fair coins and integers uniform in their bounds.
        bounds: the box searched; None: unbounded. Integers need one.
        pop_size: replicas, at least 2.

    Reference: Swendsen & Wang (1986), doi:10.1103/PhysRevLett.57.2607; Earl & Deem (2005),
    doi:10.1039/b509983h.
    """

    temperature: Scalar | None = within(None, 0)
    acceptance: Scalar = within(0.5, 1e-6, 1 - 1e-6)
    coldest_ratio: Scalar | None = within(None, 1e-30, 1)
    scale: Scalar = within(0.01, 0)
    init_scale: Scalar | None = within(0.05, 0)
    bounds: Bounds | None = None
    pop_size: int = static(4)

    least_members = 2

    def init(self, key: Key, start: Params) -> TemperingState:
        """Place the replicas around `start`; see `jaxgfo.init`."""
        population = initial(key, start, self.pop_size, self.init_scale, self.bounds)
        fitness = jnp.full((self.pop_size,), jnp.inf)
        zero = jnp.zeros((), jnp.int32)
        return TemperingState(population, fitness, jnp.zeros(()), zero)

    def ask(self, key: Key, state: TemperingState) -> tuple[Population, TemperingState]:
        """One proposal for every replica."""
        moved = neighbour(key, state.population, self.scale, self.bounds)
        return tree.where(state.step == 0, state.population, moved), state

    def tell(
        self, key: Key, state: TemperingState, population: Population, fitness: Fitness
    ) -> tuple[TemperingState, TemperingInfo]:
        """Accept or refuse, replica by replica, then exchange neighbours."""
        accept_key, exchange_key = draws.split(key)
        hottest = annealing.start_temperature(
            self.temperature, state.hottest, state.fitness, fitness, self.acceptance
        )
        rung = jnp.arange(self.pop_size) / (self.pop_size - 1)
        ladder = hottest * self._ratio(population) ** (1.0 - rung)
        accepted = annealing.metropolis(accept_key, state.fitness, fitness, ladder)
        population = tree.where(accepted, population, state.population)
        fitness = jnp.where(accepted, fitness, state.fitness)
        partner = self._partners(exchange_key, ladder, fitness, state.step)
        population, fitness = tree.take(population, partner), fitness[partner]
        info = TemperingInfo(
            jnp.mean(accepted, dtype=fitness.dtype),
            jnp.mean(partner != jnp.arange(self.pop_size), dtype=fitness.dtype),
            hottest,
        )
        return TemperingState(population, fitness, hottest, state.step + 1), info

    def remembered(self, state: TemperingState) -> Population:
        """Where the replicas stand."""
        return state.population

    def reassess(self, state: TemperingState, fitness: Fitness) -> TemperingState:
        """The replicas with this fitness."""
        return state._replace(fitness=fitness)

    def _ratio(self, population: Population) -> Scalar:
        if self.coldest_ratio is not None:
            return self.coldest_ratio
        return 1e-3 if tree.any_float(population) else 0.1

    def _partners(
        self, key: Key, ladder: Array, energy: Fitness, step: Array
    ) -> Int[Array, " pop"]:
        """Whose place each replica takes: its neighbour's, or its own (pop,)."""
        own = jnp.arange(self.pop_size, dtype=jnp.int32)
        up = (own + step) % 2 == 0
        other = jnp.where(up, own + 1, own - 1)
        other = jnp.where((other < 0) | (other >= self.pop_size), own, other)
        beta = 1.0 / jnp.maximum(ladder, jnp.finfo(ladder.dtype).tiny)
        fall = jnp.where(energy == energy[other], 0.0, energy - energy[other])
        # Both of a pair must reach one decision: they compare one number, the lower one's.
        u = draws.uniform(key, (self.pop_size,))[jnp.minimum(own, other)]
        apart = beta - beta[other]
        gain = jnp.where((apart == 0) | (fall == 0), 0.0, apart * fall)
        return jnp.where(u < jnp.exp(jnp.minimum(gain, 0.0)), other, own)
