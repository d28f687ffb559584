"""A population's fitness in one compiled call, a chunk of members at a time."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from . import memory
from .core import Fitness, Params, Population, no_nan
from .low_rank import Fallback, apply
from .population import LowRank, Seeded, size
from .spaces.base import decode

# Hashable, called as objective(params, batch).
Objective = Callable[[Params, Any], Float[Array, ""]]


def evaluate(
    objective: Objective,
    space: Any,
    population: Population,
    batch: Any,
    *,
    chunk_size: int | None = None,
) -> Fitness:
    """Fitness (pop,) of every member: objective(space.decode(member), batch), NaN as +inf.

    Compiled once for an objective, a space's structure and the shapes; parameters and batches are
    arguments. May itself be called under `jax.jit`.

    Args:
        objective: a pure function (params, batch) -> scalar. It is part of the compile key, by its
            hash: keep one object instead of making a new lambda for every call.
        space: a `Space`, or a tree of parameters (then members are whole trees).
        population: leaves (pop, ...); or `Seeded` or `LowRank`, whose members are never held.
        batch: any pytree of arrays.
        chunk_size: members computed side by side; None: `largest_chunk` on an accelerator and 1 on
            a CPU, where more is slower unless batches are small (`python -m benchmarks chunks`).

    Raises:
        ValueError: chunk_size below 1, or an objective that does not return a scalar.
        MemoryError: not even one member fits into the device's memory.
    """
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected at least 1")
    arguments = (space, population, batch)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)):
        return _evaluate(objective, chunk_size or 1, *arguments)
    return compiled(objective, *arguments, chunk_size=chunk_size)(*arguments)


def compiled(
    objective: Objective,
    space: Any,
    population: Population,
    batch: Any,
    *,
    chunk_size: int | None = None,
) -> Any:
    """The executable that `evaluate` runs, kept for the next call with the same shapes.

    Call it with (space, population, batch). `memory_analysis()`, `cost_analysis()` and `as_text()`
    tell what it needs and does. Arrays may be given as `jax.ShapeDtypeStruct`.
    """
    leaves, treedef = jax.tree.flatten((space, population, batch))
    signatures = tuple(map(_signature, leaves))
    if chunk_size is None:
        chunk_size = _default_chunk(objective, treedef, signatures)
    return _executable(objective, chunk_size, treedef, signatures)


def largest_chunk(
    objective: Objective,
    space: Any,
    population: Population,
    batch: Any,
    *,
    available: int | None = None,
) -> int:
    """Members that fit side by side, from the memory that the compiler reports for one and for two.

    Args:
        available: bytes for the computation; None: what the device has free, of which nine tenths
            are used. On a CPU 1 is the answer as long as it fits.

    Raises:
        MemoryError: one member needs more than there is.
    """
    pop_size = size(population)
    budget = available if available is not None else memory.free() * 9 // 10

    def peak(chunk_size):
        program = compiled(objective, space, population, batch, chunk_size=chunk_size)
        return int(program.memory_analysis().temp_size_in_bytes)

    one = peak(1)
    if one > budget:
        raise MemoryError(
            f"one member needs {memory.readable(one)} beside weights and population, but "
            f"{memory.readable(budget)} are free: use fewer or shorter rows per batch, or a "
            "smaller chunk_size of the objective"
        )
    if pop_size == 1 or (available is None and jax.default_backend() == "cpu"):
        return 1
    each = max(peak(2) - one, 1)
    return max(1, min(pop_size, 1 + (budget - one) // each))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(objective, chunk_size, space, population, batch):
    def fitness(member, space, batch):
        value = objective(decode(space, member), batch)
        if jnp.shape(value) != ():
            raise ValueError(
                f"objective returned shape {jnp.shape(value)}; expected a scalar, shape ()"
            )
        return jnp.asarray(value)

    if isinstance(population, Seeded | LowRank):
        return no_nan(_by_pairs(fitness, chunk_size, space, population, batch))
    # A chunk of one is mapped without a batch axis: plain matrix products.
    return no_nan(
        jax.lax.map(
            lambda member: fitness(member, space, batch),
            population,
            batch_size=chunk_size if chunk_size > 1 else None,
        )
    )


def _by_pairs(fitness, chunk_size, space, population, batch):
    """Fitness (pop,) of members that are never materialised; a pair's noise is drawn once."""
    fallback: Fallback = population.fallback if isinstance(population, LowRank) else "materialise"

    def both(pair):
        drawn = population.draw(pair)

        def one(sign):
            weights = population.weights(drawn, sign)
            return apply(fitness, weights, space, batch, fallback=fallback)

        signs = population.signs(2 * pair + jnp.arange(2))
        return jax.vmap(one)(signs) if chunk_size > 1 else jax.lax.map(one, signs)

    pairs = jnp.arange(-(-population.pop_size // 2))
    at_once = min(chunk_size // 2, pairs.shape[0])
    found = jax.lax.map(both, pairs, batch_size=at_once if at_once > 1 else None)
    return found.reshape(-1)[: population.pop_size]


@functools.lru_cache(maxsize=64)
def _default_chunk(objective, treedef, signatures):
    # Kept: free memory changes all the time, and another chunk would be another compilation.
    return largest_chunk(objective, *_arguments(treedef, signatures))


@functools.lru_cache(maxsize=64)
def _executable(objective, chunk_size, treedef, signatures):
    arguments = _arguments(treedef, signatures)
    return _evaluate.lower(objective, chunk_size, *arguments).compile()


def _arguments(treedef, signatures):
    return treedef.unflatten(jax.ShapeDtypeStruct(s, d, sharding=p) for s, d, p in signatures)


def _signature(leaf: Any) -> tuple[Any, ...]:
    if not hasattr(leaf, "dtype"):
        leaf = jnp.asarray(leaf)
    return leaf.shape, leaf.dtype, getattr(leaf, "sharding", None)
