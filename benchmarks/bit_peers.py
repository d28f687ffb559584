"""Searchers of other libraries on bits, as their documentation has them, and a textbook (1+1)-EA.

Every one is a function `(score, size, budget, seed)`: `score` takes rows of zeros and ones
(rows, size), returns their fitness (rows,), and raises `Over` when there is no need to go on.
"""

# The libraries are an extra: nobody needs them to check types.
# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import Any

import numpy as np

Score = Callable[[np.ndarray], np.ndarray]
Search = Callable[[Score, int, int, int], None]


class Over(Exception):
    """The budget is spent, or the optimum found."""


class Recorder:
    """Counts evaluations until a fitness of `optimum`; remembers the best."""

    def __init__(self, fitness: Score, optimum: float, budget: int):
        self.fitness, self.optimum, self.budget = fitness, optimum, budget
        self.spent, self.best, self.reached = 0, np.inf, None

    def __call__(self, x: Any) -> np.ndarray:
        """Fitness of rows (rows, size), or `Over`."""
        rows = np.atleast_2d(np.asarray(x, np.int32))[: self.budget - self.spent]
        if not len(rows) or self.reached:
            raise Over
        found = self.fitness(rows)
        hit = found <= self.optimum
        if hit.any():
            self.reached = self.spent + int(np.argmax(hit)) + 1
        self.spent += len(rows)
        self.best = min(self.best, float(found.min()))
        if self.reached or len(rows) < len(np.atleast_2d(x)):
            raise Over
        return found


def one_plus_one(score: Score, size: int, budget: int, seed: int) -> None:
    """(1+1)-EA: every bit flipped with probability 1 / size, kept unless worse (Droste, 2002)."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, size, np.int32)
    fitness = score(x)[0]
    while True:
        child = x ^ (rng.random(size) < 1 / size)
        found = score(child)[0]
        if found <= fitness:
            x, fitness = child, found


def pymoo(score: Score, size: int, budget: int, seed: int) -> None:
    """GA with the operators of pymoo's guide for binary variables, at its defaults."""
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.bitflip import BitflipMutation
    from pymoo.operators.sampling.rnd import BinaryRandomSampling
    from pymoo.optimize import minimize

    class Bits(Problem):
        def _evaluate(self, x, out, *_, **__):
            out["F"] = score(x)

    operators: dict[str, Any] = {
        "sampling": BinaryRandomSampling(),
        "crossover": TwoPointCrossover(),
        "mutation": BitflipMutation(),
    }
    search = GA(**operators, eliminate_duplicates=True)
    bits = Bits(n_var=size, n_obj=1, xl=0, xu=1, vtype=bool)
    while True:  # anew where it ends early
        minimize(bits, search, ("n_eval", budget), seed=seed, verbose=False, copy_algorithm=True)
        seed += 1_000


def nevergrad(name: str) -> Search:
    """An optimiser of nevergrad by its registered name, on an integer array of zeros and ones.

    Its `Choice` and `TransitionChoice` take two to ten times as long, and more evaluations.
    """

    def search(score: Score, size: int, budget: int, seed: int) -> None:
        import nevergrad

        space = nevergrad.p.Array(init=np.full(size, 0.5)).set_mutation(sigma=0.3)
        space = space.set_bounds(0, 1).set_integer_casting()
        space.random_state.seed(seed)
        optimizer = nevergrad.optimizers.registry[name](space, budget=budget)
        while True:
            asked = optimizer.ask()
            optimizer.tell(asked, float(score(np.asarray(asked.value))[0]))

    return search


PEERS: dict[str, tuple[str | None, Search]] = {  # module, search
    "(1+1)-EA": (None, one_plus_one),
    "pymoo GA": ("pymoo", pymoo),
    "nevergrad DiscreteOnePlusOne": ("nevergrad", nevergrad("DiscreteOnePlusOne")),
    "nevergrad DoubleFastGA": ("nevergrad", nevergrad("DoubleFastGADiscreteOnePlusOne")),
}
