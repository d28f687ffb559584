"""Differential evolution (Storn & Price, 1997, doi:10.1023/A:1008202821328)."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import bounds as box
from .. import draws, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators.crossover import binomial, exponential
from ..operators.differential import among_best, differential
from ..operators.selection import distinct
from ..population import initial


class DifferentialState(NamedTuple):
    """State of `DifferentialEvolution`."""

    population: Population  # (pop, ...) parents
    fitness: Fitness  # (pop,), +inf before the first tell
    step: Int[Array, ""]  # generations told


class DifferentialInfo(NamedTuple):
    """What a generation of `DifferentialEvolution` shows."""

    accepted: Float[Array, ""]  # share of trials that replaced their parent


@algorithm
class DifferentialEvolution:
    """Differential evolution DE/strategy/recombination on real vectors.

    A trial is the crossover of parent x_i with the mutant v_i, and replaces x_i if it is no worse.
    `rand/1`: v = x_r1 + F (x_r2 - x_r3). `best/1`: v = x_best + F (x_r1 - x_r2).
    `current-to-best/1`: v = x_i + F (x_best - x_i) + F (x_r1 - x_r2). `current-to-pbest/1`
    (Zhang & Sanderson, 2009): the same with x_pbest, one of the best `p` share. All r differ from
    each other and from i.

    Attributes:
        weight: F, the differential weight, in [0, 2].
        crossover: CR, the crossover probability, in [0, 1].
        strategy: how the mutant is made.
        recombination: `binomial` (each coordinate with probability CR, one for certain) or
            `exponential` (a run of coordinates).
        p: share of the population that counts as best for `current-to-pbest/1`.
        init_scale: standard deviation of the first population around the start; None: uniform in
            `bounds`.
        bounds: the box searched; None: unbounded.
        pop_size: members, at least 4.

    Reference: Storn & Price (1997), doi:10.1023/A:1008202821328. Their first choice for F, 0.5, is
    the default.
    """

    weight: Scalar = within(0.5, 0, 2)
    crossover: Scalar = within(0.5, 0, 1)
    strategy: Literal["rand/1", "best/1", "current-to-best/1", "current-to-pbest/1"] = static(
        "rand/1"
    )
    recombination: Literal["binomial", "exponential"] = static("binomial")
    p: Scalar = within(0.1, 0, 1)
    init_scale: Scalar | None = within(0.05, 0)
    bounds: Bounds | None = None
    pop_size: int = static(16)

    least_members = 4

    def init(self, key: Key, start: Params) -> DifferentialState:
        """Scatter the population around `start`; see `jaxgfo.init`."""
        tree.require(
            tree.is_float,
            start,
            "DifferentialEvolution moves real numbers; use GeneticAlgorithm or SimulatedAnnealing",
        )
        population = initial(key, start, self.pop_size, self.init_scale, self.bounds)
        fitness = jnp.full((self.pop_size,), jnp.inf)
        return DifferentialState(population, fitness, jnp.zeros((), jnp.int32))

    def ask(self, key: Key, state: DifferentialState) -> tuple[Population, DifferentialState]:
        """One trial for every parent."""
        mutant_key, cross_key = draws.split(key)
        mutants = self._mutants(mutant_key, state.population, state.fitness)
        cross = binomial if self.recombination == "binomial" else exponential
        masks = cross(cross_key, state.population, self.crossover)
        trials = box.apply(self.bounds, tree.select(masks, mutants, state.population))
        return tree.where(state.step == 0, state.population, trials), state

    def tell(
        self, key: Key, state: DifferentialState, population: Population, fitness: Fitness
    ) -> tuple[DifferentialState, DifferentialInfo]:
        """Each trial replaces its parent if it is no worse."""
        better = fitness <= state.fitness
        survivors = tree.where(better, population, state.population)
        fitness = jnp.minimum(fitness, state.fitness)
        info = DifferentialInfo(jnp.mean(better, dtype=fitness.dtype))
        return DifferentialState(survivors, fitness, state.step + 1), info

    def remembered(self, state: DifferentialState) -> Population:
        """The parents."""
        return state.population

    def reassess(self, state: DifferentialState, fitness: Fitness) -> DifferentialState:
        """The parents with this fitness."""
        return state._replace(fitness=fitness)

    def _mutants(self, key: Key, x: Population, fitness: Fitness) -> Population:
        index_key, best_key = draws.split(key)
        count = 3 if self.strategy == "rand/1" else 2
        r1, r2, *r3 = distinct(index_key, self.pop_size, [self.pop_size] * count)
        if self.strategy == "rand/1":
            return differential(
                tree.take(x, r1), self.weight, (tree.take(x, r2), tree.take(x, r3[0]))
            )
        if self.strategy == "current-to-pbest/1":
            count = jnp.maximum(1.0, jnp.round(self.p * self.pop_size))
            best = among_best(best_key, fitness, count)
        else:
            best = jnp.broadcast_to(jnp.argmin(fitness), (self.pop_size,))
        leaders, pair = tree.take(x, best), (tree.take(x, r1), tree.take(x, r2))
        if self.strategy == "best/1":
            return differential(leaders, self.weight, pair)
        return differential(x, self.weight, (leaders, x), pair)
