"""The run: generations of ask, evaluate and tell, the best so far, budgets, and going on later."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import clock, core, processes
from . import mesh as meshes
from .core import Algorithm, Fitness, Key, Params, Population
from .evaluation import Objective, evaluate
from .population import member
from .spaces import base


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What one generation brought.

    Attributes:
        index: generations before this one.
        evaluations: candidates evaluated so far.
        best: lowest fitness so far.
        mean: mean fitness of the members whose evaluation did not fail; NaN if all did.
        lowest: lowest fitness of this generation.
        failed: members whose evaluation failed.
        seconds: since the run began, compilation included.
        compile_seconds: spent compiling so far.
        info: what the algorithm shows, by name.
    """

    index: int
    evaluations: int
    best: float
    mean: float
    lowest: float
    failed: int
    seconds: float
    compile_seconds: float
    info: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run found, and what it needs to go on.

    Attributes:
        best: the candidate with the lowest fitness, in the space's terms; `params` decodes it.
        best_fitness: its fitness.
        params: the parameters it stands for.
        history: one entry a generation.
        state: the algorithm's.
        stopped: why the run ended: "generations", "evaluations", "seconds" or "interrupted".
    """

    best: Params
    best_fitness: float
    params: Params
    history: list[Generation] = field(repr=False)
    state: Any = field(repr=False)
    stopped: str

    @property
    def generations(self) -> int:
        """Generations run, those of the runs it continued included."""
        return len(self.history)


def run(
    algorithm: Algorithm[Any, Any],
    space: Any,
    objective: Objective,
    batch: Any,
    *,
    key: Key,
    num_generations: int | None = None,
    num_evaluations: int | None = None,
    num_seconds: float | int | None = None,
    chunk_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    on_generation: Callable[[Generation], None] | None = None,
    resume: Result | None = None,
) -> Result:
    """Search until a budget is spent; the best candidate is never worse than the start.

    Generation g draws from fold_in(key, g) alone, so a run that is resumed with the same key
    becomes the run that was never interrupted. Ctrl-C ends the run after the generation at hand
    and returns what was found.

    Args:
        algorithm: any with init, ask and tell.
        space: a `Space`, or a tree of parameters.
        objective: (params, batch) -> scalar, minimised.
        batch: any pytree of arrays, the same for every generation.
        key: root of all randomness.
        num_generations, num_evaluations, num_seconds: budgets, counted from the beginning of the
            first run; the first to be spent ends the search. At least one is needed. No
            generation begins that would exceed `num_evaluations`.
        chunk_size, mesh: as in `evaluate`. With a mesh the sum over members in an evolution
            strategy's update is spread over its axis "pop" too; every process of a distributed
            run calls this alike, and gets the same result.
        on_generation: called after every generation.
        resume: the result of an earlier run of the same algorithm, space and objective.

    Raises:
        ValueError: no budget, or one that allows no generation at all.
    """
    check_budget(algorithm.pop_size, num_generations, num_evaluations, num_seconds)
    with meshes.use(mesh):
        return _run(
            algorithm,
            *meshes.place((space, batch, key)),
            objective=objective,
            budget=(num_generations, num_evaluations, num_seconds),
            chunk_size=chunk_size,
            on_generation=on_generation,
            resume=resume,
        )


def _run(algorithm, space, batch, key, *, objective, budget, chunk_size, on_generation, resume):
    num_generations, num_evaluations, num_seconds = budget
    pop_size = algorithm.pop_size
    begun, compiling = time.perf_counter(), clock.CompileClock()
    history = list(resume.history) if resume else []
    before = history[-1].seconds if history else 0.0
    compiled_before = history[-1].compile_seconds if history else 0.0
    if resume:
        # tell donates the state it is given: the caller's result stays usable.
        state, best = _copy(meshes.place((resume.state, resume.best)))
        best_fitness = meshes.place(jnp.asarray(resume.best_fitness))
    else:
        best = meshes.place(jax.tree.map(jnp.asarray, base.start(space)))
        state = core.init(algorithm, _fold(key, 2**31 - 1), best)
        best_fitness = meshes.place(jnp.asarray(jnp.inf))

    def spent() -> str | None:
        done = len(history)
        if num_generations is not None and done >= num_generations:
            return "generations"
        if num_evaluations is not None and (done + 1) * pop_size > num_evaluations:
            return "evaluations"
        late = num_seconds is not None and time.perf_counter() - begun + before >= num_seconds
        stop, late = processes.agreed(interrupted(), bool(done and late))
        return "interrupted" if stop else "seconds" if late else None

    with _interruptible() as interrupted:
        while not (stopped := spent()):
            ask_key, tell_key = _split(_fold(key, len(history)))
            population, state = core.ask(algorithm, ask_key, state)
            fitness = evaluate(objective, space, population, batch, chunk_size=chunk_size)
            best, best_fitness = _keep_best(best, best_fitness, population, fitness)
            state, info = core.tell(
                algorithm, tell_key, state, population, fitness, donate_population=True
            )
            values = np.asarray(jax.block_until_ready(fitness))
            finite = values[np.isfinite(values)]
            history.append(
                Generation(
                    index=len(history),
                    evaluations=(len(history) + 1) * pop_size,
                    best=float(best_fitness),
                    mean=float(finite.mean()) if finite.size else math.nan,
                    lowest=float(values.min()),
                    failed=int((~np.isfinite(values)).sum()),
                    seconds=before + time.perf_counter() - begun,
                    compile_seconds=compiled_before + compiling.seconds,
                    info={name: float(value) for name, value in info._asdict().items()},
                )
            )
            if on_generation:
                on_generation(history[-1])
    return Result(
        best=best,
        best_fitness=float(best_fitness),
        params=_decode(space, best),
        history=history,
        state=state,
        stopped=stopped,
    )


def check_budget(
    pop_size: int,
    num_generations: int | None,
    num_evaluations: int | None,
    num_seconds: float | int | None,
) -> None:
    """Refuse what `run` refuses.

    Raises:
        ValueError: no budget, or one that allows no generation at all.
    """
    budgets = {"generations": (num_generations, 1), "evaluations": (num_evaluations, pop_size)}
    if num_generations is None and num_evaluations is None and num_seconds is None:
        raise ValueError("run needs num_generations, num_evaluations or num_seconds")
    for name, (budget, least) in budgets.items():
        if budget is not None and budget < least:
            raise ValueError(f"num_{name} is {budget}; one generation needs {least}")
    if num_seconds is not None and not num_seconds > 0:
        raise ValueError(f"num_seconds is {num_seconds}; expected more than 0")


_decode = jax.jit(base.decode)
_copy = jax.jit(lambda values: jax.tree.map(jnp.copy, values))
_fold, _split = jax.jit(jax.random.fold_in), jax.jit(jax.random.split)


@jax.jit
def _keep_best(best: Params, best_fitness: Any, population: Population, fitness: Fitness) -> Any:
    index = jnp.argmin(fitness)
    better = fitness[index] < best_fitness
    # Members that are not held are computed only where one of them is to be kept.
    kept = jax.lax.cond(better, lambda: member(population, index), lambda: best)
    return kept, jnp.minimum(fitness[index], best_fitness)


@contextlib.contextmanager
def _interruptible():
    """Within it, the first Ctrl-C is only noted; a second one interrupts as usual."""
    import signal
    import threading

    noted = False

    def note(*_: Any) -> None:
        nonlocal noted
        noted = True
        signal.signal(signal.SIGINT, previous)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, previous)
