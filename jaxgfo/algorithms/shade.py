"""SHADE and L-SHADE (Tanabe & Fukunaga, 2013 and 2014, doi:10.1109/CEC.2014.6900380)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import bounds as box
from .. import draws, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators.crossover import binomial
from ..operators.differential import among_best, differential
from ..operators.selection import distinct
from ..population import initial, repeat


class ShadeState(NamedTuple):
    """State of `SHADE`."""

    population: Population  # (pop, ...) parents, the first `active` of them in use
    fitness: Fitness  # (pop,), +inf before the first tell
    archive: Population  # (archive, ...) parents that were beaten
    archived: Bool[Array, " archive"]  # which rows of the archive are filled
    weight: Float[Array, " pop"]  # F of the trials that ask returned
    crossover: Float[Array, " pop"]  # CR of the trials that ask returned
    memory_weight: Float[Array, " memory"]  # M_F
    memory_crossover: Float[Array, " memory"]  # M_CR; -1 is the terminal value
    slot: Int[Array, ""]  # memory entry to write next
    active: Int[Array, ""]  # members in use
    evaluations: Int[Array, ""]  # of active members
    step: Int[Array, ""]  # generations told


class ShadeInfo(NamedTuple):
    """What a generation of `SHADE` shows."""

    accepted: Float[Array, ""]  # share of active trials that replaced their parent
    weight: Float[Array, ""]  # mean of M_F
    crossover: Float[Array, ""]  # mean of M_CR, the terminal value counted as 0
    active: Int[Array, ""]  # members in use in the next generation


@algorithm
class SHADE:
    """Success-history based adaptive differential evolution, current-to-pbest/1/bin.

    F ~ Cauchy(M_F, 0.1) and CR ~ N(M_CR, 0.1) are drawn for every trial from a random entry of a
    memory of successful values (weighted Lehmer means, terminal value for CR: SHADE 1.1); x_r2
    comes from the population and an archive of beaten parents. With `final_pop_size` and
    `max_evaluations` the population shrinks linearly (L-SHADE): the arrays keep their shapes, the
    worst members fall out of use, and rows from `active` on repeat the best member, their fitness
    ignored.

    Attributes:
        memory_size: H, entries in the memory of successful F and CR.
        archive_rate: archive rows per active member; 0: no archive.
        p: share of the active members that count as best, at least two members.
        final_pop_size: N_min, members in use when `max_evaluations` are spent, at least 4; None:
            no reduction.
        max_evaluations: evaluations of active members over which the population shrinks.
        init_scale: standard deviation of the first population around the start; None: uniform in
            `bounds`.
        bounds: the box searched; None: unbounded.
        pop_size: members at the start, at least 4.

    Reference: Tanabe & Fukunaga (2013), doi:10.1109/CEC.2013.6557555; (2014),
    doi:10.1109/CEC.2014.6900380, from which the defaults of H, p and the archive are.
    """

    memory_size: int = static(6)
    archive_rate: float | int = static(2.6)
    p: Scalar = within(0.11, 0, 1)
    final_pop_size: Scalar | None = within(None, 4)
    max_evaluations: Scalar | None = within(None, 1)
    init_scale: Scalar | None = within(0.05, 0)
    bounds: Bounds | None = None
    pop_size: int = static(32)

    least_members = 4

    def __post_init__(self) -> None:
        """Reduction needs to know over how many evaluations."""
        if self.memory_size < 1:
            raise ValueError(f"memory_size is {self.memory_size}; expected at least 1")
        if self.archive_rate < 0:
            raise ValueError(f"archive_rate is {self.archive_rate}; expected at least 0")
        if (self.final_pop_size is None) != (self.max_evaluations is None):
            raise ValueError(
                "final_pop_size and max_evaluations go together: give both for L-SHADE, "
                f"neither for SHADE; got {self.final_pop_size} and {self.max_evaluations}"
            )

    def init(self, key: Key, start: Params) -> ShadeState:
        """Scatter the population around `start`; see `jaxgfo.init`."""
        tree.require(
            tree.is_float, start, "SHADE moves real numbers; use GeneticAlgorithm for bits"
        )
        population = initial(key, start, self.pop_size, self.init_scale, self.bounds)
        rows = max(1, round(self.archive_rate * self.pop_size))
        half = jnp.full((self.memory_size,), 0.5)
        zero = jnp.zeros((), jnp.int32)
        return ShadeState(
            population=population,
            fitness=jnp.full((self.pop_size,), jnp.inf),
            archive=repeat(start, rows),
            archived=jnp.zeros((rows,), bool),
            weight=jnp.full((self.pop_size,), 0.5),
            crossover=jnp.full((self.pop_size,), 0.5),
            memory_weight=half,
            memory_crossover=half,
            slot=zero,
            active=jnp.asarray(self.pop_size, jnp.int32),
            evaluations=zero,
            step=zero,
        )

    def ask(self, key: Key, state: ShadeState) -> tuple[Population, ShadeState]:
        """One trial for every active parent."""
        draw_key, index_key, best_key, cross_key = draws.split(key, 4)
        weight, crossover = self._draw(draw_key, state)
        x = state.population
        pool = state.active + jnp.sum(state.archived)
        r1, r2 = distinct(index_key, self.pop_size, [state.active, pool])
        filled = jnp.argsort(~state.archived)  # stable: the filled rows first
        beaten = tree.take(state.archive, filled[jnp.clip(r2 - state.active, 0)])
        second = tree.where(r2 < state.active, tree.take(x, r2), beaten)
        count = jnp.maximum(2.0, jnp.round(self.p * state.active.astype(state.fitness.dtype)))
        leaders = tree.take(x, among_best(best_key, state.fitness, count))
        mutants = differential(x, weight, (leaders, x), (tree.take(x, r1), second))
        masks = binomial(cross_key, x, crossover)
        trials = box.apply(self.bounds, tree.select(masks, mutants, x))
        if self.final_pop_size is not None:
            best = tree.take(x, jnp.argmin(state.fitness)[None])
            trials = tree.where(jnp.arange(self.pop_size) < state.active, trials, best)
        return tree.where(state.step == 0, x, trials), state._replace(
            weight=weight, crossover=crossover
        )

    def tell(
        self, key: Key, state: ShadeState, population: Population, fitness: Fitness
    ) -> tuple[ShadeState, ShadeInfo]:
        """Select, archive the beaten, remember what F and CR succeeded, shrink."""
        active = jnp.arange(self.pop_size) < state.active
        better = (fitness <= state.fitness) & active
        # The first population is not made of trials: it teaches nothing about F and CR.
        success = (fitness < state.fitness) & active & (state.step > 0)
        archive, archived = self._archive(key, state, success)
        memory = self._remember(state, success, fitness)
        survivors = tree.where(better, population, state.population)
        accepted = jnp.sum(better) / state.active
        fitness = jnp.where(better, fitness, state.fitness)
        evaluations, members = state.evaluations + state.active, state.active
        if self.final_pop_size is not None and self.max_evaluations is not None:
            spent = jnp.minimum(evaluations.astype(fitness.dtype) / self.max_evaluations, 1.0)
            members = self.pop_size + (self.final_pop_size - self.pop_size) * spent
            members = jnp.clip(jnp.round(members), 4, self.pop_size).astype(jnp.int32)
            # Best first, those out of use last: the worst of the active fall out.
            order = jnp.lexsort((fitness, ~active))
            survivors, fitness = tree.take(survivors, order), fitness[order]
            fitness = jnp.where(jnp.arange(self.pop_size) < members, fitness, jnp.inf)
        state = state._replace(
            population=survivors,
            fitness=fitness,
            archive=archive,
            archived=archived,
            evaluations=evaluations,
            active=members,
            step=state.step + 1,
            **memory,
        )
        info = ShadeInfo(
            accepted.astype(fitness.dtype),
            jnp.mean(state.memory_weight),
            jnp.mean(jnp.maximum(state.memory_crossover, 0.0)),
            members,
        )
        return state, info

    def remembered(self, state: ShadeState) -> Population:
        """The parents, those out of use among them."""
        return state.population

    def reassess(self, state: ShadeState, fitness: Fitness) -> ShadeState:
        """The parents in use with this fitness."""
        used = jnp.arange(self.pop_size) < state.active
        return state._replace(
            fitness=jnp.where(used, fitness, jnp.inf),
            evaluations=state.evaluations + state.active,
        )

    def _draw(self, key: Key, state: ShadeState) -> tuple[Array, Array]:
        entry_key, weight_key, crossover_key = draws.split(key, 3)
        shape = (self.pop_size,)
        entry = draws.integers(entry_key, shape, self.memory_size)
        mean = state.memory_weight[entry]
        # The paper draws F again while it is not positive: that is the Cauchy law cut off at 0,
        # drawn here once by inverting its distribution function.
        below = 0.5 - jnp.arctan(mean / 0.1) / jnp.pi
        u = below + (1.0 - below) * draws.uniform(weight_key, shape, mean.dtype)
        weight = jnp.clip(mean + 0.1 * jnp.tan(jnp.pi * (u - 0.5)), 1e-6, 1.0)
        middle = state.memory_crossover[entry]
        drawn = middle + 0.1 * draws.normal(crossover_key, shape, middle.dtype)
        return weight, jnp.where(middle < 0, 0.0, jnp.clip(drawn, 0.0, 1.0))

    def _archive(self, key: Key, state: ShadeState, success: Array) -> tuple[Population, Array]:
        if self.archive_rate == 0:
            return state.archive, state.archived
        rows = state.archived.size
        active = state.active.astype(jnp.result_type(float))
        room = jnp.clip(jnp.round(self.archive_rate * active), 1, rows).astype(jnp.int32)
        # Filled rows in random order, then the free ones; what has no room is forgotten.
        chance = draws.uniform(key, (rows,))
        order = jnp.argsort(jnp.where(state.archived, chance, 2.0))
        kept = jnp.minimum(jnp.sum(state.archived), room)
        filled = state.archived.at[order].set(jnp.arange(rows) < kept)
        # New entries take the places after the kept ones, then, where these end, random kept ones.
        rank = jnp.cumsum(success) - 1
        writes = success & (rank < room)
        target = jnp.where(writes, order[(kept + jnp.clip(rank, 0)) % room], rows)
        archive = jax.tree.map(
            lambda a, x: a.at[target].set(x, mode="drop"), state.archive, state.population
        )
        return archive, filled.at[target].set(True, mode="drop")

    def _remember(self, state: ShadeState, success: Array, fitness: Fitness) -> dict[str, Array]:
        gain = jnp.where(success, state.fitness - fitness, 0.0)
        finite = jnp.where(jnp.isfinite(gain), gain, 0.0)
        # A parent that had failed, or a trial at -inf, counts as the largest finite gain.
        largest = jnp.max(finite)
        gain = jnp.where(jnp.isfinite(gain), gain, jnp.where(largest > 0, largest, 1.0))
        share = gain / jnp.maximum(jnp.max(gain), jnp.finfo(gain.dtype).tiny)
        any_success = jnp.any(success)

        def lehmer(values):
            above, below = jnp.sum(share * values**2), jnp.sum(share * values)
            return jnp.where(below > 0, above / jnp.where(below > 0, below, 1.0), 0.0)

        highest = jnp.max(jnp.where(success, state.crossover, 0.0))
        ended = (state.memory_crossover[state.slot] < 0) | (highest == 0)
        crossover = jnp.where(ended, -1.0, lehmer(state.crossover))

        def write(memory, value):
            return jnp.where(any_success, memory.at[state.slot].set(value), memory)

        return {
            "memory_weight": write(state.memory_weight, lehmer(state.weight)),
            "memory_crossover": write(state.memory_crossover, crossover),
            "slot": (state.slot + any_success.astype(jnp.int32)) % self.memory_size,
        }
