"""OpenAI's evolution strategy (Salimans et al., 2017, arXiv:1703.03864)."""

from typing import Literal

from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..noise import Generator, Kind, Noise
from ..operators import evolution
from ..operators.evolution import Optimizer, StrategyInfo, StrategyState
from ..population import Seeded


@algorithm
class OpenES:
    """Evolution strategy with antithetic full-rank noise, drawn from keys and never stored.

    Member 0 of every population is the center, so that the best candidate is seen.

    Attributes:
        scale: σ, standard deviation of the noise.
        learning_rate: of the optimiser.
        optimizer: name of an optimiser in optax; or, in Python, a function of the learning rate
            like `optax.adam`, or a ready transformation, whose own rate holds then.
        shaping: `ranks`, centred, or `z-scores`.
        noise: `normal`, `signs` (+1 or -1) or `table` (blocks of a table of normal numbers).
        generator: of random words: `threefry2x32`, `threefry4x32`, `rbg` or `unsafe_rbg`.
        pop_size: members, at least 2.

    Reference: Salimans et al. (2017), arXiv:1703.03864.
    """

    scale: Scalar = within(0.02, 1e-12)
    learning_rate: Scalar = within(0.02, 0)
    optimizer: Optimizer = static("adam")
    shaping: Literal["ranks", "z-scores"] = static("ranks")
    noise: Kind = static("signs")
    generator: Generator = static("threefry2x32")
    pop_size: int = static(32)

    least_members = 2

    def init(self, key: Key, start: Params) -> StrategyState:
        """Begin at `start`; see `jaxgfo.init`."""
        return evolution.begin(start, self.optimizer, self.learning_rate, "OpenES")

    def ask(self, key: Key, state: StrategyState) -> tuple[Population, StrategyState]:
        """The center and antithetic pairs around it, as a `Seeded` population."""
        noise = Noise(self.noise, self.generator)
        return Seeded(state.center, key, self.scale, self.pop_size, noise), state

    def tell(
        self, key: Key, state: StrategyState, population: Population, fitness: Fitness
    ) -> tuple[StrategyState, StrategyInfo]:
        """One step of the optimiser along the estimated gradient."""
        return evolution.follow(
            state,
            population,
            fitness,
            shaping=self.shaping,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
        )
