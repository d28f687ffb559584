"""Parameter-exploring policy gradients (Sehnke et al., 2010, doi:10.1016/j.neunet.2009.12.004)."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import bounds as box
from .. import shaping, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import distribution
from ..operators.evolution import Optimizer, transformation
from ..population import repeat
from ..tree import Dtypes


class PGPEState(NamedTuple):
    """State of `PGPE`."""

    mean: Params  # (...) of the distribution, in wide precision
    sigma: Params  # (...) standard deviation of every coordinate
    optimizer: Any  # of optax
    dtypes: Dtypes  # dtypes of the candidate
    step: Int[Array, ""]  # generations told


class PGPEInfo(NamedTuple):
    """What a generation of `PGPE` shows."""

    sigma: Float[Array, ""]  # geometric mean of the standard deviations
    update: Float[Array, ""]  # root mean square of the mean's move
    learnt: Float[Array, ""]  # 1, or 0 where no member was better than another


@algorithm
class PGPE:
    """Policy gradients with parameter-based exploration, and symmetric sampling.

    Pairs x = mean ± e, with e ~ N(0, sigma^2) coordinate by coordinate. With u the shaped fitness,
    the optimiser descends along the mean of u (x - mean), and sigma falls by `sigma_rate` times the
    mean of u ((x - mean)^2 - sigma^2) / sigma. Those are the paper's sums over pairs, member by
    member.

    Attributes:
        learning_rate: of the optimiser.
        optimizer: name of an optimiser in optax; or, in Python, a function of the learning rate
            like `optax.adam`, or a ready transformation, whose own rate holds then.
        shaping: `ranks`, centred, or `z-scores`.
        sigma_rate: learning rate of sigma.
        max_change: largest relative change of a standard deviation in one generation (Toklu et
            al., 2020, arXiv:2008.02387, whose choice is the default, as that of `sigma_rate` is).
        init_scale: first standard deviation of every coordinate.
        bounds: the box searched; None: unbounded. What `wrap` moved is learnt where it came to lie.
        pop_size: members, an even number of them.

    Reference: Sehnke et al. (2010), doi:10.1016/j.neunet.2009.12.004, equations 10 to 15.
    """

    learning_rate: Scalar = within(0.02, 0)
    optimizer: Optimizer = static("adam")
    shaping: Literal["ranks", "z-scores"] = static("ranks")
    sigma_rate: Scalar = within(0.1, 0)
    max_change: Scalar = within(0.2, 0)
    init_scale: Scalar = within(0.05, 1e-12)
    bounds: Bounds | None = None
    pop_size: int = static(16)

    least_members = 2

    def __post_init__(self) -> None:
        """Members come in pairs."""
        if self.pop_size % 2:
            raise ValueError(
                f"PGPE: pop_size is {self.pop_size}, but members come in pairs; take an even number"
            )

    def init(self, key: Key, start: Params) -> PGPEState:
        """Begin at `start`; see `jaxgfo.init`."""
        mean, dtypes = distribution.begin(start, "PGPE")
        sigma = jax.tree.map(lambda x: jnp.full(x.shape, self.init_scale, x.dtype), mean)
        with jax.numpy_dtype_promotion("standard"):
            moments = transformation(self.optimizer, self.learning_rate).init(mean)
        return PGPEState(mean, sigma, moments, dtypes, jnp.zeros((), jnp.int32))

    def ask(self, key: Key, state: PGPEState) -> tuple[Population, PGPEState]:
        """Draw the pairs: members 2i and 2i + 1 are opposite each other."""
        noise = tree.normal(key, repeat(state.mean, self.pop_size // 2))

        def pairs(e, sigma):
            # Not two arrays put together: where XLA draws the noise there, it does so number by
            # number, and four times as slowly.
            signs = jnp.array([1, -1], e.dtype).reshape(1, 2, *[1] * sigma.ndim)
            return ((e * sigma)[:, None] * signs).reshape(self.pop_size, *sigma.shape)

        steps = jax.tree.map(pairs, noise, state.sigma)
        return distribution.members(state.mean, steps, state.dtypes, state.step, self.bounds), state

    def center(self, state: PGPEState) -> Params:
        """The mean, in the candidates' dtypes."""
        return state.dtypes.cast(state.mean)

    def tell(
        self, key: Key, state: PGPEState, population: Population, fitness: Fitness
    ) -> tuple[PGPEState, PGPEInfo]:
        """One step of the optimiser along the estimated gradient; sigma along its own."""
        weights = shaping.SHAPINGS[self.shaping](fitness) / self.pop_size
        learnt = shaping.differ(fitness)
        # Weights sum to 0, so any center will do. Where no member differs from the first, the
        # slope is exactly 0: Adam would take a full step along a rounding.
        first = jax.tree.map(lambda x: x[0], population)

        def terms(x):
            away = distribution.deviations(x, state.mean)
            excess = jax.tree.map(distribution.excess, away, state.sigma)
            return distribution.deviations(x, first), excess

        slope, excess = distribution.weighted(weights, population, terms)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            rule = transformation(self.optimizer, self.learning_rate)
            moves, moments = rule.update(slope, state.optimizer, state.mean)
        mean = box.apply(self.bounds, tree.lift(jnp.add, state.mean, moves))

        def change(sigma, g):
            share = jnp.clip(-self.sigma_rate * g, -self.max_change, self.max_change)
            return distribution.grown(sigma * (1.0 + share), 0.0)

        sigma = jax.tree.map(change, state.sigma, excess)
        mean = tree.where(learnt, mean, state.mean)
        sigma = tree.where(learnt, sigma, state.sigma)
        moments = jax.tree.map(lambda a, b: jnp.where(learnt, a, b), moments, state.optimizer)
        update = distribution.root_mean_square(jax.tree.map(jnp.subtract, mean, state.mean))
        info = PGPEInfo(distribution.geometric(sigma), update, learnt.astype(fitness.dtype))
        return PGPEState(mean, sigma, moments, state.dtypes, state.step + 1), info
