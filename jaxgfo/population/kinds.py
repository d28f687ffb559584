"""What holds for populations of every kind."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import tree
from ..core import Params, Population
from ..low_rank import Drawn, Factored, materialise
from .low_rank import LowRank
from .pairs import place
from .seeded import DRAWN, Seeded


def size(population: Population) -> int:
    """Members of a population of any kind."""
    if isinstance(population, Seeded | LowRank):
        return population.pop_size
    return jax.tree.leaves(population)[0].shape[0]


def member(population: Population, index: int | Int[Array, ""]) -> Params:
    """One candidate of a population of any kind, in full."""
    index = jnp.asarray(index)
    if isinstance(population, Seeded | LowRank):
        number, sign = place(population, index)
        return _whole(population, population.draw(number, population.table()), sign)
    return tree.take(population, index)


def members(population: Population) -> Population:
    """All candidates of a population of any kind, in full: leaves (pop, ...).

    For a fitness function that wants them all at once; `jaxgfo.evaluate` holds but a few.
    """
    if not isinstance(population, Seeded | LowRank):
        return population
    table = population.table()

    def alike(number, signs):  # the noise is drawn once for both members of a pair
        drawn = population.draw(number, table)
        return jax.vmap(lambda sign: _whole(population, drawn, sign))(signs)

    each = 2 if population.antithetic else 1
    numbers, signs = place(population, jnp.arange(-(-population.pop_size // each) * each))
    together = max(1, DRAWN // tree.size(population.center))
    items = numbers[::each], signs.reshape(-1, each)
    rows = jax.lax.map(lambda item: alike(*item), items, batch_size=together)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: population.pop_size], rows)


def _whole(population: Seeded | LowRank, drawn: Any, sign: Array) -> Params:
    weights = population.weights(drawn, sign)
    return jax.tree.map(materialise, weights, is_leaf=lambda x: isinstance(x, Drawn | Factored))
