"""Annealing with local search (Xiang, Gubian, Suomela & Hoeng, 2013, doi:10.32614/RJ-2013-002)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import bounds as box
from .. import draws, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import annealing, descent, distribution
from ..operators.descent import Descent
from ..operators.selection import distinct
from ..population import initial

MOST_COORDINATES = 10_000
LONGEST = 2**29  # a slice, in generations: twice it is an int32
SCOUTS = 3  # generations whose best is where a descent begins (tuned on bbob, in 10 dimensions)


class DualState(NamedTuple):
    """State of `DualAnnealing`, n coordinates; floats have the default dtype at least."""

    member: Params  # a candidate, for its shapes
    dtypes: tree.Dtypes  # of its leaves
    descent: Descent
    chains: Float[Array, "chains n"]  # where they stand
    fitness: Float[Array, " chains"]  # there, +inf before it is known
    source: Int[Array, ""]  # the chain that the descent began at
    turn: Int[Array, ""]  # the chain that moves first
    walking: Bool[Array, ""]  # the chains move, else the descent
    scouts: Int[Array, ""]  # generations until the descent begins
    spent: Int[Array, ""]  # generations since they changed places
    slice: Int[Array, ""]  # generations until they do
    step: Int[Array, ""]  # generations told


class DualInfo(NamedTuple):
    """What a generation of `DualAnnealing` shows."""

    accepted: Float[Array, ""]  # share of the chains' proposals that were accepted; 0 in a descent
    temperature: Float[Array, ""]  # T of the chains
    descends: Float[Array, ""]  # 1 where this generation belonged to a descent, else 0


@algorithm
class DualAnnealing:
    """Metropolis chains and quasi-Newton descents in turn, for a few hundred coordinates at most.

    A descent (L-BFGS, gradients by differences) begins at the start. Then annealed chains take as
    many generations, then the descent goes on, or a new one begins: at the best chain if that is
    better, else at the best of three generations drawn as the chains' starts were (Rinnooy Kan &
    Timmer, 1987, doi:10.1007/BF02592070), in place of the worst chain; and so on. Chains learn the
    shape of the problem from each other, as those of ter Braak (2006,
    doi:10.1007/s11222-006-8769-1): a proposal is x_i + γ (x_a - x_b) + u (x_best - x_i) with γ ~
    U(0.4, 0.9), u ~ U(0, 1) and two other chains, on a share U(0.5, 1) of the coordinates. A rise
    ΔE is accepted with probability exp(-ΔE / T), but for the best chain. T = heat (median - lowest
    fitness of the chains) falls as they gather.

    A descent measures a gradient with n + 1 evaluations: with pop_size = n + 1 that is a
    generation, and with fewer members several. It needs a fitness that is smooth nearby; on any
    other it ends early.

    Attributes:
        heat: T in units of the chains' spread of fitness.
        radius: length of the first move of a descent, in units of the parameters.
        num_chains: chains, at least pop_size of them are kept.
        init_scale: standard deviation of the chains' starts around the start; None: uniform in
            `bounds`.
        bounds: the box searched; None: unbounded.
        pop_size: members, at least 1.

    Reference: Xiang et al. (2013), doi:10.32614/RJ-2013-002, for annealing and local search in
    turn; SciPy's `dual_annealing` is another of its kind.
    """

    heat: Scalar = within(0.1, 0)
    radius: Scalar = within(0.1, 1e-30)
    num_chains: int = static(12)
    init_scale: Scalar | None = within(0.05, 0)
    bounds: Bounds | None = None
    pop_size: int = static(32)

    def __post_init__(self) -> None:
        """A chain moves by the difference of two others."""
        if self.num_chains < 3:
            raise ValueError(f"num_chains is {self.num_chains}; expected at least 3")

    def init(self, key: Key, start: Params) -> DualState:
        """Scatter the chains around `start`; see `jaxgfo.init`.

        Raises:
            ValueError: more coordinates than differences make sense for.
        """
        tree.require(tree.is_float, start, "DualAnnealing moves real numbers")
        n = tree.size(start)
        if n > MOST_COORDINATES:
            raise ValueError(
                f"DualAnnealing: a candidate has {n} coordinates; expected at most "
                f"{MOST_COORDINATES}, as a descent measures {n + 1} members for a "
                "gradient: search a subspace (space subspace:DIM), or use sa"
            )
        size = max(self.num_chains, self.pop_size)
        chains = tree.matrix(initial(key, start, size, self.init_scale, self.bounds))
        chains = chains.astype(jnp.result_type(float))
        fitness, zero = jnp.full((size,), jnp.inf), jnp.zeros((), jnp.int32)
        return DualState(
            member=jax.tree.map(jnp.copy, start),
            dtypes=tree.dtypes(start),
            descent=descent.begin(chains[0], fitness[0]),
            chains=chains,
            fitness=fitness,
            source=zero,
            turn=zero,
            walking=jnp.zeros((), bool),
            scouts=zero,
            spent=zero,
            slice=jnp.asarray(self._first(n), jnp.int32),
            step=zero,
        )

    def ask(self, key: Key, state: DualState) -> tuple[Population, DualState]:
        """The chains' proposals, or what the descent measures."""
        low, high = self._walls(state)
        walk_key, scout_key = draws.split(key)
        walk = self._proposals(walk_key, state, low, high)[self._turns(state)]
        measured = descent.points(state.descent, self.pop_size, low, high)
        scouts = tree.matrix(
            initial(scout_key, state.member, self.pop_size, self.init_scale, self.bounds, False)
        ).astype(walk.dtype)
        rows = jnp.where(state.scouts > 0, scouts, measured)
        rows = jnp.where(state.walking, walk, rows)
        population = state.dtypes.cast(tree.from_matrix(rows, state.member))
        population = box.apply(self.bounds, population)
        return distribution.led_by(population, state.member, state.step == 0), state

    def tell(
        self, key: Key, state: DualState, population: Population, fitness: Fitness
    ) -> tuple[DualState, DualInfo]:
        """Accept or refuse, chain by chain; or take the descent's next step."""
        rows = tree.matrix(population).astype(state.chains.dtype)
        walked, accepted, temperature = self._walked(key, state, rows, fitness)
        descended = self._descended(state, rows, fitness)
        descended = tree.where(state.scouts > 0, self._scouted(state, rows, fitness), descended)
        state = tree.where(state.walking, walked, descended)
        descends = 1.0 - state.walking.astype(fitness.dtype)
        accepted = jnp.where(state.walking, accepted, 0.0)
        return state._replace(step=state.step + 1), DualInfo(accepted, temperature, descends)

    def _walls(self, state: DualState) -> tuple[Array, Array]:
        lower, upper = box.expand(self.bounds, state.member)

        def wall(bound, x, beyond):
            return jnp.full(x.shape, beyond) if bound is None else jnp.broadcast_to(bound, x.shape)

        sides = []
        for bound, beyond in ((lower, -jnp.inf), (upper, jnp.inf)):
            whole = jax.tree.map(
                lambda x, b, beyond=beyond: wall(b, x, beyond), state.member, bound
            )
            row = tree.matrix(jax.tree.map(lambda x: jnp.asarray(x, float)[None], whole))[0]
            sides.append(row.astype(state.chains.dtype))
        return sides[0], sides[1]

    def _first(self, n: int) -> int:
        """Generations of 2 n^2 steps: twice as many as there are numbers to learn, per step n."""
        return min(2 * n**2 * -(-(n + 1) // self.pop_size), LONGEST)

    def _turns(self, state: DualState) -> Int[Array, " pop"]:
        return (state.turn + jnp.arange(self.pop_size, dtype=jnp.int32)) % state.fitness.size

    def _proposals(self, key: Key, state: DualState, low: Array, high: Array) -> Array:
        x, size = state.chains, state.fitness.size
        pair_key, share_key, mask_key, sure_key, far_key, pull_key = draws.split(key, 6)
        a, b = distinct(pair_key, size, [size, size])

        def draw(key, shape, least, most):
            return jax.random.uniform(key, shape, x.dtype, least, most)

        share = draw(share_key, (size, 1), 0.5, 1.0)
        sure = jax.random.randint(sure_key, (size, 1), 0, x.shape[1], jnp.int32)
        mask = (draw(mask_key, x.shape, 0.0, 1.0) < share) | (
            jnp.arange(x.shape[1], dtype=jnp.int32) == sure
        )
        moves = draw(far_key, (size, 1), 0.4, 0.9) * (x[a] - x[b])
        moves += draw(pull_key, (size, 1), 0.0, 1.0) * (x[jnp.argmin(state.fitness)] - x)
        moved = x + jnp.where(mask, moves, 0)
        moved = jnp.where(moved > high, 2 * high - moved, moved)
        moved = jnp.clip(jnp.where(moved < low, 2 * low - moved, moved), low, high)
        return jnp.where(jnp.isfinite(state.fitness)[:, None], moved, x)

    def _walked(
        self, key: Key, state: DualState, rows: Array, fitness: Fitness
    ) -> tuple[DualState, Array, Array]:
        turns = self._turns(state)
        old, lowest = state.fitness[turns], jnp.min(state.fitness)
        known = jnp.where(jnp.isfinite(state.fitness), state.fitness, jnp.nan)
        spread = jnp.nan_to_num(jnp.nanmedian(known) - lowest, posinf=0.0, neginf=0.0)
        temperature = jnp.asarray(self.heat * spread)
        accepted = annealing.metropolis(key, old, fitness, temperature)
        accepted &= (fitness <= old) | (old > lowest)
        chains = state.chains.at[turns].set(jnp.where(accepted[:, None], rows, state.chains[turns]))
        values = state.fitness.at[turns].set(jnp.where(accepted, fitness, old))
        best, spent = jnp.argmin(values).astype(jnp.int32), state.spent + 1
        due, better = spent >= state.slice, values[best] < state.descent.value
        anew = due & (better | (state.descent.phase == descent.ENDED))
        lead = jnp.where(better, best, jnp.argmax(values).astype(jnp.int32))
        begun = descent.begin(chains[lead], values[lead])
        walked = state._replace(
            descent=tree.where(anew, begun, state.descent),
            chains=chains,
            fitness=values,
            source=jnp.where(anew, lead, state.source),
            turn=(state.turn + self.pop_size) % values.size,
            walking=~due,
            scouts=jnp.where(anew & ~better, SCOUTS, 0).astype(state.scouts.dtype),
            spent=jnp.where(due, 0, spent),
            slice=jnp.where(
                due, jnp.clip(2 * state.slice, self._first(rows.shape[1]), LONGEST), state.slice
            ),
        )
        return walked, jnp.mean(accepted, dtype=fitness.dtype), temperature

    def _scouted(self, state: DualState, rows: Array, fitness: Fitness) -> DualState:
        best, at, left = jnp.argmin(fitness), state.descent, state.scouts - 1
        better = fitness[best] < at.value
        x, value = jnp.where(better, rows[best], at.x), jnp.where(better, fitness[best], at.value)
        begun = descent.begin(x, value)
        at = tree.where(left > 0, at._replace(x=x, value=value), begun)
        return state._replace(descent=at, scouts=left, spent=state.spent + 1)

    def _descended(self, state: DualState, rows: Array, fitness: Fitness) -> DualState:
        low, high = self._walls(state)
        radius = jnp.asarray(self.radius, state.chains.dtype)
        after = descent.learn(state.descent, rows, fitness, low, high, radius)
        spent = state.spent + 1
        over = (after.phase == descent.ENDED) | (spent >= state.slice)
        # What the descent reached stands for the chain that it began at.
        put = jnp.where(
            over & (after.value < state.fitness[state.source]), state.source, state.fitness.size
        )
        return state._replace(
            descent=after,
            chains=state.chains.at[put].set(after.x, mode="drop"),
            fitness=state.fitness.at[put].set(after.value, mode="drop"),
            walking=over,
            slice=jnp.where(over, spent, state.slice),
            spent=jnp.where(over, 0, spent),
        )
