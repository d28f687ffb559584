"""Optimisers of other libraries, each as its documentation calls it for a box and a budget.

Every one is a function `(score, dim, budget, seed)`, where `score` takes a point of the box
[-5, 5]^dim and raises `Spent` after `budget` points.
"""

# The libraries are an extra: nobody needs them to check types.
# pyright: reportMissingImports=false

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from . import bbob, ecdf
from .bbob import HIGH, LOW

Score = Callable[[np.ndarray], float]


class Spent(Exception):
    """The budget is."""


def hits(name: str, function: int, dim: int, number: int, budget: int) -> np.ndarray:
    """Evaluations to each target of one run on COCO's own function."""
    import cocoex

    wanted = f"dimensions: {dim} function_indices: {function}"
    problem = cocoex.Suite("bbob", f"instances: {number}", wanted).get_problem(0)
    recorder, lowest = Recorder(problem, budget), bbob.instance(function, number, dim).lowest
    with warnings.catch_warnings(), contextlib.suppress(Spent):
        warnings.simplefilter("ignore")
        PEERS[name][2](recorder, dim, budget, number)
    return ecdf.hits(np.asarray(recorder.values) - lowest)


class Recorder:
    """A function that remembers what it returned."""

    def __init__(self, function: Score, budget: int):
        self.function, self.budget, self.values = function, budget, []

    def __call__(self, x: Any) -> float:
        """The value at `x`, if any are left."""
        if len(self.values) >= self.budget:
            raise Spent
        value = float(self.function(np.clip(np.asarray(x, float), LOW, HIGH)))
        self.values.append(value)
        return value


def _start(dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(LOW, HIGH, dim)


def pycma(score: Score, dim: int, budget: int, seed: int) -> None:
    """`fmin2` with IPOP restarts, and first steps of a fifth of the box."""
    import cma

    options = {"bounds": [LOW, HIGH], "maxfevals": budget, "verbose": -9, "seed": seed + 1}
    while True:
        cma.fmin2(score, _start(dim, seed), 2.0, options, restarts=9)
        seed += 1_000


def scipy_de(score: Score, dim: int, budget: int, seed: int) -> None:
    """`differential_evolution`, its final local search included."""
    from scipy.optimize import differential_evolution

    generations = max(1, budget // (15 * dim) - 1)
    while True:
        differential_evolution(
            score, [(LOW, HIGH)] * dim, maxiter=generations, rng=seed, x0=_start(dim, seed)
        )
        seed += 1_000


def scipy_dual_annealing(score: Score, dim: int, budget: int, seed: int) -> None:
    """`dual_annealing`, its local searches included."""
    from scipy.optimize import dual_annealing

    while True:
        dual_annealing(
            score,
            [(LOW, HIGH)] * dim,
            maxfun=budget,
            maxiter=budget,
            rng=seed,
            x0=_start(dim, seed),
        )
        seed += 1_000


def pymoo(name: str) -> Callable[[Score, int, int, int], None]:
    """A single-objective algorithm of pymoo at its defaults, started anew where it ends early."""

    def search(score: Score, dim: int, budget: int, seed: int) -> None:
        from importlib import import_module

        from pymoo.core.problem import Problem
        from pymoo.optimize import minimize

        class Box(Problem):
            def _evaluate(self, x, out, *_, **__):
                out["F"] = np.array([[score(row)] for row in x])

        module = {"GA": "ga", "DE": "de", "PSO": "pso", "CMAES": "cmaes"}[name]
        cls = getattr(import_module(f"pymoo.algorithms.soo.nonconvex.{module}"), name)
        while True:
            box = Box(n_var=dim, n_obj=1, xl=LOW, xu=HIGH)
            minimize(box, cls(), ("n_eval", budget), seed=seed, verbose=False)
            seed += 1_000

    return search


def nevergrad(name: str) -> Callable[[Score, int, int, int], None]:
    """An optimiser of nevergrad by its registered name."""

    def search(score: Score, dim: int, budget: int, seed: int) -> None:
        import nevergrad

        space = nevergrad.p.Array(shape=(dim,)).set_bounds(LOW, HIGH)
        space.random_state.seed(seed)
        optimizer = nevergrad.optimizers.registry[name](space, budget=budget)
        while True:
            candidate = optimizer.ask()
            optimizer.tell(candidate, score(candidate.value))

    return search


PEERS: dict[str, tuple[str, str, Callable[..., None]]] = {  # family, module, search
    "pycma": ("cma", "cma", pycma),
    "pymoo CMAES": ("cma", "pymoo", pymoo("CMAES")),
    "nevergrad CMA": ("cma", "nevergrad", nevergrad("CMA")),
    "scipy DE": ("de", "scipy", scipy_de),
    "pymoo DE": ("de", "pymoo", pymoo("DE")),
    "nevergrad DE": ("de", "nevergrad", nevergrad("DE")),
    "nevergrad TwoPointsDE": ("de", "nevergrad", nevergrad("TwoPointsDE")),
    "pymoo PSO": ("pso", "pymoo", pymoo("PSO")),
    "nevergrad PSO": ("pso", "nevergrad", nevergrad("PSO")),
    "scipy dual_annealing": ("sa", "scipy", scipy_dual_annealing),
    "pymoo GA": ("ga", "pymoo", pymoo("GA")),
}
