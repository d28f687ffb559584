"""The run: generations of ask, evaluate and tell, the best so far, budgets, and going on later."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import best as bests
from . import clock, core, draws, optional, processes
from . import mesh as meshes
from .batches import Source
from .best import FINALISTS, Finalists
from .budget import Budget, check_budget, interruptible
from .core import Algorithm, Key, Params
from .evaluation import Objective, evaluate
from .population import size
from .spaces import base


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What one generation brought.

    Attributes:
        index: generations before this one.
        evaluations: of candidates so far, again for another batch ones included.
        best: lowest fitness so far; where batches change, a lucky one.
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
            Where batches change, or a final batch was given: the best of the finalists there.
        best_fitness: its fitness; of the best of the finalists that on the final batch.
        params: the parameters it stands for.
        history: one entry a generation.
        state: the algorithm's.
        algorithm: that the state is of: the one that was given, or what it restarted as.
        begun: generations before the algorithm began: 0, unless it was restarted.
        stopped: why the run ended: "generations", "evaluations", "seconds" or "interrupted".
        finalists: candidates kept for the final choice; None where there is none.
        final_evaluations: of finalists, on the final batch; not among `Generation.evaluations`.
    """

    best: Params
    best_fitness: float
    params: Params
    history: list[Generation] = field(repr=False)
    state: Any = field(repr=False)
    algorithm: Algorithm[Any, Any]
    begun: int
    stopped: str
    finalists: Finalists | None = field(repr=False)
    final_evaluations: int

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
    reevaluate: bool | None = None,
    final_batch: Any = None,
    finalists: int = FINALISTS,
    chunk_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    on_generation: Callable[[Generation], None] | None = None,
    resume: Result | None = None,
) -> Result:
    """Search until a budget is spent; the best candidate is never worse than the start.

    Generation g draws from fold_in(key, g) alone, so a run that is resumed with the same key
    becomes the run that was never interrupted. Ctrl-C ends the run after the generation at hand
    and returns what was found.

    With batches that change, the lowest fitness is that of a lucky candidate on an easy batch. So
    the start, the candidates with the lowest fitness of `finalists` generations, and where the
    search stands at the end are scored once more, all on the same final batch, and the best one
    there is the result. These 2 + finalists candidates are held throughout the run, and their
    evaluations are beside the budgets.

    Args:
        algorithm: any with init, ask and tell; `jaxgfo.optional` says what else is made use of,
            restarts among it.
        space: a `Space`, or a tree of parameters.
        objective: (params, batch) -> scalar, minimised.
        batch: any pytree of arrays, the same for every generation; or a function of the
            generation's number that returns one, of the same shapes every time, like those of
            `minibatches`. All members of a generation are scored on the same batch.
        key: root of all randomness.
        num_generations, num_evaluations, num_seconds: budgets, counted from the beginning of the
            first run; the first to be spent ends the search. At least one is needed. No
            generation begins that would exceed `num_evaluations`.
        reevaluate: whether candidates that the algorithm remembers with their fitness, such as
            parents or chains, are scored again on every generation's batch before it is asked:
            fitness of another batch cannot be compared. None: where batches change. It costs as
            many evaluations as there are such candidates. True also for an objective that is noisy
            on one batch.
        final_batch: what finalists are scored on; None: where batches change, all rows of
            `minibatches`, or the last generation's batch of any other function; with one batch for
            all generations there are no finalists then.
        finalists: generations whose best candidate is kept, at least 1.
        chunk_size, mesh: as in `evaluate`. With a mesh the sum over members in an evolution
            strategy's update is spread over its axis "pop" too; every process of a distributed
            run calls this alike, and gets the same result. The final batch has its own chunk.
        on_generation: called after every generation.
        resume: the result of an earlier run of the same algorithm, space, objective and batches.

    Raises:
        ValueError: no budget, or one that allows no generation at all; batches of different shapes;
            or a result to resume that has no finalists where they are needed, or the reverse.
        MemoryError: one candidate on the final batch does not fit.
    """
    if resume and resume.begun:
        algorithm = resume.algorithm
    budget = Budget(num_generations, num_evaluations, num_seconds)
    check_budget(algorithm.pop_size, *budget)
    if finalists < 1:
        raise ValueError(f"finalists is {finalists}; expected at least 1")
    with meshes.use(mesh):
        return _run(
            algorithm,
            *meshes.place((space, key)),
            objective=objective,
            source=Source(batch),
            budget=budget,
            reevaluate=reevaluate,
            final_batch=final_batch,
            finalists=finalists,
            chunk_size=chunk_size,
            on_generation=on_generation,
            resume=resume,
        )


