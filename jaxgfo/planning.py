"""What a search needs, known before anything of it is computed."""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from . import batches, memory, optional, processes
from .best import FINALISTS
from .core import Algorithm
from .evaluation import Objective
from .flops import flops
from .needs import Sizes, cost, num_bytes
from .spaces import base


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one generation needs; or, without a population, the scoring of one model.

    Attributes:
        parameters: numbers in the model.
        population_bytes: of what `ask` returns: rows of all members; or, where members are not
            held (`Seeded`, `LowRank`), the center, a key and a scale. The center is an array of
            the algorithm's state as well.
        chunk_size: members computed side by side; without a population, rows of text.
        peak_bytes: that the device holds at the worst moment, parameters included.
        available_bytes: that it has for this, parameters included.
        flops: forward passes' floating-point operations, as `flops.flops` counts them: of all
            members of a generation, and of what is scored again in all but the first; without a
            population, of the whole text. What the noise of members that are not held costs on top
            is not counted.
        pop_size: members; 0 without a population.
        devices: that the members are spread over. Bytes and chunk_size are those of one of them,
            parameters and flops those of all together.
    """

    parameters: int
    population_bytes: int
    chunk_size: int
    peak_bytes: int
    available_bytes: int
    flops: int
    pop_size: int
    devices: int = 1

    def __str__(self) -> str:
        """Two lines for a person."""
        members = f"population of {self.pop_size}: {memory.readable(self.population_bytes)}"
        each = "a generation" if self.pop_size else "in all"
        where = f" on each of {self.devices} devices" if self.devices > 1 else ""
        peak, there = memory.readable(self.peak_bytes), memory.readable(self.available_bytes)
        return (
            f"{self.parameters:,} parameters; {members if self.pop_size else 'no population'}, "
            f"{self.chunk_size} at a time\n"
            f"needs {peak} of {there}{where}; forward passes {each}: {_operations(self.flops)}"
        )


def plan(
    algorithm: Algorithm[Any, Any],
    space: Any,
    objective: Objective,
    batch: Any,
    *,
    reevaluate: bool | None = None,
    final_batch: Any = None,
    finalists: int = FINALISTS,
    chunk_size: int | None = None,
    available: int | None = None,
) -> Plan:
    """What `run` needs, from shapes alone: no candidate is made or scored.

    With `jax.set_mesh` it is planned for that mesh, as `run(mesh=)` would use it.

    The peak is the largest of what `ask`, the evaluation, keeping the best, and `tell` hold, each
    with the temporaries that the compiler reports. All arrays that are alive then are counted,
    among them the best candidate so far and, during `ask`, the population before; where finalists
    are kept they are counted, and so is the choice among them at the end. It is an estimate where
    the compiler's report is one: what other programs and the runtime itself hold is not in it, nor
    is anything else that happens outside of a generation. The evaluations compiled here are those
    that `run` uses, where it is given this plan's chunk_size.

    A population is refused where its peak is above `available`. The largest that fits is searched
    for between the least one and this one: a bound follows from the bytes of state and population
    at two sizes, which are in proportion to the members; then a few sizes are compiled to learn
    their temporaries, until one fits and the next one does not.

    Args:
        algorithm: with a field pop_size.
        space, objective: as in `evaluate`; arrays may be given as `jax.ShapeDtypeStruct`.
        batch, reevaluate, final_batch, finalists: as in `run`; arrays may be shapes too.
        chunk_size: as in `evaluate`; None: `largest_chunk` in what is left beside the population.
        available: bytes for parameters, batch, state, population and temporaries together; None:
            nine tenths of what the device has free, and what parameters and batch hold already.

    Raises:
        MemoryError: the population does not fit; the message has the largest that does.
        ValueError: leaves that the algorithm cannot move, or an objective that is no scalar.
    """
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected at least 1")
    again = batches.varies(batch) if reevaluate is None else reevaluate
    last = None
    if batches.varies(batch) or final_batch is not None:
        batch, last = batches.at(batch, 0), batches.final(batch, final_batch, 0)
    if available is None:
        available = _available(space, batch)
    pop_size = algorithm.pop_size
    kept = {} if last is None else {"finalists": finalists, "final_batch": last}
    sizes = Sizes(algorithm, space, objective, batch, **kept)
    if sizes.held(pop_size) > available:
        raise _refusal(sizes, chunk_size or 1, available)
    chunk = chunk_size or sizes.chunk(pop_size, available)
    if (peak := sizes.peak(pop_size, chunk)) > available:
        raise _refusal(sizes, chunk, available)
    start, params = jax.eval_shape(lambda s: (base.start(s), base.decode(s, base.start(s))), space)

    remembered = optional.num_remembered(algorithm, sizes.state(pop_size)) if again else 0

    def forward(space, member, batch):
        return objective(base.decode(space, member), batch)

    return Plan(
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(params)),
        population_bytes=num_bytes(sizes.needs(pop_size).population),
        chunk_size=chunk,
        peak_bytes=peak,
        available_bytes=available,
        flops=(pop_size + remembered) * flops(forward, space, start, batch),
        pop_size=pop_size,
        devices=max(1, jax.sharding.get_mesh().size),
    )


def scoring(
    program: Any, function: Callable[..., Any], params: Any, batch: Any, *, times: int
) -> Plan:
    """What it needs to score one model on a text, a batch of rows at a time.

    Args:
        program: function under `jax.jit`, with function itself as its static first argument.
        function: of (params, batch).
        batch: leaves (rows, ...); the first of `times` batches of the same shapes.

    Raises:
        MemoryError: a batch does not fit.
    """
    compiled = program.lower(function, params, batch).compile()
    peak = num_bytes((params, batch)) + cost(compiled)
    available = _available(params, batch)
    rows = jax.tree.leaves(batch)[0].shape[0]
    if peak > available:
        raise MemoryError(
            f"scoring {rows} rows at a time needs {memory.readable(peak)}, parameters included, "
            f"but {memory.readable(available)} are there: use shorter rows or a smaller dtype"
        )
    return Plan(
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(params)),
        population_bytes=0,
        chunk_size=rows,
        peak_bytes=peak,
        available_bytes=available,
        flops=times * flops(functools.partial(program, function), params, batch),
        pop_size=0,
    )


def _refusal(sizes: Sizes, chunk_size: int, available: int) -> MemoryError:
    pop_size = sizes.algorithm.pop_size
    largest, needed = _largest(sizes, chunk_size, available)
    there = f"but {memory.readable(available)} are there"
    if largest is None:
        return MemoryError(
            f"a population of {pop_size} needs {memory.readable(needed)}, parameters included, "
            f"{there}, and no smaller one fits: use fewer or shorter rows per batch, a smaller "
            "chunk_size, a space with fewer coordinates, or a smaller dtype"
        )
    return MemoryError(
        f"a population of {pop_size} needs {memory.readable(needed)}, parameters included, "
        f"{there}; the largest that fits has {largest}: use --pop-size {largest}"
    )


def _largest(sizes: Sizes, chunk_size: int, available: int) -> tuple[int | None, int]:
    """The largest population that fits, if any, and the bytes that the one asked for needs."""
    asked, least = sizes.algorithm.pop_size, getattr(sizes.algorithm, "least_members", 1)
    low = next(n for n in range(least, asked + 1) if sizes.allowed(n))
    high = asked
    each = (sizes.held(asked) - sizes.held(low)) / max(asked - low, 1)
    if each > 0 and sizes.held(low) <= available:
        # Nothing above this bound fits, so that nothing far above it needs to be compiled.
        bound = low + int((available - sizes.held(low)) / each) + 1
        high = next(n for n in range(min(bound, asked), asked + 1) if sizes.allowed(n))
    needs = functools.cache(lambda n: sizes.peak(n, chunk_size))
    needed = needs(high) + sizes.held(asked) - sizes.held(high)
    if high == low or needs(low) > available:
        return None, needed
    for step in itertools.count(1):
        # On a line two steps are enough; halving makes sure of an end soon where it is none.
        slope = max((needs(high) - needs(low)) / (high - low), 1e-9)
        guess = low + int((available - needs(low)) / slope) if step % 3 else (low + high) // 2
        guess = min(max(guess, low + 1), high - 1)
        near = (*range(guess, low, -1), *range(guess + 1, high))
        if (size := next((n for n in near if sizes.allowed(n)), None)) is None:
            break
        low, high = (size, high) if needs(size) <= available else (low, size)
    return low, needed


def _available(*values: Any) -> int:
    """Bytes for a computation on some arrays, their own among them where they are there already."""
    there = [x for x in jax.tree.leaves(values) if isinstance(x, jax.Array)]
    mesh, free = jax.sharding.get_mesh(), memory.free()
    if jax.default_backend() == "cpu" and not mesh.empty:  # they share their machine's memory
        free //= len(mesh.local_devices)
    return processes.least(free * 9 // 10 + num_bytes(there))


def _operations(number: int | float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:.3g} {unit}FLOP"
        number /= 1000
    return f"{number:.3g} PFLOP"
