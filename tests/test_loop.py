"""The run: budgets, the best so far, going on later."""

import math
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_equal

import jaxgfo
from jaxgfo import Generation, RandomSearch, SimulatedAnnealing

KEY = jax.random.key(3)
PARAMS = {"w": jnp.linspace(-1, 1, 6), "b": jnp.ones((2, 2), jnp.bfloat16)}
ALGORITHM = jaxgfo.DifferentialEvolution(pop_size=5, init_scale=0.3)
ALGORITHMS = [ALGORITHM, SimulatedAnnealing(pop_size=4), jaxgfo.SHADE(pop_size=6)]


def objective(params, batch):
    return sum(jnp.sum(jnp.square(x.astype(jnp.float32) - batch)) for x in jax.tree.leaves(params))


def search(num=4, algorithm=ALGORITHM, space=PARAMS, score=objective, key=KEY, **options):
    options = {"num_generations": num} | options
    return jaxgfo.run(algorithm, space, score, jnp.float32(0.25), key=key, **options)


def value(params):
    return float(objective(params, jnp.float32(0.25)))


def same(first, second):
    """Everything but the clock."""
    assert_equal(
        (first.best, first.params, first.state), (second.best, second.params, second.state)
    )
    assert first.best_fitness == second.best_fitness
    for a, b in zip(first.history, second.history, strict=True):
        for name in ("index", "evaluations", "best", "mean", "lowest", "failed", "info"):
            np.testing.assert_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize(
    ("budget", "generations", "stopped"),
    [
        ({"num_generations": 3}, 3, "generations"),
        ({"num_evaluations": 15}, 3, "evaluations"),
        ({"num_evaluations": 19}, 3, "evaluations"),
        ({"num_generations": 4, "num_evaluations": 10}, 2, "evaluations"),
        ({"num_generations": 2, "num_evaluations": 99, "num_seconds": 1e6}, 2, "generations"),
        ({"num_seconds": 1e-9}, 1, "seconds"),
    ],
)
def test_the_first_budget_that_is_spent_ends_the_run(budget, generations, stopped):
    result = search(**{"num_generations": None} | budget)
    assert (result.generations, result.stopped) == (generations, stopped)
    assert result.history[-1].evaluations == 5 * generations


def test_seconds_are_seconds():
    search(1)  # compile
    begun = time.perf_counter()
    result = search(None, num_seconds=0.5, on_generation=lambda g: time.sleep(0.05))
    assert 0.5 <= time.perf_counter() - begun < 1.5
    assert result.stopped == "seconds"
    assert 3 < result.generations <= 10


@pytest.mark.parametrize(
    ("algorithm", "space"),
    [
        *((algorithm, PARAMS) for algorithm in ALGORITHMS),
        (ALGORITHM, jaxgfo.Flat(PARAMS)),
        (ALGORITHM, jaxgfo.Subspace(PARAMS, 3, KEY)),
    ],
)
def test_it_improves_and_is_never_worse_than_the_start(algorithm, space):
    result = search(12, algorithm, space)
    assert result.best_fitness < value(PARAMS)
    assert value(result.params) == pytest.approx(result.best_fitness, rel=1e-5)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), result.params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), PARAMS
    )
    best = [g.best for g in result.history]
    assert best == sorted(best, reverse=True)
    assert best[0] <= value(PARAMS) * (1 + 1e-6)
    assert best == [min(g.lowest for g in result.history[: i + 1]) for i in range(len(best))]


def test_a_start_that_cannot_be_improved_is_kept():
    optimum = jax.tree.map(lambda x: jnp.full_like(x, 0.25), PARAMS)
    result = search(5, space=optimum)
    assert result.best_fitness == 0
    assert_equal(result.params, optimum)


@pytest.mark.parametrize("failing", [lambda p, b: jnp.float32(jnp.nan), lambda p, b: jnp.inf])
def test_where_every_evaluation_fails_the_start_is_returned(failing):
    result = search(3, score=failing)
    assert_equal(result.params, PARAMS)
    assert result.best_fitness == math.inf
    for generation in result.history:
        assert generation.failed == 5
        assert math.isnan(generation.mean)
        assert generation.best == generation.lowest == math.inf


def test_history_says_what_happened():
    seen = []
    result = search(4, on_generation=seen.append)
    assert seen == result.history
    assert all(isinstance(g, Generation) for g in seen)
    assert [g.index for g in seen] == [0, 1, 2, 3]
    assert [g.evaluations for g in seen] == [5, 10, 15, 20]
    assert all(set(g.info) == {"accepted"} and 0 <= g.info["accepted"] <= 1 for g in seen)
    assert seen[0].info["accepted"] == 1
    clock = [g.seconds for g in seen]
    assert clock == sorted(clock)
    assert clock[0] > 0
    assert all(0 <= g.compile_seconds <= g.seconds for g in seen)


