"""Particle swarm optimisation (Kennedy & Eberhart, 1995, doi:10.1109/ICNN.1995.488968)."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import bounds as box
from .. import draws, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..population import initial


class SwarmState(NamedTuple):
    """State of `ParticleSwarm`."""

    # In this order `tell` can leave each in its buffer: jax.jit lends the buffers of its arguments
    # in turn, and the positions it returns are the population it was given.
    velocity: Population  # (pop, ...) v, real also where x is a bit
    best: Population  # (pop, ...) p, the best position each particle has seen
    position: Population  # (pop, ...) x
    fitness: Fitness  # (pop,) of `best`, +inf before the first tell
    reach: Float[Array, " pop"]  # ρ, half the width of a leader's search
    run: Int[Array, " pop"]  # a leader's successes in sequence, or its failures, negative
    step: Int[Array, ""]  # generations told


class SwarmInfo(NamedTuple):
    """What a generation of `ParticleSwarm` shows."""

    improved: Float[Array, ""]  # share of particles that improved their own best
    speed: Float[Array, ""]  # root mean square of the velocities


@algorithm
class ParticleSwarm:
    """Particle swarm on real vectors, and its binary variant on bits.

    v <- w v + c1 r1 (p - x) + c2 r2 (g - x), x <- x + v, with r1, r2 ~ U(0, 1) drawn for every
    dimension; p is the particle's own best position and g the best of its neighbourhood. A bit is
    1 with probability 1 / (1 + exp(-v)) (Kennedy & Eberhart, 1997).

    Attributes:
        inertia: w. With `constriction` it is not used.
        final_inertia: w falls linearly from `inertia` to this over `num_steps` generations (Shi &
            Eberhart, 1998); None: constant.
        num_steps: generations of the fall.
        cognitive, social: c1 and c2. Defaults (with `inertia`): Eberhart & Shi (2000).
        constriction: v <- chi (v + c1 r1 (p - x) + c2 r2 (g - x)) with chi = 2 / |2 - phi -
            sqrt(phi^2 - 4 phi)|, phi = c1 + c2 > 4 (Clerc & Kennedy, 2002); 2.05 each is usual.
        topology: `global`; `ring` (itself and one neighbour on each side); `von_neumann` (itself
            and four neighbours on a torus as square as pop_size allows).
        velocity_clamp: largest |v| per dimension of a real leaf, in its units; None: none.
        bit_velocity_clamp: largest |v| of a bit; 6 keeps every bit's chance of either value above
            1 in 400.
        guaranteed: a particle that leads its own neighbourhood, whose pulls are both 0, searches
            p + w v + ρ U(-1, 1) instead; ρ doubles after five successes in sequence and halves
            after two failures (guaranteed convergence, van den Bergh & Engelbrecht, 2002,
            doi:10.1109/ICSMC.2002.1176018, who take fifteen and five). Real leaves only.
        reach: ρ of the first generation, in units of the parameters.
        init_scale: standard deviation of the first population around the start; None: uniform in
            `bounds`. Velocities start at 0 (Engelbrecht, 2012).
        bounds: the box searched; None: unbounded. At a wall the velocity is zeroed (clip),
            reversed (reflect) or kept (wrap).
        pop_size: particles, at least 2.

    Reference: Kennedy & Eberhart (1995), doi:10.1109/ICNN.1995.488968; Clerc & Kennedy (2002),
    doi:10.1109/4235.985692.
    """

    inertia: Scalar = within(0.7298, 0)
    final_inertia: Scalar | None = within(None, 0)
    num_steps: Scalar = within(1000.0, 1)
    cognitive: Scalar = within(1.49618, 0)
    social: Scalar = within(1.49618, 0)
    constriction: bool = static(False)
    topology: Literal["global", "ring", "von_neumann"] = static("global")
    velocity_clamp: Scalar | None = within(None, 0)
    bit_velocity_clamp: Scalar = within(6.0, 0)
    guaranteed: bool = static(False)
    reach: Scalar = within(0.01, 0)
    init_scale: Scalar | None = within(0.05, 0)
    bounds: Bounds | None = None
    pop_size: int = static(16)

    least_members = 2

    def __post_init__(self) -> None:
        """The constriction coefficient exists for phi > 4 only."""
        plain = isinstance(self.cognitive, int | float) and isinstance(self.social, int | float)
        if self.constriction and plain and self.cognitive + self.social <= 4:
            raise ValueError(
                f"constriction needs cognitive + social > 4, got {self.cognitive} + {self.social};"
                " 2.05 each is usual"
            )

    def init(self, key: Key, start: Params) -> SwarmState:
        """Scatter the swarm around `start`, at rest; see `jaxgfo.init`."""
        tree.require(
            lambda x: tree.is_float(x) or tree.is_bool(x),
            start,
            "ParticleSwarm moves real numbers and bits; use GeneticAlgorithm for integers",
        )
        position = initial(key, start, self.pop_size, self.init_scale, self.bounds)
        velocity = jax.tree.map(lambda x: jnp.zeros(x.shape, _moving(x).dtype), position)
        best = jax.tree.map(jnp.copy, position)
        fitness = jnp.full((self.pop_size,), jnp.inf)
        reach = jnp.full((self.pop_size,), self.reach, jnp.result_type(float))
        run = jnp.zeros((self.pop_size,), jnp.int32)
        step = jnp.zeros((), jnp.int32)
        return SwarmState(velocity, best, position, fitness, reach, run, step)

    def ask(self, key: Key, state: SwarmState) -> tuple[Population, SwarmState]:
        """Fly for one generation."""
        bits = any(map(tree.is_bool, jax.tree.leaves(state.position)))
        velocity_key, bit_key = draws.split(key) if bits else (key, key)
        resting = state.step == 0
        # A branch also keeps XLA from drawing the numbers twice, for the velocities and positions.
        velocity = jax.lax.cond(
            resting, lambda: state.velocity, lambda: self._accelerate(velocity_key, state)
        )

        def move(key, x, v):
            if tree.is_bool(x):
                return draws.uniform(key, x.shape, v.dtype) < jax.nn.sigmoid(v)
            return (tree.wide(x) + tree.wide(v)).astype(x.dtype)

        flown = tree.map_keys(move, bit_key, state.position, velocity)
        position = box.apply(self.bounds, flown)
        # Where it rests the velocity is 0, at a wall too.
        velocity = self._rebound(flown, position, velocity)
        return tree.where(resting, state.position, position), state._replace(velocity=velocity)

    def tell(
        self, key: Key, state: SwarmState, population: Population, fitness: Fitness
    ) -> tuple[SwarmState, SwarmInfo]:
        """Remember every particle's best position."""
        better = fitness < state.fitness
        squares = sum(
            jnp.sum(jnp.square(tree.wide(v)).astype(fitness.dtype))
            for v in jax.tree.leaves(state.velocity)
        )
        info = SwarmInfo(
            jnp.mean(better, dtype=fitness.dtype),
            jnp.sqrt(squares / (self.pop_size * tree.row_size(population))),
        )
        best = tree.where(better, population, state.best)
        reach, run = self._reached(state, better)
        fitness = jnp.minimum(fitness, state.fitness)
        step = state.step + 1
        return SwarmState(state.velocity, best, population, fitness, reach, run, step), info

    def remembered(self, state: SwarmState) -> Population:
        """Every particle's best position."""
        return state.best

    def reassess(self, state: SwarmState, fitness: Fitness) -> SwarmState:
        """The best positions with this fitness."""
        return state._replace(fitness=fitness)

    def _accelerate(self, key: Key, state: SwarmState) -> Population:
        inertia, chi = self._inertia(state.step), 1.0
        if self.constriction:
            phi = self.cognitive + self.social
            inertia, chi = 1.0, 2.0 / jnp.abs(2.0 - phi - jnp.sqrt(phi * phi - 4.0 * phi))
        leader = self._leaders(state.fitness)

        def accelerate(key, x, v, p):
            wide, own, position = tree.wide(v), _moving(p), _moving(x)
            r1, r2 = (u.astype(wide.dtype) for u in draws.two_uniforms(key, x.shape))
            own_pull = self.cognitive * r1 * (own - position)
            led = own[leader[0]] if self.topology == "global" else own[leader]
            social_pull = self.social * r2 * (led - position)
            new = chi * (inertia * wide + own_pull + social_pull)
            if self.guaranteed and not tree.is_bool(x):
                leads = tree.rows(leader == jnp.arange(self.pop_size, dtype=leader.dtype), x)
                noise = tree.rows(state.reach, x).astype(wide.dtype) * (1 - 2 * r1)
                new = jnp.where(leads, own - position + inertia * wide + noise, new)
            clamp = self.bit_velocity_clamp if tree.is_bool(x) else self.velocity_clamp
            if clamp is not None:
                new = jnp.clip(new, -clamp, clamp)
            return new.astype(v.dtype)

        return tree.map_keys(accelerate, key, state.position, state.velocity, state.best)

    def _reached(self, state: SwarmState, better: Bool[Array, " pop"]) -> tuple[Array, Array]:
        if not self.guaranteed:
            return state.reach, state.run
        leader = self._leaders(state.fitness)
        leads = leader == jnp.arange(self.pop_size, dtype=leader.dtype)
        run = jnp.where(better, jnp.maximum(state.run, 0) + 1, jnp.minimum(state.run, 0) - 1)
        grows, shrinks = leads & (run >= 5), leads & (run <= -2)
        limits = jnp.finfo(state.reach.dtype)
        factor = jnp.where(grows, 2.0, jnp.where(shrinks, 0.5, 1.0)).astype(state.reach.dtype)
        reach = jnp.clip(state.reach * factor, limits.tiny, limits.max**0.5)
        return reach, jnp.where(leads & ~grows & ~shrinks, run, 0)

    def _inertia(self, step: Int[Array, ""]) -> Scalar:
        if self.final_inertia is None:
            return self.inertia
        done = jnp.minimum(step.astype(jnp.result_type(float)) / self.num_steps, 1.0)
        return self.inertia + (self.final_inertia - self.inertia) * done

    def _leaders(self, fitness: Fitness) -> Int[Array, " pop"]:
        if self.topology == "global":
            return jnp.broadcast_to(jnp.argmin(fitness), fitness.shape)
        table = jnp.asarray(neighbours(self.topology, self.pop_size))
        best = jnp.argmin(fitness[table], axis=1)
        return jnp.take_along_axis(table, best[:, None], axis=1)[:, 0]

    def _rebound(self, flown: Population, inside: Population, velocity: Population) -> Population:
        if self.bounds is None or self.bounds.mode == "wrap":
            return velocity
        stops = self.bounds.mode == "clip"

        def leaf(x, kept, v):
            hit = jnp.zeros_like(v) if stops else -v
            return v if tree.is_bool(x) else jnp.where(x == kept, v, hit)

        return jax.tree.map(leaf, flown, inside, velocity)


def neighbours(topology: str, pop_size: int) -> np.ndarray:
    """Who informs whom: row i lists the neighbourhood of particle i, itself first (pop, k)."""
    own = np.arange(pop_size, dtype=np.int32)
    if topology == "ring":
        return np.stack([own, (own - 1) % pop_size, (own + 1) % pop_size], axis=1)
    rows = max(d for d in range(1, math.isqrt(pop_size) + 1) if pop_size % d == 0)
    columns = pop_size // rows
    row, column = own // columns, own % columns
    around = [
        own,
        (row - 1) % rows * columns + column,
        (row + 1) % rows * columns + column,
        row * columns + (column - 1) % columns,
        row * columns + (column + 1) % columns,
    ]
    return np.stack(around, axis=1).astype(np.int32)


def _moving(x: Array) -> Array:
    # Bits fly as the numbers 0 and 1.
    return x.astype(jnp.result_type(float)) if tree.is_bool(x) else tree.wide(x)
