"""Runs of ask and tell on bbob functions, jitted, instances side by side."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgfo

from . import bbob, ecdf
from .bbob import HIGH, LOW


def instances(function: int, dim: int, numbers: list[int]) -> bbob.Instance:
    """Stacked, each leaf (instances, ...)."""
    return jax.tree.map(lambda *x: np.stack(x), *(bbob.instance(function, i, dim) for i in numbers))


def hits(search: Any, function: int, dim: int, numbers: list[int], budget: int) -> np.ndarray:
    """Evaluations to each target (instances, targets) of one of our algorithms, or an adapter."""
    box = instances(function, dim, numbers)
    keys = jax.vmap(jax.random.key)(np.asarray(numbers, np.uint32))
    if hasattr(search, "restart"):
        each = [
            _restarted(search, function, bbob.instance(function, number, dim), key, budget)
            for number, key in zip(numbers, keys)
        ]
    else:
        each = np.asarray(
            _side_by_side(search, jnp.asarray(function, jnp.int32), box, keys, budget)
        )
        each = each.reshape(len(numbers), -1)[:, :budget]
    return np.stack([ecdf.hits(run) for run in each])


def start(key: Any, dim: int) -> Any:
    """Uniform in the box."""
    return jax.random.uniform(key, (dim,), minval=LOW, maxval=HIGH)


@functools.partial(jax.jit, static_argnames="budget")
def _side_by_side(search: Any, function: Any, box: Any, keys: Any, budget: int) -> Any:
    """Regrets (instances, generations, pop)."""
    generations = -(-budget // search.pop_size)

    def run(box, key):
        start_key, init_key, key = jax.random.split(key, 3)

        def generation(state, key):
            ask_key, tell_key = jax.random.split(key)
            population, state = search.ask(ask_key, state)
            fitness = bbob.regret(function, box, jnp.clip(population, LOW, HIGH))
            # With f_opt, whose digits hide small differences from everybody.
            state, _ = search.tell(tell_key, state, population, fitness + box.lowest)
            return state, fitness

        state = search.init(init_key, start(start_key, box.optimum.size))
        return jax.lax.scan(generation, state, jax.random.split(key, generations))[1]

    return jax.vmap(run)(box, keys)


def _restarted(search: Any, function: int, box: Any, key: Any, budget: int) -> np.ndarray:
    """Regrets (evaluations,), of one run after the other."""
    start_key, init_key, key = jax.random.split(key, 3)
    begin = start(start_key, box.optimum.size)
    state, spent = jaxgfo.init(search, init_key, begin), []
    left = budget
    while True:
        key, run_key, next_key = jax.random.split(key, 3)
        most = -(-budget // search.pop_size)
        allowed = -(-left // search.pop_size)
        state, fitness, told = _until_stopped(
            search, state, jnp.asarray(function, jnp.int32), box, run_key, allowed, most
        )
        told = int(told)
        spent.append(np.asarray(fitness[:told]).reshape(-1))
        left -= told * search.pop_size
        following = search.restart(next_key, state, begin) if left > 0 else None
        if following is None:
            return np.concatenate(spent)[:budget]
        search, state = following


@functools.partial(jax.jit, static_argnames="most")
def _until_stopped(search, state, function, box, key, allowed, most):
    """The state, regrets (most, pop), and generations told, at most `allowed`."""

    def generation(carry):
        state, fitness, told, _ = carry
        ask_key, tell_key = jax.random.split(jax.random.fold_in(key, told))
        population, state = search.ask(ask_key, state)
        found = bbob.regret(function, box, jnp.clip(population, LOW, HIGH))
        state, info = search.tell(tell_key, state, population, found + box.lowest)
        return state, fitness.at[told].set(found), told + 1, info.stopped > 0

    def going(carry):
        return (carry[2] < allowed) & ~carry[3]

    fitness = jnp.full((most, search.pop_size), jnp.inf)
    state, fitness, told, _ = jax.lax.while_loop(
        going, generation, (state, fitness, jnp.int32(0), jnp.bool_(False))
    )
    return state, fitness, told
