"""Evaluations to the optimum of test functions in ten dimensions, for every algorithm of reals.

Each run starts at x = 2 with step sizes of 0.5 and other fields at their defaults, and ends at a
fitness of 1e-6 or with the budget. An ellipsoid has condition 1e6, along the axes or turned.
"""

import argparse
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxgfo import REGISTRY
from jaxgfo.population import LowRank, Seeded, member

from . import records
from .timing import stopwatch

DIM, TARGET, SEEDS = 10, 1e-6, 15
TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0].astype(np.float32)


def _ellipsoid(x: Any) -> Any:
    return jnp.sum(jnp.float32(1e6) ** jnp.linspace(0, 1, DIM) * x**2)


FUNCTIONS = {
    "sphere": lambda x: jnp.sum(x**2),
    "ellipsoid": _ellipsoid,
    "turned": lambda x: _ellipsoid(jnp.asarray(TURN) @ x),
    "Rosenbrock": lambda x: jnp.sum(100 * (x[1:] + 1 - (x[:-1] + 1) ** 2) ** 2 + x[:-1] ** 2),
    "Rastrigin": lambda x: jnp.sum(x**2 + 10 - 10 * jnp.cos(2 * jnp.pi * x)),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    every = [name for name in REGISTRY if name != "int8-es"]
    parser.add_argument("--algorithms", nargs="+", default=every, choices=every, metavar="NAME")
    parser.add_argument("--evaluations", type=int, default=50_000, help="of a run")


def main(quick: bool, json: str | None, algorithms: list[str], evaluations: int) -> None:
    """Fifteen seeds; `--quick`: three, and a tenth of the budget."""
    seeds, budget = (3, evaluations // 10) if quick else (SEEDS, evaluations)
    results = []
    for name in algorithms:
        search = _sized(name)
        with stopwatch() as spent:
            fitness = np.asarray(_run(search, jax.random.split(jax.random.key(0), seeds), budget))
        reached = np.minimum.accumulate(fitness, axis=-1) <= TARGET
        for function, runs in zip(FUNCTIONS, reached):
            ends = [
                (int(np.argmax(run)) + 1) * search.pop_size if run.any() else None for run in runs
            ]
            solved = sorted(s for s in ends if s is not None)
            middle = solved[seeds // 2] if len(solved) > seeds // 2 else None
            results.append(
                records.record(
                    "functions",
                    algorithm=name,
                    function=function,
                    dim=DIM,
                    target=TARGET,
                    budget=budget,
                    seeds=seeds,
                    solved=len(solved),
                    median_evaluations=middle,
                    seed=0,
                    evaluations=seeds * budget,
                    **spent,  # of all functions side by side
                    figure=middle,
                    spread=(solved[0], solved[-1]) if solved else None,
                )
            )
    records.append(json, results)
    table = Table(title=f"median evaluations to {TARGET:g}, d = {DIM}, {budget} at most")
    for column in ("algorithm", *FUNCTIONS):
        table.add_column(column, justify="left" if column == "algorithm" else "right")
    for name in algorithms:
        found = [r for r in results if r["algorithm"] == name]
        cells = [
            f"{r['median_evaluations']}" if r["median_evaluations"] else f"{r['solved']} of {seeds}"
            for r in found
        ]
        table.add_row(name, *cells)
    Console().print(table)


def _sized(name: str) -> Any:
    cls = REGISTRY[name]
    fields = {f.name for f in dataclasses.fields(cls)}
    return cls(**{n: 0.5 for n in fields if n.endswith("scale")})


@functools.partial(jax.jit, static_argnames="budget")
def _run(search: Any, keys: Any, budget: int) -> Any:
    """Lowest fitness (functions, seeds, generations)."""

    def one(function, key):
        def score(x):
            return jax.lax.switch(function, [*FUNCTIONS.values()], x)

        def generation(state, key):
            ask_key, tell_key = jax.random.split(key)
            population, state = search.ask(ask_key, state)
            if isinstance(population, Seeded | LowRank):
                rows = jax.vmap(functools.partial(member, population))(jnp.arange(search.pop_size))
            else:
                rows = population
            fitness = jax.vmap(score)(rows)
            state, _ = search.tell(tell_key, state, population, fitness)
            return state, jnp.min(fitness)

        first, rest = jax.random.split(key)
        state = search.init(first, jnp.full(DIM, 2.0))
        return jax.lax.scan(generation, state, jax.random.split(rest, budget // search.pop_size))[1]

    each = jax.vmap(one, in_axes=(None, 0))
    return jax.vmap(each, in_axes=(0, None))(jnp.arange(len(FUNCTIONS)), keys)
