"""A population's fitness in one compiled call, a chunk of members at a time."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from . import memory, processes, tree
from . import mesh as meshes
from .core import Fitness, Params, Population, no_nan
from .flops import flops
from .low_rank import Stored, apply
from .population import LowRank, Seeded, indices, place, size
from .spaces import base

# Hashable, called as objective(params, batch).
Objective = Callable[[Params, Any], Float[Array, ""]]
ROWS = 1024  # of a product, from which a CPU's cores are busy and its caches not yet full
LIMITS = {LowRank: (2, 16), Seeded: (2, 2)}  # members side by side on a CPU; others: 1 to 4


def evaluate(
    objective: Objective,
    space: Any,
    population: Population,
    batch: Any,
    *,
    chunk_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
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
        chunk_size: members that a device computes side by side; None: `largest_chunk`. A `LowRank`
            or `Seeded` population is computed in pairs, an odd number is one less.
        mesh: of devices; members are spread over its axis "pop", and large weights lie where
            `space` has them, over an axis "model" for one. What does not lie on its devices yet is
            copied there at every call. None: the mesh that `jax.set_mesh` set,
            if any, else one device. Under `jax.jit` a mesh can only be set outside.

    Raises:
        ValueError: chunk_size below 1, an objective that does not return a scalar, or a mesh
            without an axis "pop".
        MemoryError: not even one member fits into the device's memory.
    """
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected at least 1")
    arguments = (space, population, batch)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)):
        if mesh is not None:
            raise ValueError("under jax.jit: set the mesh outside, with `jax.set_mesh(mesh)`")
        return _evaluate(objective, chunk_size or _usual_chunk(objective, *arguments), *arguments)
    with meshes.use(mesh):
        arguments = meshes.place(arguments)
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
    tell what it needs and does. Arrays may be given as `jax.ShapeDtypeStruct`. It is spread over
    the mesh that `jax.set_mesh` set, if any.
    """
    leaves, treedef = jax.tree.flatten((space, population, batch))
    signatures = tuple(map(_signature, leaves))
    where = jax.sharding.get_mesh(), jax.config.jax_default_device  # type: ignore[attr-defined]
    if chunk_size is None:
        chunk_size = _default_chunk(objective, where, treedef, signatures)
    return _executable(objective, chunk_size, where, treedef, signatures)


def largest_chunk(
    objective: Objective,
    space: Any,
    population: Population,
    batch: Any,
    *,
    available: int | None = None,
) -> int:
    """Members to compute side by side: those that fit, from the compiler's own account of memory.

    On a CPU, where more in flight is slower, as many as have about a thousand tokens (rows of a
    product with a weight) together: 2 to 16 of a `LowRank` population, 1 to 4 of a dense one;
    always 2 of a `Seeded` one, which share their noise.

    Args:
        available: bytes for the computation; None: what the device has free, of which nine tenths
            are used.

    Raises:
        MemoryError: one member needs more than there is.
    """
    budget = available if available is not None else processes.least(memory.free()) * 9 // 10

    def peak(chunk_size):
        program = compiled(objective, space, population, batch, chunk_size=chunk_size)
        return int(program.memory_analysis().temp_size_in_bytes)

    on_cpu = available is None and jax.default_backend() == "cpu"
    chunk_size = _usual_chunk(objective, space, population, batch) if on_cpu else 1
    while chunk_size > 1 and peak(chunk_size) > budget:
        chunk_size //= 2
    if peak(chunk_size) > budget:
        raise MemoryError(
            f"one member needs {memory.readable(peak(chunk_size))} beside weights and population, "
            f"but {memory.readable(budget)} are free: use fewer or shorter rows per batch, or a "
            "smaller chunk_size of the objective"
        )
    if on_cpu or _share(population) == 1:
        return chunk_size
    each = max(peak(2) - peak(1), 1)
    return max(1, min(_share(population), 1 + (budget - peak(1)) // each))


def _usual_chunk(objective, space, population, batch):
    """Where nothing is known of memory, or more would be slower; a power of two."""
    least, most = LIMITS.get(type(population), (1, 4))
    if least == most:
        return min(most, _share(population))
    start = jax.eval_shape(base.start, space)
    params = jax.eval_shape(base.decode, space, start)
    work = flops(lambda s, z, b: objective(base.decode(s, z), b), space, start, batch)
    rows = work / (2 * max(tree.size(params), 1))  # a product with a weight costs 2 a parameter
    usual = 2 ** round(math.log2(max(ROWS / max(rows, 1), 1)))
    return min(max(least, min(usual, most)), _share(population))


def _share(population):
    """Members of one device."""
    return -(-size(population) // meshes.shards())


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(objective, chunk_size, space, population, batch):
    keyed = isinstance(population, Seeded | LowRank)
    rows = jnp.arange(-(-size(population) // 2)) if keyed else population
    shared = (space, population if keyed else None, batch)
    function = functools.partial(_pairs if keyed else _rows, objective, chunk_size)
    return no_nan(meshes.spread(function, rows, shared)[: size(population)])


def _rows(objective, chunk_size, rows, shared):
    """Fitness (n,) of some rows of a dense population."""
    space, _, batch = shared
    fitness = functools.partial(_fitness, objective, space, batch)

    def one(index):
        return apply(fitness, jax.tree.map(lambda stack: Stored(stack, (index,)), rows))

    # A chunk of one is mapped without a batch axis: plain matrix products.
    indices = jnp.arange(size(rows))
    if chunk_size == 1:
        return jax.lax.map(one, indices)
    return jax.lax.map(jax.vmap(one), _groups(indices, chunk_size)).reshape(-1)[: size(rows)]


def _pairs(objective, chunk_size, pairs, shared):
    """Fitness (2 * n,) of some pairs of members that are never held."""
    space, population, batch = shared
    fitness = functools.partial(_fitness, objective, space, batch)
    table, count = population.table(), pairs.shape[0]
    if chunk_size == 1:
        return jax.lax.map(
            lambda item: population.one(fitness, population.draw(item[0], table), item[1]),
            place(population, indices(pairs)),
        )
    groups = _groups(pairs, chunk_size // 2)
    found = jax.lax.map(lambda group: population.each(fitness, group, table), groups)
    return found.reshape(-1)[: 2 * count]


def _groups(indices, most):
    """(groups, at most so many): the last one filled up with the last index."""
    groups = -(-indices.shape[0] // most)
    each = -(-indices.shape[0] // groups)
    filling = (0, groups * each - indices.shape[0])
    return jnp.pad(indices, filling, mode="edge").reshape(groups, each)


def _fitness(objective, space, batch, member):
    value = objective(base.decode(space, member), batch)
    if jnp.shape(value) != ():
        raise ValueError(
            f"objective returned shape {jnp.shape(value)}; expected a scalar, shape ()"
        )
    return jnp.asarray(value)


@functools.lru_cache(maxsize=64)
def _default_chunk(objective, where, treedef, signatures):
    # Kept: free memory changes all the time, and another chunk would be another compilation.
    return largest_chunk(objective, *_arguments(treedef, signatures))


@functools.lru_cache(maxsize=64)
def _executable(objective, chunk_size, where, treedef, signatures):
    arguments = _arguments(treedef, signatures)
    return _evaluate.lower(objective, chunk_size, *arguments).compile()


def _arguments(treedef, signatures):
    return treedef.unflatten(jax.ShapeDtypeStruct(s, d, sharding=p) for s, d, p in signatures)


def _signature(leaf: Any) -> tuple[Any, ...]:
    if not hasattr(leaf, "dtype"):
        leaf = jnp.asarray(leaf)
    # Where an array lies by chance must not decide where the fitness is bound to lie: `ask` and
    # `tell` would compile again for it.
    bound = getattr(leaf, "committed", True)
    return leaf.shape, leaf.dtype, getattr(leaf, "sharding", None) if bound else None
