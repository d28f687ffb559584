"""Algorithms of this package and their namesakes in evosax, with the same hyperparameters.

Each side is called as its users call it: `jaxgfo.init`, `ask` and `tell`, with the population
donated as `jaxgfo.run` does it, and evosax's jitted methods as its README has them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

SCALE, RATE = 0.05, 0.02


class Pair(NamedTuple):
    """One algorithm on both sides."""

    jaxgfo: str  # name in the registry
    evosax: str
    ours: dict[str, Any]
    theirs: dict[str, Any]  # arguments of the constructor
    params: dict[str, Any]  # of evosax's `Params`
    members: bool = True  # False: of a population that is a center and a key none is made
    most: int | None = None  # coordinates, with a matrix of their square


def _adam() -> Any:
    import optax

    return optax.adam(RATE)


def _constant() -> Any:
    import optax

    return optax.constant_schedule(SCALE)


def pairs() -> dict[str, Pair]:
    """By the name a case has in the records."""
    genetic = {
        "selection": "truncation",
        "truncation": 0.5,
        "crossover": "uniform",
        "crossover_rate": 1.0,
        "mutation_scale": SCALE,
    }
    strategy = {"scale": SCALE, "learning_rate": RATE, "optimizer": "adam"}
    swarm = {"inertia": 0.75, "cognitive": 1.5, "social": 2.0}
    moved = {"inertia_coeff": 0.75, "cognitive_coeff": 1.5, "social_coeff": 2.0}
    differential = {"weight": 0.8, "crossover": 0.9, "strategy": "best/1"}
    wide = {"std_init": SCALE}
    scheduled, with_adam = {"std_schedule": _constant()}, {"optimizer": _adam()}

    def strategies(noise: str, members: bool) -> Pair:
        ours = {**strategy, "noise": noise}
        return Pair("openes", "Open_ES", ours, scheduled | with_adam, {}, members)

    def drawn(key: Any, like: Any) -> Any:
        return SCALE * jax.random.normal(key, like.shape)

    return {
        "ga": Pair("ga", "SimpleGA", genetic, scheduled, {"crossover_rate": 0.5}),
        "de": Pair("de", "DifferentialEvolution", differential, {}, {}),
        "pso": Pair("pso", "PSO", swarm, {}, moved),
        "sa": Pair("sa", "SimulatedAnnealing", {"scale": SCALE}, scheduled, {}),
        "cma": Pair("cma", "CMA_ES", {}, {}, wide, most=1000),
        "sepcma": Pair("sepcma", "Sep_CMA_ES", {}, {}, wide),
        "snes": Pair("snes", "SNES", {}, {}, wide),
        "xnes": Pair("xnes", "xNES", {}, {}, wide, most=2000),
        "pgpe": Pair("pgpe", "PGPE", {"learning_rate": RATE}, with_adam, wide),
        "openes": strategies("normal", True),
        "openes seeded": strategies("normal", False),
        "openes signs": strategies("signs", True),
        "openes signs seeded": strategies("signs", False),
        "lmma": Pair("lmma", "LM_MA_ES", {}, {}, wide),
        "random": Pair("random", "RandomSearch", {}, {"sampling_fn": drawn}, {}),
    }


class Side(NamedTuple):
    """What is timed: a generation after another, each alone or some in one compiled loop."""

    begin: Callable[[], Any]  # a state
    generation: Callable[[Any, Any], Any]  # key, state -> state
    loop: Callable[[Any, Any], Any]  # keys, state -> state


def ours(pair: Pair, dims: int, pop_size: int) -> Side:
    """This package's."""
    import jaxgfo

    search: Any = jaxgfo.REGISTRY[pair.jaxgfo](pop_size=pop_size, **pair.ours)
    key, fitness = jax.random.key(0), _fitness(pop_size)
    seeded = pair.jaxgfo == "openes" and pair.members

    made = jax.jit(jaxgfo.members)

    def generation(key: Any, state: Any) -> Any:
        population, state = jaxgfo.ask(search, key, state)
        if seeded:
            jax.block_until_ready(made(population))
        return jaxgfo.tell(search, key, state, population, fitness, donate_population=True)[0]

    def step(state: Any, key: Any) -> Any:
        population, state = search.ask(key, state)
        seen = fitness
        if pair.members:
            seen += _read(made(population) if seeded else population)
        return search.tell(key, state, population, seen)[0], None

    def begin() -> Any:
        return jaxgfo.init(search, key, jnp.zeros(dims))

    return Side(begin, generation, _loop(step))


def theirs(pair: Pair, dims: int, pop_size: int) -> Side:
    """evosax's."""
    import functools

    import evosax.algorithms

    start, key, fitness = jnp.zeros(dims), jax.random.key(0), _fitness(pop_size)
    more = dict(pair.theirs)
    if "sampling_fn" in more:
        more["sampling_fn"] = functools.partial(more["sampling_fn"], like=start)
    search = getattr(evosax.algorithms, pair.evosax)(
        population_size=pop_size, solution=start, **more
    )
    params = search.default_params.replace(**pair.params)

    def generation(key: Any, state: Any) -> Any:
        population, state = search.ask(key, state, params)
        return search.tell(key, population, fitness, state, params)[0]

    def step(state: Any, key: Any) -> Any:
        population, state = search.ask(key, state, params)
        seen = fitness + _read(population)
        return search.tell(key, population, seen, state, params)[0], None

    def begin() -> Any:
        if hasattr(search, "get_population"):
            return search.init(key, jnp.zeros((pop_size, dims)), fitness, params)
        return search.init(key, start, params)

    return Side(begin, generation, _loop(step))


def _fitness(pop_size: int) -> Any:
    return jax.random.normal(jax.random.key(1), (pop_size,))


def _read(population: Any) -> Any:
    """0 for every member, from all of its numbers: what nothing reads would not be made."""
    return 0 * jnp.sum(population, axis=1)


def _loop(step: Any) -> Any:
    return jax.jit(lambda keys, state: jax.lax.scan(step, state, keys)[0])
