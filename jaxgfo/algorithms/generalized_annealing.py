"""Generalised simulated annealing (Tsallis & Stariolo, 1996, doi:10.1016/S0378-4371(96)00271-3)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import bounds as box
from .. import draws, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import annealing
from ..population import initial

TAIL = 1e8  # longest step, in units of scale: the visiting law has no finite variance


class GeneralizedState(NamedTuple):
    """State of `GeneralizedAnnealing`."""

    population: Population  # (pop, ...) where the chains stand
    fitness: Fitness  # (pop,), +inf before the first tell
    step: Int[Array, ""]  # generations told


class GeneralizedInfo(NamedTuple):
    """What a generation of `GeneralizedAnnealing` shows."""

    accepted: Float[Array, ""]  # share of proposals that were accepted
    temperature: Float[Array, ""]  # visiting temperature of this generation


@algorithm
class GeneralizedAnnealing:
    """`pop_size` chains with Tsallis's heavy-tailed visits and generalised acceptance.

    Steps follow the distorted Cauchy-Lorentz law of index q_v at temperature T, in turn on all
    coordinates at once and on a single one. T_k = T_0 (2^(q_v-1) - 1) / ((k+2)^(q_v-1) - 1). A
    rise ΔE is accepted with probability [1 - (1-q_a) ΔE / (T_k / (k+1))]^(1/(1-q_a)), or 0 where
    the bracket is negative. This is the global phase of SciPy's `dual_annealing`, without its local
    search, and with its q_v and q_a; SciPy's T_0 = 5230 and its scale of 1 are made for boxes.

    Attributes:
        temperature: T_0; visits grow in length with T^(1 / (3 - q_v)).
        visit: q_v, in (1, 3).
        accept: q_a, below 1.
        scale: factor on every step, in units of the parameters.
        steps_per_temperature: generations at each temperature.
        init_scale: standard deviation of the chains' starts around `start`; None: uniform in
            `bounds`.
        bounds: the box searched (SciPy wraps); None: unbounded.
        pop_size: chains, at least 1.

    Reference: Tsallis & Stariolo (1996), doi:10.1016/S0378-4371(96)00271-3; Xiang et al. (1997),
    doi:10.1016/S0375-9601(97)00474-X.
    """

    temperature: Scalar = within(1.0, 1e-30)
    visit: Scalar = within(2.62, 1 + 1e-6, 3 - 1e-6)
    accept: Scalar = within(-5.0, -1e6, 1 - 1e-6)
    scale: Scalar = within(0.01, 0)
    steps_per_temperature: Scalar = within(2.0, 1)
    init_scale: Scalar | None = within(0.05, 0)
    bounds: Bounds | None = None
    pop_size: int = static(1)

    def init(self, key: Key, start: Params) -> GeneralizedState:
        """Place the chains around `start`; see `jaxgfo.init`."""
        tree.require(
            tree.is_float,
            start,
            "GeneralizedAnnealing moves real numbers; use SimulatedAnnealing for bits and integers",
        )
        population = initial(key, start, self.pop_size, self.init_scale, self.bounds)
        fitness = jnp.full((self.pop_size,), jnp.inf)
        return GeneralizedState(population, fitness, jnp.zeros((), jnp.int32))

    def ask(self, key: Key, state: GeneralizedState) -> tuple[Population, GeneralizedState]:
        """One visit for every chain."""
        visit_key, site_key = draws.split(key)
        temperature = self._cool(self._level(state.step))
        x = state.population
        site = draws.integers(site_key, (self.pop_size,), tree.row_size(x))
        everywhere = state.step % 2 == 1

        def leaf(key, x, number):
            steps = visiting_steps(key, x.shape, temperature, self.visit)
            moves = everywhere | (number == tree.rows(site, x))
            wide = tree.wide(x)
            return jnp.where(moves, wide + self.scale * steps, wide).astype(x.dtype)

        moved = tree.map_keys(leaf, visit_key, x, tree.coordinates(x))
        return tree.where(state.step == 0, x, box.apply(self.bounds, moved)), state

    def tell(
        self, key: Key, state: GeneralizedState, population: Population, fitness: Fitness
    ) -> tuple[GeneralizedState, GeneralizedInfo]:
        """Accept or refuse, chain by chain."""
        level = self._level(state.step)
        temperature = self._cool(level)
        accepted = self._accept(key, state.fitness, fitness, temperature / (level + 1.0))
        population = tree.where(accepted, population, state.population)
        fitness = jnp.where(accepted, fitness, state.fitness)
        info = GeneralizedInfo(jnp.mean(accepted, dtype=fitness.dtype), temperature)
        return GeneralizedState(population, fitness, state.step + 1), info

    def remembered(self, state: GeneralizedState) -> Population:
        """Where the chains stand."""
        return state.population

    def reassess(self, state: GeneralizedState, fitness: Fitness) -> GeneralizedState:
        """The chains with this fitness."""
        return state._replace(fitness=fitness)

    def _level(self, step: Array) -> Array:
        return annealing.level(step, self.steps_per_temperature)

    def _cool(self, level: Array) -> Array:
        power = jnp.asarray(self.visit) - 1.0
        return jnp.asarray(self.temperature) * (2.0**power - 1.0) / ((level + 2.0) ** power - 1.0)

    def _accept(
        self, key: Key, current: Fitness, proposed: Fitness, temperature: Array
    ) -> Bool[Array, " pop"]:
        rise = annealing.uphill(current, proposed)
        bracket = 1.0 - (1.0 - self.accept) * rise / temperature
        safe = jnp.where(bracket > 0, bracket, 1.0)
        chance = jnp.where(bracket > 0, safe ** (1.0 / (1.0 - self.accept)), 0.0)
        return draws.uniform(key, chance.shape, chance.dtype) < chance


def visiting_steps(
    key: Key, shape: tuple[int, ...], temperature: Scalar, visit: Scalar
) -> Float[Array, "..."]:
    """Steps of the distorted Cauchy-Lorentz law of index q_v, by the ratio of two normals.

    x = s u / |v|^((q_v-1)/(3-q_v)) with u, v ~ N(0, 1) and s(T, q_v) from Xiang et al. (1997),
    eq. 7 and the appendix on the generator; cut at +-1e8.
    """
    top_key, bottom_key = draws.split(key)
    q = jnp.asarray(visit, jnp.result_type(float))
    inverse = 1.0 / (q - 1.0)
    # The paper's pi (1 - z) / (sin(pi (1 - z)) Gamma(2 - z)) is Gamma(z), by reflection.
    log_norm = jax.lax.lgamma(inverse - 0.5)
    log_width = (
        0.5 * math.log(math.pi)
        + jnp.log(temperature) * inverse
        + (4.0 - q) * jnp.log(q - 1.0)
        - (2.0 - q) * math.log(2.0) * inverse
        - jnp.log(3.0 - q)
    )
    log_scale = -(q - 1.0) * (log_norm - log_width) / (3.0 - q)
    u = draws.normal(top_key, shape, q.dtype)
    v = draws.normal(bottom_key, shape, q.dtype)
    log_ratio = log_scale - (q - 1.0) / (3.0 - q) * jnp.log(jnp.abs(v))
    return jnp.clip(u * jnp.exp(jnp.minimum(log_ratio, 60.0)), -TAIL, TAIL)
