"""OpenAI's evolution strategy (Salimans et al., 2017, arXiv:1703.03864)."""

from typing import Literal

from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..noise import Generator, Kind, Noise
from ..operators import evolution
from ..operators.evolution import Optimizer, StrategyInfo, StrategyState
from ..operators.rounding import Rounding
from ..operators.schedules import Schedule
from ..population import Seeded


@algorithm
class OpenES:
    """Evolution strategy with antithetic full-rank noise, drawn from keys and never stored.

    Member 0 of every population is the center, so that the best candidate is seen.

    Attributes:
        scale: σ, standard deviation of the noise.
        scale_schedule: a factor on it for every generation: `constant`, a schedule of optax with
            its numbers after the first value, which is 1, like `cosine_decay_schedule:500:0.1`; or,
            in Python, a function of the generation's number.
        learning_rate: of the optimiser.
        learning_rate_schedule: a factor on it, as for the scale.
        optimizer: name of an optimiser in optax; or, in Python, a function of the learning rate
            like `optax.adam`, or a ready transformation, whose own rate holds then.
        shaping: `ranks`, centred, or `z-scores`.
        rounding: of a center narrower than fp32: `none`, it is kept in fp32 as well, 4 bytes a
            parameter; or `stochastic`, up or down at random, right on average, without a copy.
        noise: `normal`, `signs` (+1 or -1) or `table` (blocks of a table of normal numbers).
        generator: of random words: `threefry2x32`, `threefry4x32`, `rbg` or `unsafe_rbg`.
        pop_size: members, at least 2.

    Reference: Salimans et al. (2017), arXiv:1703.03864.
    """

    scale: Scalar = within(0.02, 1e-12)
    scale_schedule: Schedule = static("constant")
    learning_rate: Scalar = within(0.02, 0)
    learning_rate_schedule: Schedule = static("constant")
    optimizer: Optimizer = static("adam")
    shaping: Literal["ranks", "z-scores"] = static("ranks")
    rounding: Rounding = static("none")
    noise: Kind = static("signs")
    generator: Generator = static("threefry2x32")
    pop_size: int = static(32)

    least_members = 2

    def init(self, key: Key, start: Params) -> StrategyState:
        """Begin at `start`; see `jaxgfo.init`."""
        return evolution.begin(self, start)

    def ask(self, key: Key, state: StrategyState) -> tuple[Population, StrategyState]:
        """The center and antithetic pairs around it, as a `Seeded` population."""
        noise = Noise(self.noise, self.generator)
        scale = evolution.scale(self, state)
        return Seeded(state.center, key, scale, self.pop_size, noise), state

    def tell(
        self, key: Key, state: StrategyState, population: Population, fitness: Fitness
    ) -> tuple[StrategyState, StrategyInfo]:
        """One step of the optimiser along the estimated gradient."""
        return evolution.follow(self, key, state, population, fitness)
