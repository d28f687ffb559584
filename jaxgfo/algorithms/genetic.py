"""The genetic algorithm (Holland, 1975; Goldberg, 1989), generational with elitism."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import draws, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import crossover, selection
from ..operators.mutation import mutate
from ..population import initial


class GeneticState(NamedTuple):
    """State of `GeneticAlgorithm`."""

    population: Population  # (pop, ...) parents
    fitness: Fitness  # (pop,), +inf before the first tell
    scale: Float[Array, " pop"]  # mutation scale of every member of the population asked for
    parent_scale: Float[Array, " pop"]  # and of every parent
    step: Int[Array, ""]  # generations told


class GeneticInfo(NamedTuple):
    """What a generation of `GeneticAlgorithm` shows."""

    elites: Float[Array, ""]  # share of elites that outlived the generation's offspring


@algorithm
class GeneticAlgorithm:
    """Genetic algorithm on real vectors, bits and integers.

    Pairs of selected parents are recombined into pairs of children (complementary masks), every
    child is mutated, and the children replace their parents but for the elites.

    Attributes:
        selection: `roulette` draws parents with P_i = w_i / sum(w), w_i = f_worst - f_i;
            `tournament` takes the best of `tournament_size` members drawn with replacement;
            `truncation` draws from the best `truncation` share.
        tournament_size: k, at least 1.
        truncation: share of the population, in (0, 1].
        crossover: `single_point`, `two_point`, `uniform`, or `arithmetic` (real leaves: the mean
            of the parents weighted by one U(0, 1) a pair).
        crossover_rate: p_c, the probability that a pair is recombined rather than copied.
        mutation: `gaussian` (real leaves), `bit_flip` (bits, integers), `uniform_reset` (within
            the bounds), or `auto`: gaussian on real leaves, bit_flip on booleans, uniform_reset
            on integers.
        mutation_rate: p_m, probability per coordinate; None: 1 / number of coordinates
            (Mühlenbein, 1992) for a tree of bits and integers, 1 where a leaf is real.
        mutation_scale: standard deviation of the gaussian mutation; with `adaptation` of the first
            one.
        adaptation: c of self-adaptation: a child's own scale is the geometric mean of its parents'
            times exp(c N(0, 1) / sqrt(2 n)), n coordinates, and mutates the child with that (Bäck
            & Schwefel, 1993, doi:10.1162/evco.1993.1.1.1, with c = 1); None: one scale for ever.
        elites: best parents that compete with the offspring for a place.
        init_scale: standard deviation of the first population around the start; None: uniform in
            `bounds`. Bits are fair coins and integers uniform in their bounds.
        bounds: the box searched; None: unbounded. Integers need one.
        pop_size: members, at least 2.

    Reference: J. H. Holland (1975), "Adaptation in natural and artificial systems"; D. E. Goldberg
    (1989), "Genetic algorithms in search, optimization and machine learning".
    """

    selection: Literal["tournament", "roulette", "truncation"] = static("tournament")
    tournament_size: int = static(2)
    truncation: float | int = static(0.5)
    crossover: Literal["uniform", "single_point", "two_point", "arithmetic"] = static("uniform")
    crossover_rate: Scalar = within(0.9, 0, 1)
    mutation: Literal["auto", "gaussian", "bit_flip", "uniform_reset"] = static("auto")
    mutation_rate: Scalar | None = within(None, 0, 1)
    mutation_scale: Scalar = within(0.02, 0)
    adaptation: Scalar | None = within(None, 0)
    elites: int = static(1)
    init_scale: Scalar | None = within(0.05, 0)
    bounds: Bounds | None = None
    pop_size: int = static(32)

    least_members = 2

    def __post_init__(self) -> None:
        """Check the sizes that no annotation can state."""
        if self.tournament_size < 1:
            raise ValueError(f"tournament_size is {self.tournament_size}; expected at least 1")
        if not 0 < self.truncation <= 1:
            raise ValueError(f"truncation is {self.truncation}; expected a share in (0, 1]")
        if not 0 <= self.elites < self.pop_size:
            raise ValueError(
                f"elites is {self.elites}; expected 0 to pop_size - 1 = {self.pop_size - 1}"
            )

    def init(self, key: Key, start: Params) -> GeneticState:
        """Scatter the population around `start`; see `jaxgfo.init`."""
        if self.crossover == "arithmetic":
            tree.require(
                tree.is_float, start, "arithmetic crossover averages real numbers; use uniform"
            )
        population = initial(key, start, self.pop_size, self.init_scale, self.bounds)
        scale = jnp.full((self.pop_size,), self.mutation_scale, jnp.result_type(float))
        # A mutation that does not fit the leaves is refused here, not a generation later.
        jax.eval_shape(self._mutate, key, population, scale)
        fitness = jnp.full((self.pop_size,), jnp.inf)
        return GeneticState(population, fitness, scale, scale, jnp.zeros((), jnp.int32))

    def ask(self, key: Key, state: GeneticState) -> tuple[Population, GeneticState]:
        """Select, recombine, mutate."""
        select_key, mask_key, rate_key, mutate_key, adapt_key = draws.split(key, 5)
        pairs = (self.pop_size + 1) // 2
        parents = self._select(select_key, state.fitness, 2 * pairs)
        crossed = draws.uniform(rate_key, (pairs,)) < self.crossover_rate
        children = self._recombine(mask_key, state.population, parents.reshape(2, pairs), crossed)
        scale = self._adapted(adapt_key, state.parent_scale, parents, tree.row_size(children))
        offspring = self._mutate(mutate_key, children, scale)
        begins = state.step == 0
        state = state._replace(scale=jnp.where(begins, state.scale, scale))
        return tree.where(begins, state.population, offspring), state

    def tell(
        self, key: Key, state: GeneticState, population: Population, fitness: Fitness
    ) -> tuple[GeneticState, GeneticInfo]:
        """Replace the parents; the best `elites` of them take the places of worse offspring."""
        elite = jax.lax.top_k(-state.fitness, self.elites)[1]
        worst = jax.lax.top_k(fitness, self.elites)[1]
        # The best elite meets the worst child. Equals lose: a child brings something new.
        stays = state.fitness[elite] < fitness[worst]
        row = jnp.where(stays, worst, self.pop_size)
        source = jnp.full((self.pop_size,), -1, elite.dtype).at[row].set(elite, mode="drop")
        kept = source >= 0
        survivors = tree.where(kept, tree.take(state.population, source), population)
        fitness = jnp.where(kept, state.fitness[source], fitness)
        outlived = jnp.sum(stays).astype(fitness.dtype) / max(self.elites, 1)
        scale = jnp.where(kept, state.parent_scale[source], state.scale)
        return GeneticState(survivors, fitness, scale, scale, state.step + 1), GeneticInfo(outlived)

    def remembered(self, state: GeneticState) -> Population:
        """The parents."""
        return state.population

    def reassess(self, state: GeneticState, fitness: Fitness) -> GeneticState:
        """The parents with this fitness."""
        return state._replace(fitness=fitness)

    def _select(self, key: Key, fitness: Fitness, num: int) -> Int[Array, " num"]:
        if self.selection == "roulette":
            return selection.roulette(key, fitness, num)
        if self.selection == "tournament":
            return selection.tournament(key, fitness, num, self.tournament_size)
        return selection.truncation(key, fitness, num, self.truncation)

    def _recombine(
        self, key: Key, population: Population, parents: Array, crossed: Array
    ) -> Population:
        """Two children of every pair of `parents` (2, pairs): each has what the other has not."""
        own, other = tree.take(population, parents), tree.take(population, parents[::-1])
        if self.crossover == "arithmetic":
            share = jnp.where(crossed, draws.uniform(key, crossed.shape), 1.0)
            children = tree.lift(lambda x, y: _blend(x, y, share), own, other)
        else:
            first = jax.tree.map(lambda x: x[0], own)
            masks = getattr(crossover, self.crossover)(key, first)
            masks = jax.tree.map(lambda m: m & tree.rows(crossed, m), masks)
            children = tree.select(masks, other, own)
        return jax.tree.map(
            lambda x: x.reshape(parents.size, *x.shape[2:])[: self.pop_size], children
        )

    def _adapted(self, key: Key, scale: Array, parents: Array, n: int) -> Float[Array, " pop"]:
        """The scales of the children of two halves of parents."""
        if self.adaptation is None:
            return scale
        limits, pairs = jnp.finfo(scale.dtype), parents.size // 2
        mean = jnp.sqrt(scale[parents[:pairs]]) * jnp.sqrt(scale[parents[pairs:]])
        rate = self.adaptation / math.sqrt(2.0 * n)
        drawn = jnp.concatenate([mean, mean])[: self.pop_size]
        noise = draws.normal(key, drawn.shape, drawn.dtype)
        return jnp.clip(drawn * jnp.exp(rate * noise), limits.tiny, limits.max**0.5)

    def _mutate(self, key: Key, population: Population, scale: Array) -> Population:
        rate = self.mutation_rate
        if rate is None:
            real = tree.any_float(population)
            rate = 1.0 if real else 1.0 / tree.row_size(population)
        return mutate(key, population, self.mutation, rate, scale, self.bounds)


def _blend(x: Array, y: Array, share: Array) -> Array:
    weight = tree.rows(share, x[0]).astype(x.dtype)
    return weight * x + (1 - weight) * y
