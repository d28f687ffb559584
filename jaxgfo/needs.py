"""Bytes that a search of any number of members needs on one device, from shapes alone."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from . import best, core, evaluation
from .best import Finalists
from .evaluation import Objective
from .spaces import base


def num_bytes(values: Any) -> int:
    """Bytes of a tree of arrays or shapes on one device; what is in it twice counts once."""

    def leaf(x):
        sharding = getattr(x, "sharding", None)
        shape = sharding.shard_shape(x.shape) if sharding is not None else x.shape
        return math.prod(shape) * x.dtype.itemsize

    return sum(map(leaf, {id(x): x for x in jax.tree.leaves(values)}.values()))


class Needs(NamedTuple):
    """Of one number of members."""

    population: Any  # its shapes, where they lie
    beside: int  # bytes held while members are scored, beside what that itself needs
    others: int  # peak of everything else


class Sizes:
    """A search with any number of members."""

    def __init__(
        self,
        algorithm: Any,
        space: Any,
        objective: Objective,
        batch: Any,
        *,
        finalists: int = 0,
        final_batch: Any = None,
    ):
        self.algorithm, self.objective = algorithm, objective
        self.space, self.batch = jax.tree.map(_placed, (space, batch))
        self.key = _placed(jax.eval_shape(lambda: jax.random.key(0)))
        self.start = _shapes(base.start, self.space)
        self.final_batch = jax.tree.map(_placed, final_batch)
        kept = self.start
        if finalists:
            kept = _shapes(lambda s: best.begin(base.start(s), finalists), self.space)
        # Beside state and population: weights, batch, and the candidates that are kept.
        self.fixed, self.kept = num_bytes((self.space, self.batch, kept)), kept
        self.choice = functools.cache(self._choice)
        self.needs = functools.cache(self._needs)

    def sized(self, pop_size: int) -> Any:
        """The algorithm with another pop_size."""
        return dataclasses.replace(self.algorithm, pop_size=pop_size)

    def allowed(self, pop_size: int) -> bool:
        """Whether the algorithm can have so many members."""
        try:
            self.sized(pop_size)
        except ValueError:
            return False
        return True

    def held(self, pop_size: int) -> int:
        """Bytes of what a generation keeps: all but temporaries and what is being replaced."""
        state, asking = self._begun(pop_size)
        return self.fixed + num_bytes(core.handed_on(_shapes(asking, self.key, state), state))

    def peak(self, pop_size: int, chunk_size: int) -> int:
        """Bytes at the worst moment of a generation."""
        needs = self.needs(pop_size)
        program = evaluation.compiled(
            self.objective, self.space, needs.population, self.batch, chunk_size=chunk_size
        )
        return max(needs.others, needs.beside + cost(program))

    def chunk(self, pop_size: int, available: int) -> int:
        """Members side by side: what `evaluate` takes, as long as it fits."""
        needs = self.needs(pop_size)
        # On a CPU more is slower, however much there is.
        room = None if jax.default_backend() == "cpu" else available - needs.beside
        arguments = (self.objective, self.space, needs.population, self.batch)
        try:
            chunk = evaluation.largest_chunk(*arguments, available=room)
        except MemoryError:  # told better with all that is held
            return 1
        while chunk > 1 and self.peak(pop_size, chunk) > available:
            chunk //= 2
        return chunk

    def state(self, pop_size: int) -> Any:
        """The state's shapes."""
        return self._begun(pop_size)[0]

    def _needs(self, pop_size: int) -> Needs:
        state, asking = self._begun(pop_size)
        population, after = core.handed_on(_shapes(asking, self.key, state), state)
        # Until the new population is there, `run` has of the one before what it did not donate.
        given = {id(x) for x in jax.tree.leaves(after)}
        before = [x for x in jax.tree.leaves(population) if id(x) not in given]
        asked = self.fixed + num_bytes(state) + num_bytes(before)
        asked += cost(jax.jit(asking).lower(self.key, state).compile())
        fitness = _placed(jax.ShapeDtypeStruct((pop_size,), jnp.result_type(float)))
        lent, kept = core.parted(after, population, True)
        algorithm = self.sized(pop_size)

        def tell(lent, kept, key, fitness):
            return core.telling(algorithm, key, lent, kept, fitness)

        told = jax.jit(tell, donate_argnums=0).lower(lent, kept, self.key, fitness)
        beside = self.fixed + num_bytes((after, population))
        scored = beside + num_bytes(fitness)
        others = max(asked, scored + num_bytes(self.start), scored + cost(told.compile()))
        if isinstance(self.kept, Finalists):
            # Two candidates are made at a time, one that is kept and the one where the search is.
            others = max(others, scored + 2 * num_bytes(self.start), beside + self.choice())
        return Needs(self._bound(population), beside, others)

    def _choice(self) -> int:
        """Bytes that the choice among finalists needs: its batch, and what scoring takes."""
        arguments = self.space, self._bound(self.kept.rows), self.final_batch
        program = evaluation.compiled(self.objective, *arguments)
        return num_bytes(self.final_batch) + cost(program)

    def _begun(self, pop_size: int) -> tuple[Any, Callable[[Any, Any], Any]]:
        """The state's shapes, and a function of key and state that asks."""
        algorithm = self.sized(pop_size)

        def begin(key, start):
            return core.init(algorithm, key, start)

        def asking(key, state):
            return core.asking(algorithm, key, state)

        return _shapes(begin, self.key, self.start), asking

    def _bound(self, values: Any) -> Any:
        """Shapes bound to the one device that weights are bound to, if they are."""
        places = {x.sharding for x in jax.tree.leaves(self.space)}
        place = places.pop() if len(places) == 1 else None
        if place is None or len(place.device_set) > 1:
            return values
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), values
        )


def cost(program: Any) -> int:
    """Bytes that a compiled program needs beside its arguments."""
    report = program.memory_analysis()
    new = report.output_size_in_bytes - report.alias_size_in_bytes
    return int(new + report.temp_size_in_bytes)


def _placed(x: Any) -> jax.ShapeDtypeStruct:
    """The shape of an array where `run` has it: on the mesh in use, or where it is bound to be."""
    x = x if hasattr(x, "dtype") else jnp.asarray(x)
    bound = getattr(x, "committed", True)
    place, mesh = getattr(x, "sharding", None) if bound else None, jax.sharding.get_mesh()
    if not mesh.empty and (place is None or place.device_set != {*mesh.devices.flat}):
        place = NamedSharding(mesh, PartitionSpec())
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)


def _shapes(function: Callable[..., Any], *args: Any) -> Any:
    """Of what function returns; over a mesh the compiler decides where it lies."""
    if jax.sharding.get_mesh().empty:
        return jax.eval_shape(function, *args)
    lowered = jax.jit(function).lower(*args)
    places = lowered.compile().output_shardings
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        lowered.out_info,
        places,
    )
