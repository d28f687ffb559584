"""Evolution strategy on int8 weights (Salimans et al., 2017, arXiv:1703.03864)."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import mesh, tree
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..noise import Generator, Kind, Noise
from ..operators.evolution import Optimizer, transformation
from ..operators.feedback import nothing_left, whole_steps
from ..population import Seeded
from ..shaping import SHAPINGS, differ


class Int8State(NamedTuple):
    """State of `Int8ES`."""

    center: Params  # (...) int8
    residual: Params  # (...) int16, what has not been moved yet; see `operators.feedback`
    optimizer: Any  # of optax, in fp32; nothing for plain "sgd"
    step: Int[Array, ""]  # generations told


class Int8Info(NamedTuple):
    """What a generation of `Int8ES` shows."""

    center: Float[Array, ""]  # fitness of the center this generation began with
    moved: Float[Array, ""]  # share of the weights that took a step
    learnt: Float[Array, ""]  # 1, or 0 where all members were alike and nothing moved


@algorithm
class Int8ES:
    """Evolution strategy on int8-quantised weights, which stay int8.

    Members are center ± k, with whole steps k = scale * noise rounded at random and drawn again
    where they are needed, never stored. The estimate sum_i u_i sign_i k_i / (pop scale), u the
    shaped fitness, moves a weight by a fraction of a step; fractions add up in a residual, and a
    whole step is taken once there is one. So what is kept beside the weights, 1 byte each, are
    2 bytes of residual, and an optimiser's moments, 4 bytes each: plain "sgd" has none.

    Member 0 of every population is the center, so that the best candidate is seen.

    Attributes:
        scale: σ, standard deviation of the noise, in steps of the int8 grid; below 1 some weights
            of a member do not move.
        learning_rate: of the optimiser, in steps.
        threshold: from which on a residual becomes a step, in [0.5, 1]. At 1 a weight that has
            moved is a whole step away from moving on or back; at 0.5, rounding to nearest, the
            least noise moves it back.
        optimizer: name of an optimiser in optax; or, in Python, a function of the learning rate
            like `optax.adam`, or a ready transformation, whose own rate holds then.
        shaping: `ranks`, centred, or `z-scores`.
        noise: `normal`, `signs` (+1 or -1) or `table` (blocks of a table of normal numbers).
        generator: of random words: `threefry2x32`, `threefry4x32`, `rbg` or `unsafe_rbg`.
        pop_size: members, at least 2.

    Reference: Salimans et al. (2017), arXiv:1703.03864; error feedback: Seide et al. (2014),
    doi:10.21437/Interspeech.2014-274; int8 weights in an ES: Sarkar et al. (2025),
    arXiv:2511.16652.
    """

    scale: Scalar = within(1.0, 1e-12, 127)
    learning_rate: Scalar = within(10.0, 0)
    threshold: Scalar = within(1.0, 0.5, 1)
    optimizer: Optimizer = static("sgd")
    shaping: Literal["ranks", "z-scores"] = static("ranks")
    noise: Kind = static("signs")
    generator: Generator = static("threefry2x32")
    pop_size: int = static(32)

    least_members = 2

    def init(self, key: Key, start: Params) -> Int8State:
        """Begin at `start`; see `jaxgfo.init`."""
        tree.require(
            lambda x: x.dtype == jnp.int8,
            start,
            "Int8ES moves int8 weights: take model.quantised() (jaxgfo tune --dtype int8) and "
            "Select(model.params, '*.kernel') (--space 'select:*.kernel'), which leaves out the "
            "scales; or OpenES for real numbers",
        )
        with jax.numpy_dtype_promotion("standard"):
            moments = mesh.split(self._rule().init(_real(start)))
        residual = mesh.split(nothing_left(start))
        return Int8State(start, residual, moments, jnp.zeros((), jnp.int32))

    def ask(self, key: Key, state: Int8State) -> tuple[Population, Int8State]:
        """The center and antithetic pairs around it, as a `Seeded` population."""
        noise = Noise(self.noise, self.generator)
        return Seeded(state.center, key, self.scale, self.pop_size, noise), state

    def tell(
        self, key: Key, state: Int8State, population: Population, fitness: Fitness
    ) -> tuple[Int8State, Int8Info]:
        """Add the optimiser's move to the residual, and take the whole steps in it."""
        learnt = differ(fitness)
        total = population.contract(SHAPINGS[self.shaping](fitness) / fitness.shape[0])
        slope = jax.tree.map(lambda g: g / jnp.asarray(population.scale, g.dtype), total)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            moves, moments = self._rule().update(slope, state.optimizer, _real(population.center))
        steps, residual = whole_steps(population.center, state.residual, moves, self.threshold)
        # Momentum moves nothing either, where there was nothing to learn.
        steps, residual, moments = jax.tree.map(
            lambda new, old: jnp.where(learnt, new, old),
            (steps, residual, moments),
            (jax.tree.map(jnp.zeros_like, steps), state.residual, state.optimizer),
        )
        center = jax.tree.map(jnp.add, population.center, mesh.whole(steps))
        taken = jnp.stack([jnp.sum(x != 0, dtype=fitness.dtype) for x in jax.tree.leaves(steps)])
        info = Int8Info(
            center=jnp.where(jnp.isfinite(fitness[0]), fitness[0], jnp.finfo(fitness.dtype).max),
            moved=jnp.sum(taken) / tree.size(steps),
            learnt=learnt.astype(fitness.dtype),
        )
        return Int8State(center, mesh.split(residual), mesh.split(moments), state.step + 1), info

    def _rule(self) -> Any:
        return transformation(self.optimizer, self.learning_rate)


def _real(center: Params) -> Params:
    return jax.tree.map(lambda x: x.astype(jnp.float32), center)
