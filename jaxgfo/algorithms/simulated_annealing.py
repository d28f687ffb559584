"""Simulated annealing (Kirkpatrick, Gelatt & Vecchi, 1983, doi:10.1126/science.220.4598.671)."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import annealing
from ..operators.mutation import neighbour
from ..population import initial


class AnnealingState(NamedTuple):
    """State of `SimulatedAnnealing`."""

    population: Population  # (pop, ...) where the chains stand
    fitness: Fitness  # (pop,), +inf before the first tell
    start_temperature: Float[Array, ""]  # T_0; 0 until it is calibrated
    step: Int[Array, ""]  # generations told


class AnnealingInfo(NamedTuple):
    """What a generation of `SimulatedAnnealing` shows."""

    accepted: Float[Array, ""]  # share of proposals that were accepted
    temperature: Float[Array, ""]  # T of this generation


@algorithm
class SimulatedAnnealing:
    """`pop_size` independent Metropolis chains under one cooling schedule.

    A proposal is accepted if ΔE < 0, else with probability exp(-ΔE / T). Real leaves are proposed
    x + scale * N(0, 1); of all bits and integers of a candidate one changes at a time.

    Attributes:
        temperature: T_0, in units of fitness; None: calibrated in the first generations, so that
            rises like theirs would be accepted at the mean rate `acceptance` (Ben-Ameur, 2004).
        acceptance: target rate of accepted rises for the calibration, in (0, 1).
        cooling: `geometric` T_k = T_0 cooling_rate^k; `linear` T_k = T_0 (1 - k / num_steps);
            `logarithmic` T_k = T_0 ln 2 / ln(k + 2).
        cooling_rate: the factor of geometric cooling; None: 0.95 where a leaf is real. Of bits and
            integers one changes at a time, so 1 - 1 / (10 coordinates): each is proposed ten times
            while the temperature falls by a factor of e (`python -m benchmarks discrete`).
        num_steps: temperatures of linear cooling until T = 0.
        steps_per_temperature: generations at each temperature.
        scale: standard deviation of a step of the real leaves.
        init_scale: standard deviation of the chains' starts around `start`; None: uniform in
            `bounds`. Bits are fair coins and integers uniform in their bounds.
        bounds: the box searched; None: unbounded. Integers need one.
        pop_size: chains, at least 1. One long chain makes more of a budget than several short ones;
            more of them fill a device that has room.

    Reference: Kirkpatrick et al. (1983), doi:10.1126/science.220.4598.671; Metropolis et al.
    (1953), doi:10.1063/1.1699114.
    """

    temperature: Scalar | None = within(None, 0)
    acceptance: Scalar = within(0.5, 1e-6, 1 - 1e-6)
    cooling: Literal["geometric", "linear", "logarithmic"] = static("geometric")
    cooling_rate: Scalar | None = within(None, 0, 1)
    num_steps: Scalar = within(1000.0, 1)
    steps_per_temperature: Scalar = within(1.0, 1)
    scale: Scalar = within(0.01, 0)
    init_scale: Scalar | None = within(0.05, 0)
    bounds: Bounds | None = None
    pop_size: int = static(1)

    def init(self, key: Key, start: Params) -> AnnealingState:
        """Place the chains around `start`; see `jaxgfo.init`."""
        population = initial(key, start, self.pop_size, self.init_scale, self.bounds)
        fitness = jnp.full((self.pop_size,), jnp.inf)
        zero = jnp.zeros((), jnp.int32)
        return AnnealingState(population, fitness, jnp.zeros(()), zero)

    def ask(self, key: Key, state: AnnealingState) -> tuple[Population, AnnealingState]:
        """One proposal for every chain."""
        moved = neighbour(key, state.population, self.scale, self.bounds)
        return tree.where(state.step == 0, state.population, moved), state

    def tell(
        self, key: Key, state: AnnealingState, population: Population, fitness: Fitness
    ) -> tuple[AnnealingState, AnnealingInfo]:
        """Accept or refuse, chain by chain, and cool."""
        start = annealing.start_temperature(
            self.temperature, state.start_temperature, state.fitness, fitness, self.acceptance
        )
        level = annealing.level(state.step, self.steps_per_temperature)
        temperature = self._cool(start, level, population)
        accepted = annealing.metropolis(key, state.fitness, fitness, temperature)
        population = tree.where(accepted, population, state.population)
        fitness = jnp.where(accepted, fitness, state.fitness)
        info = AnnealingInfo(jnp.mean(accepted, dtype=fitness.dtype), temperature)
        return AnnealingState(population, fitness, start, state.step + 1), info

    def remembered(self, state: AnnealingState) -> Population:
        """Where the chains stand."""
        return state.population

    def reassess(self, state: AnnealingState, fitness: Fitness) -> AnnealingState:
        """The chains with this fitness."""
        return state._replace(fitness=fitness)

    def _cool(self, start: Array, level: Array, population: Population) -> Array:
        if self.cooling == "geometric":
            return annealing.geometric(start, level, self._rate(population))
        if self.cooling == "linear":
            return annealing.linear(start, level, self.num_steps)
        return annealing.logarithmic(start, level)

    def _rate(self, population: Population) -> Scalar:
        if self.cooling_rate is not None:
            return self.cooling_rate
        return 0.95 if tree.any_float(population) else 1.0 - 1.0 / (10 * tree.row_size(population))
