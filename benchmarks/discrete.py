"""Evaluations to the optimum of problems of bits: every algorithm that moves bits, and others.

A run is an instance of its own, started from random bits, and ends at the optimum, which is known,
or with the budget, which is the same for all. `left` is the mean of what is left then of the way
from a random candidate to the optimum, in units of fitness. What is in FILE of `--json` with the
same settings is not run again.
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxgfo import REGISTRY

from . import bit_peers, bits, records
from .timing import stopwatch
from .tuning import plain

SIZES = {
    "onemax": (64, 256),
    "leading ones": (32, 96),
    "trap": (30, 60),
    "nk": (32, 64),
    "knapsack": (40, 100),
    "cut, graph": (20,),
    "cut, grid": (64, 128),
}
OURS: dict[str, Any] = {
    "ga": REGISTRY["ga"](),
    "ga roulette": REGISTRY["ga"](selection="roulette"),
    "ga truncation": REGISTRY["ga"](selection="truncation"),
    "ga single_point": REGISTRY["ga"](crossover="single_point"),
    "ga two_point": REGISTRY["ga"](crossover="two_point"),
    # Parents are as many as children, and the best of both stay: (mu + lambda), as pymoo's.
    "ga half stays": REGISTRY["ga"](pop_size=100, elites=50, crossover="two_point"),
    "sa": REGISTRY["sa"](),
    "pt": REGISTRY["pt"](),
    "pso": REGISTRY["pso"](),
    "random": REGISTRY["random"](),
}
RUNS = 15
CASE = ("problem", "size", "budget", "runs")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    every = [*OURS, *bit_peers.PEERS]
    parser.add_argument("--searches", nargs="+", default=every, choices=every, metavar="NAME")
    parser.add_argument("--problems", nargs="+", default=[*SIZES], choices=SIZES, metavar="NAME")
    parser.add_argument("--evaluations", type=int, default=10_000, help="of a run")
    parser.add_argument("--runs", type=int, default=RUNS, help="each on an instance of its own")
    parser.add_argument("--first-instance", type=int, default=0, help="its number")


def main(
    quick: bool,
    json: str | None,
    searches: list[str],
    problems: list[str],
    evaluations: int,
    runs: int,
    first_instance: int,
) -> None:
    """All sizes; `--quick`: the smallest, five runs, and a tenth of the budget."""
    budget, runs = (evaluations // 10, 5) if quick else (evaluations, runs)
    numbers, results = list(range(first_instance, first_instance + runs)), []
    known = {_identity(r): r for r in records.kept(json)}
    for problem in problems:
        for size in SIZES[problem][:1] if quick else SIZES[problem]:
            made = [bits.instance(problem, size, number) for number in numbers]
            for search in searches:
                case = {"search": search, "settings": _settings(search), "problem": problem}
                case |= {"size": size, "budget": budget, "runs": runs, "seed": first_instance}
                if _identity(case) not in known:
                    known[_identity(case)] = _measured(case, made, numbers)
                    records.append(json, [known[_identity(case)]])
                results.append(known[_identity(case)])
    _show(results)


def _settings(search: str) -> dict[str, Any]:
    return plain(OURS[search]) if search in OURS else {}


def _identity(record: dict[str, Any]) -> str:
    return repr([record.get(n) for n in ("search", "settings", *CASE, "seed")])


def _measured(case: dict[str, Any], made: Any, numbers: list[int]) -> records.Record:
    search, (problem, size, budget, _) = case["search"], (case[name] for name in CASE)
    library, peer = bit_peers.PEERS.get(search, (None, None))
    if library and not records.installed(library):
        return records.skipped("discrete", library, **case)
    with stopwatch() as watch:
        if peer is None:
            ends, best = ours(OURS[search], problem, made, numbers, size, budget)
        else:
            ends, best = theirs(peer, problem, made, numbers, size, budget)
    reached = np.isfinite(ends)
    optimum, typical = np.array([i.optimum for i in made]), _typical(problem, made, size)
    middle = float(np.median(ends))
    return records.record(
        "discrete",
        libraries=[library] if library else [],
        **case,
        solved=int(reached.sum()),
        median_evaluations=middle if np.isfinite(middle) else None,
        left=float(np.mean((best - optimum) / (typical - optimum))),
        evaluations=int(np.where(reached, ends, budget).sum()),
        **watch,
        figure=float(reached.mean()),
        spread=[float(ends[reached].min()), float(ends[reached].max())] if reached.any() else None,
    )


def ours(search: Any, problem: str, made: Any, numbers: list[int], size: int, budget: int) -> Any:
    """Evaluations to the optimum (+inf: not reached) and the lowest fitness, of each instance."""
    data = jax.tree.map(lambda *x: np.stack(x), *(i.data for i in made))
    keys = jax.vmap(jax.random.key)(np.asarray(numbers, np.uint32))
    found = np.asarray(_side_by_side(search, problem, data, keys, size, budget))
    found = found.reshape(len(numbers), -1)[:, :budget]
    hit = found <= np.array([i.optimum for i in made])[:, None]
    return np.where(hit.any(axis=1), np.argmax(hit, axis=1) + 1.0, np.inf), found.min(axis=1)


@functools.partial(jax.jit, static_argnames=("problem", "size", "budget"))
def _side_by_side(search: Any, problem: str, data: Any, keys: Any, size: int, budget: int) -> Any:
    """Fitness (instances, generations, pop)."""

    def run(data, key):
        start_key, init_key, key = jax.random.split(key, 3)

        def generation(state, key):
            ask_key, tell_key = jax.random.split(key)
            population, state = search.ask(ask_key, state)
            fitness = bits.PROBLEMS[problem].fitness(jnp, data, population.astype(jnp.int32))
            fitness = fitness.astype(jnp.float32)
            state, _ = search.tell(tell_key, state, population, fitness)
            return state, fitness

        start = jax.random.bernoulli(start_key, shape=(size,))
        state = search.init(init_key, start)
        generations = -(-budget // search.pop_size)
        return jax.lax.scan(generation, state, jax.random.split(key, generations))[1]

    return jax.vmap(run)(data, keys)


def theirs(peer: Any, problem: str, made: Any, numbers: list[int], size: int, budget: int) -> Any:
    """As `ours`."""
    ends, best = [], []
    for number, one in zip(numbers, made):
        fitness = functools.partial(bits.PROBLEMS[problem].fitness, np, one.data)
        score = bit_peers.Recorder(fitness, one.optimum, budget)
        try:
            peer(score, size, budget, number)
        except bit_peers.Over:
            ends.append(score.reached or np.inf)
            best.append(score.best)
    return np.array(ends, float), np.array(best)


def _typical(problem: str, made: Any, size: int) -> np.ndarray:
    """Mean fitness of random candidates, of each instance."""
    x = np.random.default_rng(0).integers(0, 2, (1000, size), np.int32)
    return np.array([bits.PROBLEMS[problem].fitness(np, i.data, x).mean() for i in made])


def _show(results: list[records.Record]) -> None:
    from .reports.discrete import tables

    for found in tables(results):
        table = Table(title=found.title)
        for column in found.columns:
            table.add_column(column, justify="left" if column == "search" else "right")
        for row in found.rows:
            table.add_row(*row)
        Console(width=max(Console().width, 150)).print(table)
