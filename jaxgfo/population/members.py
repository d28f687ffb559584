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
from .seeded import Seeded


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
        drawn: Any = population.draw(number, population.table())
        weights = population.weights(drawn, sign)
        return jax.tree.map(materialise, weights, is_leaf=lambda x: isinstance(x, Drawn | Factored))
    return tree.take(population, index)
