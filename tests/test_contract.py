"""What every algorithm of the registry promises, on every kind of candidate it can move."""

import dataclasses
import functools
from typing import get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import (
    BOUNDS,
    CASES,
    STARTS,
    VARIANTS,
    accepts,
    assert_close,
    assert_equal,
    build,
    copy,
    dense,
    generation,
    loop,
    moved,
    numbers,
    scan,
    sphere,
    unchecked,
)

import jaxgfo
from jaxgfo import core, tree
from jaxgfo.core import Scalar

KEY = jax.random.key(7)
REAL_KINDS = ("flat", "tree", "bf16", "mixed")
every_case = pytest.mark.parametrize(("name", "kind"), CASES)
every_algorithm = pytest.mark.parametrize("name", jaxgfo.REGISTRY)
every_bounded = pytest.mark.parametrize(
    "name", [n for n, cls in jaxgfo.REGISTRY.items() if "bounds" in cls.__dataclass_fields__]
)
every_uniform = pytest.mark.parametrize(
    "name",
    [
        n
        for n, c in jaxgfo.REGISTRY.items()
        # The first population of dual annealing is not its chains: see test_dual.
        if get_type_hints(c).get("init_scale") == Scalar | None and n != "dual"
    ],
)
every_variant = pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=str)


def traced(algorithm):
    """The hyperparameters that are numbers, by name."""
    return {
        f.name: getattr(algorithm, f.name)
        for f in dataclasses.fields(algorithm)
        if not f.metadata.get("static") and isinstance(getattr(algorithm, f.name), float)
    }


@every_algorithm
def test_moves_every_kind_of_real_candidate(name):
    kinds = ("int8",) if jaxgfo.REGISTRY[name] is jaxgfo.Int8ES else REAL_KINDS
    assert all(accepts(name, kind) for kind in kinds)


@every_case
def test_run(name, kind, caplog):
    # No other test has ten members: every compilation that is logged is this test's own.
    algorithm, start = build(name, kind, pop_size=10), copy(STARTS[kind])
    keys = jax.random.split(KEY, 10)
    with jax.log_compiles():
        state, populations = jaxgfo.init(algorithm, KEY, start), []
        for key in keys:
            population, asked = jaxgfo.ask(algorithm, key, state)
            state, info = jaxgfo.tell(algorithm, key, asked, population, sphere(population))
            check_donated(asked, population)
            check_types(dense(population), start)
            assert all(x.shape == () and np.isfinite(x) for x in jax.tree.leaves(info))
            populations.append(population)
        for number in (int, np.float32, np.float64, np.int32, np.asarray, jnp.asarray):
            loop(with_numbers(algorithm, number), KEY, start, 2)
    for door in ("_init", "asking", "telling"):
        assert sum(f"Compiling jit({door})" in m for m in caplog.messages) == 1
    first = dense(populations[0])
    assert_equal(jax.tree.map(lambda x: x[0], first), start)
    assert any(np.ptp(x[1:], axis=0).any() for x in numbers(first))
    assert not any(x.is_deleted() for x in jax.tree.leaves((start, populations)))
    check_replay(algorithm, state)


def check_donated(asked, population):
    kept = [x for x in jax.tree.leaves(asked) if not x.is_deleted()]
    # A population that becomes the state as it is needs no old buffer.
    assert len(kept) <= len(jax.tree.leaves(population))
    assert len(kept) < len(jax.tree.leaves(asked))


def check_types(population, start):
    assert jax.tree.structure(population) == jax.tree.structure(start)
    for x, like in zip(jax.tree.leaves(population), jax.tree.leaves(start)):
        assert (x.shape, x.dtype) == ((10, *like.shape), like.dtype)


def check_replay(algorithm, state):
    first = generation(algorithm, KEY, copy(state))
    again = generation(algorithm, KEY, copy(state))
    assert_equal((dense(first[1]), first[2]), (dense(again[1]), again[2]))
    assert_equal(first[0], again[0])
    draws = bool(getattr(state, "walking", True))  # a descent of dual annealing draws nothing
    other = generation(algorithm, jax.random.key(8), state)
    pairs = zip(numbers(dense(first[1])), numbers(dense(other[1])))
    assert any((a != b).any() for a, b in pairs) == draws


def with_numbers(algorithm, number):
    """The algorithm with every hyperparameter a whole number of this type, where 1 is legal."""
    ranges = {f.name: f.metadata.get("range") for f in dataclasses.fields(algorithm)}
    legal = {n: max(1, ranges[n][0]) for n in traced(algorithm) if ranges[n][1] >= 1}
    return dataclasses.replace(algorithm, **{n: number(np.ceil(v)) for n, v in legal.items()})


@every_algorithm
def test_scan_and_vmap_over_seeds_equal_the_loop(name):
    algorithm, start = build(name), STARTS[moved(name, "mixed")]
    keys = jax.random.split(KEY, 3)
    states, history = jax.vmap(lambda key: scan(algorithm, key, start, 5))(keys)
    for i, key in enumerate(keys):
        state, scores = loop(algorithm, key, start, 5)
        assert_close(lane(states, i), state)
        np.testing.assert_allclose(history[i], scores, rtol=1e-4, atol=1e-5)


