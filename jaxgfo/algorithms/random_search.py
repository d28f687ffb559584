"""Random search: the baseline every result is held against (Rastrigin, 1963)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..population import initial


class RandomSearchState(NamedTuple):
    """State of `RandomSearch`."""

    start: Params  # (...), the centre of every draw
    step: Int[Array, ""]  # generations told


class RandomSearchInfo(NamedTuple):
    """What a generation of `RandomSearch` shows."""

    failed: Float[Array, ""]  # share of members whose evaluation failed


@algorithm
class RandomSearch:
    """Random search: every generation is a fresh draw around the start; nothing is learnt.

    Attributes:
        init_scale: standard deviation of real leaves around the start; None: uniform in `bounds`.
            Bits are fair coins, integers uniform in their bounds.
        bounds: the box searched; None: unbounded.
        pop_size: candidates a generation, at least 1.

    Reference: L. A. Rastrigin (1963), "The convergence of the random search method in the extremal
    control of a many parameter system".
    """

    init_scale: Scalar | None = within(0.05, 0)
    bounds: Bounds | None = None
    pop_size: int = static(32)

    def init(self, key: Key, start: Params) -> RandomSearchState:
        """Begin at `start`; see `jaxgfo.init`."""
        initial(key, start, self.pop_size, self.init_scale, self.bounds)  # refuses bad leaves now
        return RandomSearchState(start, jnp.zeros((), jnp.int32))

    def ask(self, key: Key, state: RandomSearchState) -> tuple[Population, RandomSearchState]:
        """A fresh draw; row 0 is the start itself in the first generation only."""
        begins = state.step == 0
        drawn = initial(key, state.start, self.pop_size, self.init_scale, self.bounds, begins)
        return drawn, state

    def tell(
        self, key: Key, state: RandomSearchState, population: Population, fitness: Fitness
    ) -> tuple[RandomSearchState, RandomSearchInfo]:
        """Count the generation."""
        failed = jnp.mean(jnp.isinf(fitness), dtype=fitness.dtype)
        return state._replace(step=state.step + 1), RandomSearchInfo(failed)
