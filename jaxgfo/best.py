"""The best candidate: of all that were scored alike, or of finalists that are scored again."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import tree
from .core import Fitness, Params, Population
from .evaluation import Objective, compiled, evaluate
from .population import LowRank, Seeded, member, repeat

FINALISTS = 4  # generations whose best candidate is kept, where nothing else is said


@jax.jit
def lower(
    best: Params, best_fitness: Float[Array, ""], population: Population, fitness: Fitness
) -> tuple[Params, Float[Array, ""]]:
    """The best so far and its fitness, after one more population."""
    index = jnp.argmin(fitness)
    better = fitness[index] < best_fitness
    # Members that are not held are computed only where one of them is to be kept.
    kept = jax.lax.cond(better, lambda: member(population, index), lambda: best)
    return kept, jnp.minimum(fitness[index], best_fitness)


class Finalists(NamedTuple):
    """Candidates kept for the end, where fitness of other generations cannot be compared.

    The lowest fitness of many noisy ones is a lucky one: those that had it are scored again.
    """

    rows: Population  # (2 + n, ...): the start, where the search stands, those with lowest fitness
    fitness: Float[Array, " n"]  # of rows 2 and on, each in its own generation; +inf: not there yet


def begin(start: Params, num: int) -> Finalists:
    """The start, in every row."""
    return _begin(start, num)


def keep(
    finalists: Finalists,
    population: Population,
    fitness: Fitness,
    *,
    center: Params | None = None,
    memory: Population | None = None,
    memory_fitness: Float[Array, " rows"] | None = None,
) -> Finalists:
    """After one more population, of which one member at most is kept; the old ones are donated.

    Where the search stands is the center, also that of a population that is a center and a key; or
    else the best of population and memory.

    Args:
        center: that the population was drawn around; None: not known.
        memory: what `remembered` returned, with its fitness in this generation; None: nothing.
    """
    if center is None and isinstance(population, Seeded | LowRank):
        center = population.center
    return _keep(finalists, population, fitness, center, memory, memory_fitness)


def prepare(finalists: Finalists, objective: Objective, space: Any, batch: Any) -> None:
    """Compile the choice, so that what does not fit is told before the search.

    Raises:
        MemoryError: not even one finalist fits into the device's memory.
    """
    compiled(objective, space, finalists.rows, batch)


def choose(
    finalists: Finalists, objective: Objective, space: Any, batch: Any
) -> tuple[Params, Float[Array, ""]]:
    """The one with the lowest fitness on this batch, and that fitness; of equals the start."""
    return _lowest(finalists.rows, evaluate(objective, space, finalists.rows, batch))


@functools.partial(jax.jit, static_argnums=1)
def _begin(start, num):
    return Finalists(repeat(start, 2 + num), jnp.full((num,), jnp.inf))


@functools.partial(jax.jit, donate_argnums=0)
def _keep(finalists, population, fitness, center, memory, memory_fitness):
    index, worst = jnp.argmin(fitness), jnp.argmax(finalists.fitness)

    def put(rows, row, candidate):
        return jax.tree.map(lambda x, new: x.at[row].set(new.astype(x.dtype)), rows, candidate)

    def replace(old):
        rows = put(old.rows, 2 + worst, member(population, index))
        return Finalists(rows, old.fitness.at[worst].set(fitness[index]))

    better = fitness[index] < finalists.fitness[worst]
    finalists = jax.lax.cond(better, replace, lambda old: old, finalists)
    if center is None:
        center, lowest = _lowest(population, fitness)
        if memory is not None:
            remembered, value = _lowest(memory, memory_fitness)
            center = tree.where(value < lowest, remembered, center)
    return finalists._replace(rows=put(finalists.rows, 1, center))


@jax.jit
def _lowest(population, fitness):
    index = jnp.argmin(fitness)
    return tree.take(population, index), fitness[index]