def lane(values, i):
    return jax.tree.map(lambda x: x[i], values)


def fits(name, kind, fields):
    """Whether this variant moves this kind of candidate."""
    if not accepts(name, kind):
        return False
    try:
        jax.eval_shape(build(name, kind, **fields).init, KEY, STARTS[kind])
    except ValueError:
        return False
    return True


@every_algorithm
def test_vmap_over_every_hyperparameter_at_once(name):
    algorithm, start = build(name), STARTS[moved(name, "flat")]
    # Lane 0 as it is, lane 1 a tenth lower: a value baked in at compile time would show there.
    lower = {n: 0.9 * v for n, v in traced(algorithm).items()}
    other = jax.tree.map(lambda x: x, algorithm)
    for field, value in lower.items():
        object.__setattr__(other, field, value)  # past the range check, as a traced value is
    lanes = jax.tree.map(lambda a, b: jnp.stack([a, b]), *map(floats, (algorithm, other)))
    sweep = jax.jit(jax.vmap(lambda a: scan(a, KEY, start, 5)))
    swept = sweep(lanes)
    sweep(jax.tree.map(lambda x: 0.95 * x, lanes))
    assert sweep._cache_size() == 1
    for i, single in enumerate((algorithm, other)):
        alone = scan(floats(single), KEY, start, 5)
        assert_close(lane(swept, i), alone)
    assert not np.allclose(swept[1][0], swept[1][1])


def floats(algorithm):
    return jax.tree.map(jnp.float32, algorithm)


@pytest.mark.parametrize(  # slow, and the same for all of a kind
    ("name", "kind"),
    [("ga", "genome"), ("sa", "bits"), ("pso", "mixed"), ("cma", "mixed"), ("spsa", "mixed")],
)
def test_same_result_without_jit(name, kind):
    algorithm = build(name, kind)
    state, history = loop(algorithm, KEY, STARTS[kind], 3)
    with jax.disable_jit():
        plain, plain_history = loop(algorithm, KEY, STARTS[kind], 3)
    assert_close(state, plain)
    np.testing.assert_allclose(history, plain_history, rtol=1e-4, atol=1e-5)


FAILED = {
    "first": [True, *[False] * 7],
    "half": [False, True] * 4,
    "all but one": [*[True] * 7, False],
    "all": [True] * 8,
}


@functools.partial(jax.jit, static_argnames="num")
def poisoned(algorithm, key, start, failed, value, num):
    """A run whose `failed` members score `value` for six generations, and truly afterwards."""
    init_key, key = jax.random.split(key)

    def step(carry, k):
        state, clean, number = carry
        ask_key, tell_key = jax.random.split(k)
        population, state = jaxgfo.ask(algorithm, ask_key, state)
        true = sphere(population)
        told = jnp.where(failed & (number < 6), value, true)
        state, info = jaxgfo.tell(algorithm, tell_key, state, population, told)
        leaves = [x for x in jax.tree.leaves((dense(population), state, info)) if tree.is_float(x)]
        clean &= ~jnp.any(jnp.stack([jnp.isnan(x).any() for x in leaves]))
        return (state, clean, number + 1), true

    carry = (jaxgfo.init(algorithm, init_key, start), jnp.array(True), 0)
    (_, clean, _), fitness = jax.lax.scan(step, carry, jax.random.split(key, num))
    return clean, fitness


@every_variant
def test_survives_failed_evaluations(name, fields):
    kind = next(k for k in (*REAL_KINDS, "bits", "ints", "int8") if fits(name, k, fields))
    algorithm = build(name, kind, **fields)
    values = jnp.array([jnp.nan, jnp.inf, -jnp.inf])
    grid = [(jnp.array(f), v) for f in FAILED.values() for v in values]
    run = jax.vmap(functools.partial(poisoned, num=1000), in_axes=(None, None, None, 0, 0))
    failed, value = map(jnp.stack, zip(*grid))
    clean, fitness = run(algorithm, KEY, STARTS[kind], failed, value)
    assert clean.all()
    # Where no member was called perfect (-inf), the search goes on.
    search = fitness[~jnp.isneginf(value)]
    assert (search[:, 100:].min(axis=(1, 2)) < 0.7 * search[:, 0, 0]).all()


@functools.cache
def best_of_search(name, kind):
    # The median of nine seeds: no run is lucky.
    keys, start = jax.random.split(KEY, 9), jnp.zeros(16, jax.tree.leaves(STARTS[kind])[0].dtype)
    run = jax.vmap(lambda key: scan(build(name, kind, pop_size=16), key, start, 1000)[1])
    return float(jnp.median(run(keys).min(axis=(1, 2))))


