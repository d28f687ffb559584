"""Every algorithm of evosax through the front doors, and held against evosax itself."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evosax.algorithms import algorithms
from problems import assert_close, assert_equal, scan, sphere, unchecked

import jaxgfo
from jaxgfo import core
from jaxgfo.evosax import adapted

KEY = jax.random.key(5)
START = {"half": jnp.ones((2, 2), jnp.bfloat16), "full": jnp.ones(3)}  # seven coordinates
POP_SIZE, GENERATIONS = 12, 40

# What evosax offers and cannot do, even through the adapter: nothing, as of 0.3.2.
CANNOT_RUN: dict[str, str] = {}
ADAM = {"optimizer": "adam", "learning_rate": 0.05}  # their own step is a thousandth
GIVEN = {
    **dict.fromkeys("ARS ASEBO GuidedES NoiseReuseES Open_ES PersistentES".split(), ADAM),
    "SV_Open_ES": ADAM | {"num_populations": 2},
    "SV_CMA_ES": {"num_populations": 2},
    "DiffusionEvolution": {"num_generations": GENERATIONS},
}
# Only their best member gets better here.
AIMLESS = {
    "RandomSearch": "learns nothing",
    "DiffusionEvolution": "weighs by exp(-fitness), which differs little between these members",
}
# Four generations that were told of one member only can send it off for longer than is run here.
ASTRAY = {("Rm_ES", "all but one")}
FAILED = {
    "none": np.zeros(POP_SIZE, bool),
    "one": np.arange(POP_SIZE) == 1,
    "half": np.arange(POP_SIZE) % 2 == 0,
    "all but one": np.arange(POP_SIZE) != 3,
    "all": np.ones(POP_SIZE, bool),
}


def build(name, **fields):
    given = {"pop_size": POP_SIZE, "init_scale": 0.2} | GIVEN.get(name, {})
    return jaxgfo.Evosax(name, **given | fields)


def kinds(values):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), values)


def runs(name):
    """Whether the front doors can be traced, and give back what they are given."""
    algorithm = build(name)
    assert algorithm == build(name)
    assert jax.tree.structure(algorithm) == jax.tree.structure(build(name))

    def generation(key, state):
        population, asked = jaxgfo.ask(algorithm, key, state)
        return population, asked, *jaxgfo.tell(algorithm, key, asked, population, jnp.ones(12))

    try:
        state = jax.eval_shape(lambda: jaxgfo.init(algorithm, KEY, START))
        population, asked, told, info = jax.eval_shape(generation, KEY, state)
    except Exception:
        return False
    # So ask and tell are compiled once.
    assert kinds(state) == kinds(asked) == kinds(told)
    for x, like in zip(jax.tree.leaves(population), jax.tree.leaves(START)):
        assert (x.shape, x.dtype) == ((POP_SIZE, *like.shape), like.dtype)
    assert all(x.shape == () for x in info)
    return True


def test_what_cannot_run_is_known():
    assert {name for name in algorithms if not runs(name)} == set(CANNOT_RUN)


def run(algorithm, failed, num=GENERATIONS, until=4):
    """Fitness (num, pop) and infos; `failed` members fail in the first `until` generations."""
    state, history, infos, first = jaxgfo.init(algorithm, KEY, START), [], [], None
    for step, keys in enumerate(jax.random.split(KEY, (num, 2))):
        before = jax.tree.map(np.asarray, state.search) if step < until else None
        population, state = jaxgfo.ask(algorithm, keys[0], state)
        true = np.asarray(sphere(population))
        told = np.where(failed & (step < until), np.nan, true)
        state, info = jaxgfo.tell(algorithm, keys[1], state, population, told)
        if np.isnan(told).all():
            assert (info.learnt, info.failed) == (0, 1)
            assert_equal(state.search, before)
        if first is None or (failed.all() and step < until):
            first = jax.tree.map(lambda x: x[0], population)
            assert_equal(first, START)
        history.append(true)
        infos.append(info)
    return np.stack(history), infos


@pytest.mark.parametrize("name", sorted(algorithms))
def test_contract(name, caplog):
    with jax.log_compiles():
        for which, failed in FAILED.items():
            # A new object each time, with another number where it is traced.
            fitness, infos = run(build(name, init_scale=0.2 + 0.001 * len(which)), failed)
            assert np.isfinite(fitness).all()
            learnt = [info.learnt for info in infos]
            assert np.mean(learnt[4:]) > 0.9
            assert all(info.failed == failed.mean() for info in infos[:4])
            if (name, which) in ASTRAY:
                continue
            assert fitness.min() < fitness[0].min(), which
            start, last = fitness[0].mean(), fitness[-5:].mean()
            assert last < 0.9 * start or name in AIMLESS, which
    for door in ("_init", "asking", "telling"):
        assert sum(f"Compiling jit({door})" in m for m in caplog.messages) == 1


@pytest.mark.parametrize("name", ["SNES", "PGPE", "DifferentialEvolution"])
def test_equals_evosax_used_directly(name):
    start = jnp.array([1.0, -2.0, 0.5, 3.0])
    ours = jaxgfo.Evosax(name, pop_size=8, init_scale=0.3)
    theirs = algorithms[name](population_size=8, solution=start)
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # optax's, of evosax's use of it
        params = theirs.default_params
        if hasattr(params, "std_init"):
            params = dataclasses.replace(params, std_init=jnp.float32(0.3))
        state, begun = jaxgfo.init(ours, KEY, start), None
        for keys in jax.random.split(KEY, (6, 2)):
            population, state = jaxgfo.ask(ours, keys[0], state)
            if name == "DifferentialEvolution" and begun is None:
                fitness = jnp.sum(jnp.square(population), axis=1)
                begun = theirs.init(keys[1], population, fitness, params)
            else:
                first = begun is None
                begun = theirs.init(KEY, start, params) if first else begun
                expected, begun = theirs.ask(keys[0], begun, params)
                expected = expected.at[0].set(start) if first else expected
                np.testing.assert_allclose(population, expected, rtol=1e-5, atol=1e-5)
                fitness = jnp.sum(jnp.square(expected), axis=1)
                begun, _ = theirs.tell(keys[1], expected, fitness, begun, params)
            state, _ = jaxgfo.tell(ours, keys[1], state, population, fitness)


def test_scan_and_sweeps_of_what_is_traced():
    lanes = [build("PGPE", init_scale=s, std_lr=r) for s, r in ((0.1, 0.1), (0.3, 0.2))]
    stacked = jax.tree.map(lambda *x: jnp.stack([*map(jnp.float32, x)]), *lanes)
    _, swept = jax.vmap(lambda a: scan(a, KEY, START, 6))(stacked)
    for lane, algorithm in zip(swept, lanes):
        assert_close(lane, scan(algorithm, KEY, START, 6)[1])
    assert not np.allclose(swept[0], swept[1])


def test_failures_count_as_just_worse_than_what_did_not_fail():
    # A kept member may not be replaced by one that failed, however good it seems beside others.
    algorithm = build("DifferentialEvolution", pop_size=4)
    state = jaxgfo.init(algorithm, KEY, START)
    population, state = jaxgfo.ask(algorithm, KEY, state)
    state, _ = jaxgfo.tell(algorithm, KEY, state, population, [5.0, 9.0, 1.0, np.inf])
    assert state.search.fitness[3] == np.nextafter(np.float32(9), np.float32(np.inf))
    population, state = jaxgfo.ask(algorithm, KEY, state)
    before = np.asarray(state.search.population)
    state, _ = jaxgfo.tell(algorithm, KEY, state, population, [0.5, np.nan, np.inf, -np.inf])
    assert_equal(state.search.population[1:3], jnp.asarray(before[1:3]))
    np.testing.assert_array_equal(state.search.fitness, np.float32([0.5, 9.0, 1.0, 0.5]))


@pytest.mark.parametrize("fitness", [np.full(12, 2.0), np.full(12, np.inf), np.full(12, -np.inf)])
def test_a_generation_that_teaches_nothing_changes_nothing(fitness):
    algorithm = build("GuidedES")
    state = jaxgfo.init(algorithm, KEY, START)
    before = jax.tree.map(np.asarray, state)
    population, state = jaxgfo.ask(algorithm, KEY, state)
    state, info = jaxgfo.tell(algorithm, KEY, state, population, fitness)
    assert info.learnt == 0
    assert_equal(state, before)


@unchecked()
def test_says_what_is_wrong():
    evosax, wrong = jaxgfo.Evosax, pytest.raises
    with wrong(ValueError, match="evosax has no 'pgp'; closest: PGPE.*; there are ARS, ASEBO"):
        evosax("pgp")
    with wrong(ValueError, match="PGPE has no 'sigma'; it has init_scale, std_init, std_lr"):
        evosax("PGPE", sigma=1.0)
    with wrong(ValueError, match="PGPE with 7 members: Population size must be even"):
        evosax("PGPE", pop_size=7)
    with wrong(ValueError, match="pop_size is 9; expected a multiple of num_populations, 4"):
        evosax("SV_CMA_ES", pop_size=9)
    with wrong(ValueError, match="optimizer is 'adam' and learning_rate None; .* go together"):
        evosax("Open_ES", optimizer="adam")
    with wrong(ValueError, match="fitness_shaping_fn is 'x'; choose a function or one of identity"):
        evosax("Open_ES", fitness_shaping_fn="x")
    with wrong(ValueError, match=r"unhashable type: 'list', in .*'optimizer': None"):
        evosax("Open_ES", std_schedule=[])
    with wrong(ValueError, match=r"std_init is -1; expected a number in \[0, inf\]"):
        evosax("PGPE", std_init=-1)
    with wrong(ValueError, match="EvosaxPGPE moves real numbers; the array has dtype bool"):
        jaxgfo.init(evosax("PGPE"), KEY, jnp.zeros(3, bool))
    with wrong(ValueError, match="GuidedES with 32 members: Subspace dims must be smaller"):
        jaxgfo.init(evosax("GuidedES", subspace_dims=4), KEY, jnp.zeros(3))


def test_evosax_is_not_needed_until_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "evosax.algorithms", None)
    adapted.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'jaxgfo\[evosax\]'"):
        jaxgfo.Evosax("PGPE")


def test_the_optimizer_and_the_shaping_are_used():
    start = jnp.zeros(4)

    def center(**fields):
        algorithm = jaxgfo.Evosax("Open_ES", pop_size=8, **fields)
        population, state = jaxgfo.ask(algorithm, KEY, jaxgfo.init(algorithm, KEY, start))
        # Fitness that its own shaping, by ranks, and another tell apart.
        fitness = jnp.exp(10 * population.sum(axis=1))
        return jaxgfo.tell(algorithm, KEY, state, population, fitness)[0].search.mean

    adam = center(optimizer="adam", learning_rate=0.5)
    np.testing.assert_allclose(abs(adam), 0.5, rtol=1e-3)  # Adam's first step
    sgd = {"optimizer": "sgd", "learning_rate": 1.0}
    ranks = center(**sgd)
    assert_equal(center(**sgd, fitness_shaping_fn="centered_rank"), ranks)
    assert not np.allclose(center(**sgd, fitness_shaping_fn="identity"), ranks)


def test_it_is_an_algorithm_like_others():
    algorithm = jaxgfo.Evosax("PGPE", std_init=0.5)
    assert isinstance(algorithm, core.Algorithm)
    assert algorithm.std_init == 0.5
    assert dataclasses.replace(algorithm, pop_size=4) == jaxgfo.Evosax(
        "PGPE", std_init=0.5, pop_size=4
    )
    result = jaxgfo.run(
        jaxgfo.Evosax("SNES", pop_size=8),
        jaxgfo.Flat(START),
        lambda params, batch: sum(jnp.sum(jnp.square(x.astype("f4"))) for x in params.values()),
        None,
        key=KEY,
        num_generations=3,
    )
    assert result.best_fitness <= 7
    assert result.history[-1].info == {"learnt": 1.0, "failed": 0.0}
