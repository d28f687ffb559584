"""Evolution strategy with low-rank members (Sarkar et al., 2025, arXiv:2511.16652)."""

from typing import Literal

from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..noise import Generator, Kind, Noise
from ..operators import evolution
from ..operators.evolution import Optimizer, StrategyInfo, StrategyState
from ..operators.rounding import Rounding
from ..operators.schedules import Schedule
from ..population import LowRank


@algorithm
class LowRankES:
    """Evolution strategy whose members move matrices by A B^T of low rank, never materialised.

    Member 0 of every population is the center, so that the best candidate is seen.

    Attributes:
        scale: σ, standard deviation of the move of a parameter.
        rank: of the move of a matrix; vectors get noise of their own.
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
        fallback: what happens to a matrix that is used in a way that has no low-rank rule:
            `materialise` it for every member, with a warning, or `refuse`.
        pop_size: members, at least 2.

    Reference: Sarkar et al. (2025), arXiv:2511.16652; Salimans et al. (2017), arXiv:1703.03864.
    """

    scale: Scalar = within(0.02, 1e-12)
    scale_schedule: Schedule = static("constant")
    learning_rate: Scalar = within(0.02, 0)
    learning_rate_schedule: Schedule = static("constant")
    optimizer: Optimizer = static("adam")
    shaping: Literal["ranks", "z-scores"] = static("ranks")
    rounding: Rounding = static("none")
    rank: int = static(1)
    noise: Kind = static("signs")
    generator: Generator = static("threefry2x32")
    fallback: Literal["materialise", "refuse"] = static("materialise")
    pop_size: int = static(32)

    least_members = 2

    def __post_init__(self) -> None:
        """Check the rank."""
        if self.rank < 1:
            raise ValueError(f"LowRankES: rank is {self.rank}; expected at least 1")

    def init(self, key: Key, start: Params) -> StrategyState:
        """Begin at `start`; see `jaxgfo.init`."""
        return evolution.begin(self, start)

    def ask(self, key: Key, state: StrategyState) -> tuple[Population, StrategyState]:
        """The center and antithetic pairs around it, as a `LowRank` population."""
        noise = Noise(self.noise, self.generator)
        scale = evolution.scale(self, state)
        population = LowRank(
            state.center, key, scale, self.pop_size, self.rank, noise, self.fallback
        )
        return population, state

    def tell(
        self, key: Key, state: StrategyState, population: Population, fitness: Fitness
    ) -> tuple[StrategyState, StrategyInfo]:
        """One step of the optimiser along the estimated gradient."""
        return evolution.follow(self, key, state, population, fitness)