@every_algorithm
def test_converges_on_a_quadratic_and_beats_random_search(name):
    kind = moved(name, "flat")
    start, best = 16 * (0.25 if kind == "flat" else 3) ** 2, best_of_search(name, kind)
    if jaxgfo.REGISTRY[name] is jaxgfo.RandomSearch:
        assert best < 0.7 * start
    else:
        assert best < 0.25 * start
        assert best < 0.5 * best_of_search("random", kind)


@pytest.mark.parametrize(("name", "kind"), [c for c in CASES if c[1] not in REAL_KINDS])
def test_solves_a_small_discrete_problem(name, kind):
    _, fitness = scan(build(name, kind), KEY, STARTS[kind], 200)
    assert fitness.min() <= (3 if name == "random" else 0)


@every_bounded
def test_stays_inside_its_bounds(name):
    low, high = {"matrix": -0.05, "scalar": None}, {"matrix": 0.1, "scalar": None}
    bounds = jaxgfo.Bounds(low, high, "reflect")
    algorithm, start = build(name, bounds=bounds), STARTS["tree"]
    state = jaxgfo.init(algorithm, KEY, start)
    seen = []
    for key in jax.random.split(KEY, 20):
        state, population, _, _ = generation(algorithm, key, state)
        seen.append(population)
    inside = np.stack([p["matrix"] for p in seen])
    assert inside.min() >= -0.05
    assert inside.max() <= np.float32(0.1)
    assert np.abs([p["scalar"] for p in seen]).max() > 0.1  # no bounds there


@every_uniform
def test_uniform_start_needs_bounds(name):
    with pytest.raises(ValueError, match="needs bounds: pass bounds=Bounds"):
        jaxgfo.init(build(name, init_scale=None), KEY, STARTS["flat"])
    algorithm = build(name, pop_size=64, init_scale=None, bounds=jaxgfo.Bounds(-1.0, 3.0))
    first, _ = jaxgfo.ask(algorithm, KEY, jaxgfo.init(algorithm, KEY, STARTS["flat"]))
    # 378 draws from U(-1, 3): the mean is 1 with a standard error of 0.06; five of them.
    assert abs(first[1:].mean() - 1) < 0.3
    assert first.min() < -0.8
    assert first.max() > 2.8


@every_algorithm
@unchecked()
def test_says_what_is_wrong(name):
    cls, algorithm = jaxgfo.REGISTRY[name], build(name)
    least = getattr(cls, "least_members", 1)
    with pytest.raises(ValueError, match=f"pop_size is {least - 1}, but it needs at least {least}"):
        cls(pop_size=least - 1)
    with pytest.raises(ValueError, match=r"pop_size is 8.5; expected an integer"):
        cls(pop_size=8.5)
    for field in core.choices(cls):
        with pytest.raises(ValueError, match=f"{field} is 'sideways'; choose one of '"):
            cls(**{field: "sideways"})
    for f in dataclasses.fields(cls):
        if "range" in f.metadata:
            for wrong in (f.metadata["range"][0] - 1, float("nan")):
                with pytest.raises(ValueError, match=f"{f.name} is {wrong}; expected a number in"):
                    cls(**{f.name: wrong})
    for empty in ({}, jnp.zeros((0, 3))):
        with pytest.raises(ValueError, match="start has no coordinates"):
            jaxgfo.init(algorithm, KEY, empty)
    for kind in STARTS:
        if not accepts(name, kind):
            with pytest.raises(ValueError, match=r"has dtype (bool|u?int|b?float)"):
                jaxgfo.init(algorithm, KEY, STARTS[kind])
        elif kind in BOUNDS and "bounds" in cls.__dataclass_fields__:
            with pytest.raises(ValueError, match="bounds"):
                jaxgfo.init(build(name, bounds=None), KEY, STARTS[kind])


@every_algorithm
@unchecked()
def test_tell_refuses_what_ask_did_not_return(name):
    algorithm = build(name)
    state = jaxgfo.init(algorithm, KEY, STARTS[moved(name, "flat")])
    population, state = jaxgfo.ask(algorithm, KEY, state)
    fitness = sphere(population)
    for wrong, shape in (
        (fitness[:5], r"\(5,\)"),
        (fitness[:, None], r"\(8, 1\)"),
        ([], r"\(0,\)"),
    ):
        with pytest.raises(ValueError, match=f"fitness has shape {shape}, but pop_size is 8"):
            jaxgfo.tell(algorithm, KEY, state, population, wrong)
    arrays = isinstance(population, jax.Array)
    for change in (lambda x: x[:5], lambda x: x[:, :1], lambda x: x.astype(jnp.bfloat16)):
        wrong = change(population) if arrays else dataclasses.replace(population, scale=jnp.ones(2))
        with pytest.raises(
            ValueError, match=r"population: (the array|\.scale) is .*, but ask returned float"
        ):
            jaxgfo.tell(algorithm, KEY, state, wrong, fitness)
    with pytest.raises(ValueError, match=r"population is PyTreeDef.*, but ask returned PyTreeDef"):
        jaxgfo.tell(algorithm, KEY, state, {"x": population}, fitness)
    jaxgfo.tell(algorithm, KEY, state, population, list(map(float, fitness)))
