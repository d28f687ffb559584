"""Batches that change: rows, fitness that is remembered, finalists, restarts."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_equal, build, copy
from test_loop import same

import jaxgfo
from jaxgfo import core, minibatches, optional, static
from jaxgfo.best import Finalists

KEY = jax.random.key(5)
START = jnp.zeros(6)
REMEMBERING = [n for n, cls in jaxgfo.REGISTRY.items() if optional.remembers(cls)]
every_remembering = pytest.mark.parametrize("name", REMEMBERING)


def shifted(params, batch):
    """A sphere, and a term that all members of a generation share."""
    return jnp.sum(jnp.square(params - 0.25)) + batch


def luck(generation, scale=1.0):
    """Noise of a generation, N(0, scale): a function of its number."""
    return jnp.float32(scale * np.random.default_rng(generation).standard_normal())


def built(name):
    """Chains that only descend, and a genetic algorithm that keeps all but one of its parents."""
    return build(name, **{"ga": {"elites": 7}, "sa": {"temperature": 0.0}}.get(name, {}))


def search(algorithm, num=4, objective=shifted, batch=luck, space=START, **options):
    options = {"num_generations": num, "key": KEY} | options
    return jaxgfo.run(algorithm, space, objective, batch, **options)


# Rows


def test_rows_are_drawn_without_replacement_epoch_by_epoch():
    data = {"x": jnp.arange(11), "y": 10 * np.arange(11)}
    batches = minibatches(data, 3, KEY)
    epochs = [[batches(3 * epoch + i) for i in range(3)] for epoch in range(30)]
    drawn = np.array([np.concatenate([b["x"] for b in epoch]) for epoch in epochs])
    assert drawn.shape == (30, 9)
    assert all(len({*epoch}) == 9 and {*epoch} <= {*range(11)} for epoch in drawn.tolist())
    assert {*drawn.ravel().tolist()} == {*range(11)}
    assert len({tuple(epoch) for epoch in drawn.tolist()}) == 30
    for batch in itertools.chain(*epochs):
        np.testing.assert_array_equal(batch["y"], 10 * batch["x"])
        assert batch["y"].dtype == jnp.asarray(data["y"]).dtype
    # A function of key and number alone, whatever was asked for before.
    np.testing.assert_array_equal(minibatches(data, 3, KEY)(40)["x"], epochs[13][1]["x"])
    other = minibatches(data, 3, jax.random.key(6))
    assert any((other(i)["x"] != batches(i)["x"]).any() for i in range(3))
    np.testing.assert_array_equal(batches.whole["x"], data["x"])


@pytest.mark.parametrize(
    ("data", "rows", "message"),
    [
        (jnp.ones((4, 2)), 5, "rows is 5; expected 1 to 4, the rows that are there"),
        (jnp.ones((4, 2)), 0, "rows is 0; expected 1 to 4"),
        ((jnp.ones((4, 2)), jnp.ones(3)), 2, r"shapes \(3,\), \(4, 2\); expected the same number"),
        ((jnp.ones((4, 2)), 3.0), 2, r"shapes \(\), \(4, 2\); expected the same number"),
        ({}, 1, "shapes of nothing; expected the same number of rows"),
    ],
)
def test_rows_that_are_not_there_are_told(data, rows, message):
    with pytest.raises(ValueError, match=message):
        minibatches(data, rows, KEY)


def test_all_members_of_a_generation_are_scored_on_its_batch():
    algorithm = jaxgfo.RandomSearch(pop_size=4)
    result = search(algorithm, 5, lambda p, b: jnp.mean(b) + 0 * jnp.sum(p))
    for g in result.history:
        assert g.lowest == pytest.approx(float(luck(g.index)), abs=1e-6)
        assert g.mean == pytest.approx(g.lowest, abs=1e-6)
    assert [g.compile_seconds for g in result.history[1:]] == [
        result.history[0].compile_seconds
    ] * 4


def test_a_batch_of_another_shape_is_refused():
    with pytest.raises(
        ValueError, match=r"batch of generation 2 is .*\(3, 6\).* an earlier one was"
    ):
        search(
            jaxgfo.RandomSearch(), objective=distance, batch=lambda g: DATA[: 3 if g == 2 else 2]
        )


# What is remembered


@every_remembering
def test_what_is_remembered_is_scored_on_every_batch(name, caplog):
    algorithm = built(name)
    result = search(algorithm, 5)
    state, history = result.state, result.history
    memory = optional.remembered(algorithm, state)
    fitness = jaxgfo.evaluate(shifted, START, memory, luck(4))
    np.testing.assert_allclose(state.fitness, fitness, rtol=1e-5)
    assert [g.evaluations for g in history] == [8, 24, 40, 56, 72]
    assert history[1].compile_seconds == history[4].compile_seconds
    # Only fitness is replaced: all else is what it was, to the buffer.
    new = jnp.where(jnp.arange(8) == 4, jnp.nan, -jnp.arange(8.0))
    with jax.log_compiles():
        after = optional.reassess(algorithm, state, new)
    assert not any("Compiling" in message for message in caplog.messages)
    np.testing.assert_array_equal(after.fitness, core.no_nan(new))
    assert optional.remembered(algorithm, after) is memory
    for field, value in state._asdict().items():
        assert field in ("fitness", "evaluations") or getattr(after, field) is value
    types = [jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), s) for s in (state, after)]
    assert types[0] == types[1]


def test_members_out_of_use_stay_out_of_use():
    algorithm = build("shade", pop_size=9, final_pop_size=4.0, max_evaluations=20.0)
    state = jax.eval_shape(algorithm.init, KEY, START)
    state = state._replace(active=jnp.int32(4), evaluations=jnp.int32(30))
    after = algorithm.reassess(state, jnp.arange(9.0))
    np.testing.assert_array_equal(after.fitness, [0, 1, 2, 3, *[np.inf] * 5])
    assert after.evaluations == 34


@pytest.mark.parametrize("name", ["de", "ga", "pso", "sa"])
def test_a_lucky_old_value_does_not_stop_the_search(name):
    # Noise of sd 1 that all members of a generation share; the start is 6 * 0.25**2 = 0.375 away.
    # Among 60 such draws the lowest is below all that follow, but for the first few generations.
    algorithm, away = built(name), {}
    for reevaluate in (None, False):
        found = search(algorithm, 60, reevaluate=reevaluate)
        memory = optional.remembered(algorithm, found.state)
        distance = jnp.sum(jnp.square(memory - 0.25), axis=1)
        away[reevaluate] = float(jnp.min(distance))
    assert away[None] < 0.1 * 0.375
    assert away[False] > 3 * away[None]


@pytest.mark.parametrize(
    ("reevaluate", "batch", "evaluations"),
    [
        (None, luck, [8, 24, 40]),
        (False, luck, [8, 16, 24]),
        (None, jnp.float32(0), [8, 16, 24]),
        (True, jnp.float32(0), [8, 24, 40]),
    ],
)
def test_when_it_is_scored_again_and_what_that_costs(reevaluate, batch, evaluations):
    algorithm = build("de")
    result = search(algorithm, 3, batch=batch, reevaluate=reevaluate)
    assert [g.evaluations for g in result.history] == evaluations
    for budget in (evaluations[-1], evaluations[-1] + evaluations[-1] - evaluations[-2] - 1):
        options = {"batch": batch, "reevaluate": reevaluate, "num_evaluations": budget}
        limited = search(algorithm, None, **options)
        assert (limited.generations, limited.stopped) == (3, "evaluations")
    # What stores no fitness costs nothing more.
    assert search(build("openes"), 2, reevaluate=True).history[-1].evaluations == 16


# Finalists

DATA = jax.random.normal(jax.random.key(9), (12, 6))


def distance(params, batch):
    return jnp.mean(jnp.sum(jnp.square(params - batch), axis=1))


def on(batch, candidates):
    """An oracle: NumPy float64."""
    x, rows = np.asarray(candidates, np.float64), np.asarray(batch, np.float64)
    return np.mean(np.sum((x[:, None] - rows) ** 2, axis=2), axis=1)


@pytest.mark.parametrize("name", ["de", "openes", "random"])
def test_finalists_are_scored_again_and_the_best_there_wins(name):
    algorithm, batches = build(name), minibatches(DATA, 2, KEY)
    before, result = (search(algorithm, n, distance, batches, finalists=3) for n in (5, 6))
    rows = result.finalists.rows
    assert rows.shape == (5, 6)
    assert_equal(rows[0], START)
    fitness = on(DATA, rows)
    assert result.best_fitness == pytest.approx(fitness.min(), rel=1e-5)
    assert_equal(result.best, rows[int(fitness.argmin())])
    assert_equal(result.params, result.best)
    assert result.final_evaluations == 5
    # The generations with the lowest fitness, each with the candidate that had it.
    lowest = [g.lowest for g in result.history]
    best = sorted(lowest)[:3]
    np.testing.assert_array_equal(np.sort(result.finalists.fitness), np.float32(best))
    for row, value in zip(rows[2:], result.finalists.fitness):
        index = lowest.index(float(value))
        assert on(batches(index), row[None])[0] == pytest.approx(float(value), rel=1e-5)
    # Where the search stands.
    batch = batches(5)
    if name == "openes":
        assert_equal(rows[1], before.state.center)
    elif name == "de":
        assert on(batch, rows[1:2])[0] == pytest.approx(float(result.state.fitness.min()), rel=1e-5)
    else:
        assert on(batch, rows[1:2])[0] == pytest.approx(lowest[5], rel=1e-5)


def test_a_lucky_candidate_does_not_win():
    # Half of the batches are so easy that the start scores best there; the others teach.
    def objective(params, batch):
        return jnp.sum(jnp.square(params - 0.25)) * batch[0] + batch[1]

    def batch(generation):
        easy = generation == 0
        return jnp.array([-1.0, -9.0]) if easy else jnp.array([1.0, 0.0])

    result = search(build("de"), 40, objective, batch, final_batch=jnp.array([1.0, 0.0]))
    assert result.finalists.fitness.min() < -9  # the lucky one is among them
    assert result.best_fitness == pytest.approx(float(jnp.sum(jnp.square(result.best - 0.25))))
    assert result.best_fitness < 0.25 * 0.375
    assert result.history[-1].best < -9


@pytest.mark.parametrize(
    ("batch", "given", "final"),
    [
        (minibatches(DATA, 2, KEY), None, DATA),
        (lambda g: DATA[g : g + 2], None, DATA[3:5]),
        (lambda g: DATA[g : g + 2], DATA[:5], DATA[:5]),
        (DATA[:2], DATA[:5], DATA[:5]),
        (DATA[:2], None, None),
    ],
)
def test_what_finalists_are_scored_on(batch, given, final):
    result = search(build("random"), 4, distance, batch, final_batch=given)
    if final is None:
        assert result.finalists is None
        assert (result.final_evaluations, result.best_fitness) == (0, result.history[-1].best)
    else:
        assert result.best_fitness == pytest.approx(on(final, result.best[None])[0], rel=1e-5)
        assert isinstance(result.finalists, Finalists)


def test_no_finalist_is_better_than_the_start_where_all_fail():
    result = search(build("de"), 3, lambda p, b: jnp.nan * jnp.sum(p) + b)
    assert_equal(result.best, START)
    assert result.best_fitness == math.inf
    result = search(build("de"), 3, distance, lambda g: DATA[:2], space=DATA[:2].mean(axis=0))
    assert_equal(result.best, DATA[:2].mean(axis=0))  # the optimum


@pytest.mark.parametrize("name", ["de", "openes"])
def test_a_resumed_run_is_the_run_that_was_never_interrupted(name):
    algorithm, batches = build(name), minibatches(DATA, 2, KEY)
    whole, part = (search(algorithm, n, distance, batches) for n in (6, 3))
    before = copy((part.best, part.state, part.finalists))
    again = search(algorithm, 6, distance, batches, resume=part)
    same(again, whole)
    assert_equal(again.finalists, whole.finalists)
    assert_equal((part.best, part.state, part.finalists), before)
    with pytest.raises(ValueError, match="earlier run kept finalists, but this one has no use for"):
        search(algorithm, 6, distance, DATA, resume=part)
    fixed = search(algorithm, 2, distance, DATA)
    with pytest.raises(ValueError, match="earlier run kept no finalists, but this one needs them"):
        search(algorithm, 6, distance, batches, resume=fixed)


def test_finalists_that_do_not_fit_are_told_before_the_search(monkeypatch):
    calls = []
    large = jnp.zeros((4096, 4096))

    def objective(params, batch):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sum(jnp.sort(batch @ batch.T)) + jnp.sum(params)

    monkeypatch.setattr(jaxgfo.memory, "free", lambda device=None: 10**7)
    options = {"final_batch": large, "chunk_size": 1}
    with pytest.raises(MemoryError, match=r"one member needs .* but .* are free"):
        search(build("random"), 2, objective, lambda g: jnp.ones((2, 2)), **options)
    assert not calls
    with pytest.raises(ValueError, match="finalists is 0; expected at least 1"):
        search(build("random"), 2, finalists=0)


def test_the_plan_counts_finalists_and_their_batch():
    params, rows = jnp.zeros((64, 64)), jnp.ones((10**6, 1))

    def objective(params, batch):
        return jnp.sum(params @ params) + jnp.sum(batch)

    def planned(batch, **options):
        return jaxgfo.plan(build("de"), params, objective, batch, available=2**40, **options)

    fixed, few = planned(rows[:3]), planned(lambda g: rows[:3])
    many = planned(minibatches(rows, 3, KEY), finalists=20)
    assert few.peak_bytes == fixed.peak_bytes + 5 * params.nbytes + 4 * 4  # and their fitness
    # While finalists are scored: they, state and population, and all rows.
    assert many.peak_bytes >= rows.nbytes + (22 + 8 + 8) * params.nbytes
    # What is scored again costs as much as what is new.
    assert few.flops == many.flops == 2 * fixed.flops > 0


# Restarts


class DoublingState(NamedTuple):
    best: Any  # (1, ...)
    fitness: Any  # (1,)
    step: Any


class DoublingInfo(NamedTuple):
    stopped: Any


@core.algorithm
class Doubling:
    """Samples around the best member, remembers it, and stops every third generation."""

    scale: Any = 0.1
    last: int = static(8)
    pop_size: int = static(2)

    def init(self, key, start):
        return DoublingState(start[None], jnp.full(1, jnp.inf), jnp.zeros((), jnp.int32))

    def ask(self, key, state):
        noise = self.scale * jax.random.normal(key, (self.pop_size, *state.best.shape[1:]))
        return state.best + noise.at[0].set(0), state

    def tell(self, key, state, population, fitness):
        best = jnp.argmin(fitness)
        stopped = (state.step == 2).astype(jnp.float32)
        state = DoublingState(population[best][None], fitness[best][None], state.step + 1)
        return state, DoublingInfo(stopped)

    def remembered(self, state):
        return state.best

    def reassess(self, state, fitness):
        return state._replace(fitness=fitness)

    def center(self, state):
        return 2 * state.best[0]

    def restart(self, key, state, start):
        if self.pop_size == self.last:
            return None
        bigger = Doubling(pop_size=2 * self.pop_size, last=self.last)
        return bigger, bigger.init(key, start + 0.01 * jax.random.normal(key, start.shape))


def test_a_search_that_stops_goes_on_with_what_restart_returns():
    seen, zero = [], jnp.float32(0)
    result = search(Doubling(), 11, batch=zero, on_generation=seen.append)
    assert [g.evaluations for g in seen] == [2, 4, 6, 10, 14, 18, 26, 34, 42, 50, 58]
    assert [g.info["stopped"] for g in seen] == [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]
    assert (result.algorithm.pop_size, result.begun) == (8, 6)
    assert result.state.step == 5  # None: as before
    best = [g.best for g in seen]
    assert best == sorted(best, reverse=True)
    limited = search(Doubling(), None, batch=zero, num_evaluations=13)
    assert (limited.generations, limited.stopped) == (4, "evaluations")
    for at in (2, 3, 4, 8):  # 3: the restart itself is not done again
        part = search(Doubling(), at, batch=zero)
        same(search(Doubling(), 11, batch=zero, resume=part), result)
    key = jax.random.fold_in(KEY, 2**31 - 2 - 2)
    again = search(Doubling(), 3, batch=zero)
    assert_equal(again.state, Doubling().restart(key, None, START)[1])


def test_what_is_restarted_remembers_nothing_yet():
    result = search(Doubling(), 8)
    assert [g.evaluations for g in result.history] == [2, 5, 8, 12, 17, 22, 30, 39]
    same(search(Doubling(), 8, resume=search(Doubling(), 3)), result)
    # Seven more evaluations are not enough for eight members, and eight not where it remembers one.
    for budget, generations in ((29, 6), (30, 7), (38, 7), (39, 8)):
        limited = search(Doubling(), None, num_evaluations=budget)
        assert (limited.generations, limited.stopped) == (generations, "evaluations")


def test_where_the_search_stands_is_its_center():
    before, after = search(Doubling(), 1), search(Doubling(), 2)
    assert_equal(after.finalists.rows[1], 2 * before.state.best[0])