def _run(
    algorithm,
    space,
    key,
    *,
    objective,
    source,
    budget,
    reevaluate,
    final_batch,
    finalists,
    chunk_size,
    on_generation,
    resume,
):
    before, compiling = time.perf_counter(), clock.CompileClock()
    history, begun = (list(resume.history), resume.begun) if resume else ([], 0)
    if history:
        before -= history[-1].seconds
    compiled_before = history[-1].compile_seconds if history else 0.0
    choosing = source.changes or final_batch is not None
    reevaluate = source.changes if reevaluate is None else reevaluate
    if resume:
        _check_resumed(resume, choosing)
        # tell donates the state it is given: the caller's result stays usable.
        earlier = resume.state, resume.best, resume.finalists
        state, best, kept = _copy(meshes.place(earlier))
        best_fitness = meshes.place(jnp.asarray(resume.best_fitness))
    else:
        best = _start(space)
        state = core.init(algorithm, _fold(key, 2**31 - 1), best)
        best_fitness = meshes.place(jnp.asarray(jnp.inf))
        kept = bests.begin(best, finalists) if choosing else None
    if kept is not None:
        best = None  # one of the finalists, at the end
        bests.prepare(kept, objective, space, source.final(final_batch, 0))
    remembers = optional.num_remembered(algorithm, state) if reevaluate else 0

    def score(population):
        return evaluate(objective, space, population, batch, chunk_size=chunk_size)

    def evaluations():
        """After one more generation; what is new remembers nothing."""
        again = remembers if len(history) > begun else 0
        return (history[-1].evaluations if history else 0) + algorithm.pop_size + again

    def stopped():
        if spent := budget.spent(len(history) + 1, evaluations()):
            return spent
        late = bool(history) and budget.late(time.perf_counter() - before)
        stop, late = processes.agreed(interrupted(), late)
        return "interrupted" if stop else "seconds" if late else None

    with interruptible() as interrupted:
        while not (why := stopped()):
            number, memory, memory_fitness = len(history), None, None
            ask_key, tell_key = _split(_fold(key, number))
            batch, counted = source(number), evaluations()
            if remembers and number > begun:
                memory = optional.remembered(algorithm, state)
                memory_fitness = score(memory)
                state = optional.reassess(algorithm, state, memory_fitness)
            population, state = core.ask(algorithm, ask_key, state)
            fitness = score(population)
            if kept is not None:
                center = optional.center(algorithm, state)
                where = {"center": center, "memory": memory, "memory_fitness": memory_fitness}
                kept = bests.keep(kept, population, fitness, **where)
            else:
                best, best_fitness = bests.lower(best, best_fitness, population, fitness)
            told = state, population, fitness
            state, info = core.tell(algorithm, tell_key, *told, donate_population=True)
            values = np.asarray(jax.block_until_ready(fitness))
            finite, lowest = values[np.isfinite(values)], float(values.min())
            history.append(
                Generation(
                    index=number,
                    evaluations=counted,
                    best=min(lowest, history[-1].best if history else math.inf),
                    mean=float(finite.mean()) if finite.size else math.nan,
                    lowest=lowest,
                    failed=int((~np.isfinite(values)).sum()),
                    seconds=time.perf_counter() - before,
                    compile_seconds=compiled_before + compiling.seconds,
                    info={name: float(value) for name, value in info._asdict().items()},
                )
            )
            if on_generation:
                on_generation(history[-1])
            if history[-1].info.get("stopped"):
                # Keys are counted from the other end than those of generations.
                anew_key = _fold(key, 2**31 - 2 - number)
                if anew := optional.restart(algorithm, anew_key, state, _start(space)):
                    (algorithm, state), begun = anew, len(history)
                    remembers = optional.num_remembered(algorithm, state) if reevaluate else 0
        if kept is not None:
            final = source.final(final_batch, len(history))
            best, best_fitness = bests.choose(kept, objective, space, final)
    return Result(
        best=best,
        best_fitness=float(best_fitness),
        params=_decode(space, best),
        history=history,
        state=state,
        algorithm=algorithm,
        begun=begun,
        stopped=why,
        finalists=kept,
        final_evaluations=0 if kept is None else size(kept.rows),
    )


def _start(space: Any) -> Params:
    return meshes.place(jax.tree.map(jnp.asarray, base.start(space)))


def _check_resumed(resume: Result, choosing: bool) -> None:
    if choosing == (resume.finalists is not None):
        return
    has, does = ("kept no finalists", "needs") if choosing else ("kept finalists", "has no use for")
    raise ValueError(
        f"resume: the earlier run {has}, but this one {does} them; give the same batch and "
        "final_batch"
    )


_decode = jax.jit(base.decode)
_copy = jax.jit(lambda values: jax.tree.map(jnp.copy, values))
_fold, _split = jax.jit(draws.fold_in), jax.jit(draws.split)