def test_history_measures_the_members_that_did_not_fail():
    def some(params, batch):  # random search: row 0 of the first generation is the start
        away = objective(params, batch)
        return jnp.where(params["w"][0] > -1, jnp.nan, away)

    result = search(1, RandomSearch(pop_size=16), score=some)
    first = result.history[0]
    state = jaxgfo.init(RandomSearch(pop_size=16), jax.random.fold_in(KEY, 2**31 - 1), PARAMS)
    ask_key, _ = jax.random.split(jax.random.fold_in(KEY, 0))
    population, _ = jaxgfo.ask(RandomSearch(pop_size=16), ask_key, state)
    scores = [value(jax.tree.map(lambda x, i=i: x[i], population)) for i in range(16)]
    good = np.asarray(population["w"][:, 0]) <= -1
    assert 0 < good.sum() < 16
    assert first.failed == 16 - good.sum()
    assert first.mean == pytest.approx(np.mean(np.asarray(scores)[good]), rel=1e-5)
    assert first.lowest == pytest.approx(np.min(np.asarray(scores)[good]), rel=1e-5)


def test_the_key_decides_everything():
    same(search(), search())
    assert search(key=jax.random.key(4)).best_fitness != search().best_fitness
    assert_equal(search(key=jax.random.PRNGKey(3)).best, search().best)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a).__name__)
def test_a_resumed_run_is_the_run_that_was_never_interrupted(algorithm):
    at = 3
    whole, part = search(5, algorithm), search(at, algorithm)
    before = jax.tree.map(jnp.copy, (part.best, part.state))
    same(search(5, algorithm, resume=part), whole)
    # The earlier result stays as it was, and can be gone on from again.
    assert_equal((part.best, part.state), before)
    assert part.generations == at
    again = search(5, algorithm, resume=part)
    same(again, whole)
    assert again.history[-1].seconds > part.history[-1].seconds


def test_a_budget_counts_from_the_beginning_of_the_first_run():
    part = search(3)
    for budget in ({"num_generations": 3}, {"num_evaluations": 19}, {"num_seconds": 1e-9}):
        result = search(**{"num_generations": None} | budget, resume=part)
        assert result.generations == 3
        assert_equal(result.params, part.params)


def test_it_compiles_in_the_first_generation_only():
    search(2)
    seen = search(4).history
    assert seen[0].compile_seconds == seen[-1].compile_seconds
    fresh = search(3, score=lambda p, b: objective(p, b)).history
    assert fresh[0].compile_seconds > 0
    assert fresh[1].compile_seconds == fresh[2].compile_seconds


def interrupt(at):
    def callback(generation):
        if generation.index == at:
            signal.raise_signal(signal.SIGINT)

    return callback


def test_ctrl_c_ends_the_run_with_what_was_found():
    before = signal.getsignal(signal.SIGINT)
    result = search(9, on_generation=interrupt(1))
    assert (result.generations, result.stopped) == (2, "interrupted")
    assert signal.getsignal(signal.SIGINT) is before
    same(search(4, resume=result), search(4))


def test_a_second_ctrl_c_interrupts_as_usual():
    def impatient(generation):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    # A worker of pytest-xdist ignores the signal: as usual is as in an ordinary process.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            search(9, on_generation=impatient)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_runs_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(search()))
    thread.start()
    thread.join()
    same(results[0], search())


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({}, "needs num_generations, num_evaluations or num_seconds"),
        ({"num_generations": 0}, "num_generations is 0; one generation needs 1"),
        ({"num_evaluations": 4}, "num_evaluations is 4; one generation needs 5"),
        ({"num_seconds": 0.0}, "num_seconds is 0.0"),
        ({"num_seconds": math.nan}, "num_seconds is nan"),
        ({"num_generations": 1, "num_evaluations": 4}, "num_evaluations is 4"),
    ],
)
def test_a_budget_without_a_generation_is_refused(budget, message):
    with pytest.raises(ValueError, match=message):
        search(**{"num_generations": None} | budget)


def test_an_exception_of_the_callback_passes():
    def fail(generation):
        raise RuntimeError("full disk")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="full disk"):
        search(on_generation=fail)
    assert signal.getsignal(signal.SIGINT) is before
