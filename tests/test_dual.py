"""Dual annealing and its descents, against SciPy and plain NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxgfo
from jaxgfo.operators import descent

N = 6
TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(N, N)))[0]
OPEN = jnp.full(N, -jnp.inf), jnp.full(N, jnp.inf)


def ellipsoid(x):
    return jnp.sum(100.0 ** jnp.linspace(0, 1, N) * (x @ TURN.T) ** 2, axis=-1)


def rosenbrock(x):
    return jnp.sum(100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2, axis=-1)


def descend(function, start, generations, rows=N + 1, low=OPEN[0], high=OPEN[1]):
    """The descent after some generations, and every value it measured."""

    @jax.jit
    def generation(at, _):
        points = descent.points(at, rows, low, high)
        values = function(points)
        return descent.learn(at, points, values, low, high, jnp.asarray(1.0, start.dtype)), values

    at = descent.begin(start, jnp.zeros((), start.dtype))
    return jax.lax.scan(generation, at, None, length=generations)


@pytest.mark.parametrize("rows", [N + 1, 3, 10])
def test_descends_to_the_optimum_with_any_number_of_members(rows):
    with jax.enable_x64(True):
        start = jnp.asarray(np.random.default_rng(1).uniform(-3, 3, N))
        at, values = descend(ellipsoid, start, 100 * -(-(N + 1) // rows), rows)
        lowest, x, values = float(at.value), np.asarray(at.x), np.asarray(values)
    assert lowest < 1e-8
    assert lowest == pytest.approx(values.min(), abs=1e-8)
    np.testing.assert_allclose(x, 0, atol=1e-3)


def test_takes_about_as_many_gradients_as_scipys_bfgs():
    with jax.enable_x64(True):
        start = jnp.asarray(np.random.default_rng(2).uniform(-2, 2, N))
        _, values = descend(rosenbrock, start, 400)
        best = np.minimum.accumulate(np.asarray(values).min(1))
        found = scipy.optimize.minimize(
            lambda x: float(rosenbrock(x)), np.asarray(start), jac=jax.grad(rosenbrock)
        )
    assert best[-1] < 1e-8
    ours = int(np.argmax(best < 1e-4))
    assert ours < 3 * found.njev  # seed 2; SciPy stops at a gradient of 1e-5


@pytest.mark.parametrize("learnt", [1, 3, 60])
def test_the_inverse_hessian_is_that_of_the_last_pairs(learnt):
    rng, kept = np.random.default_rng(3), min(learnt, descent.PAIRS)
    with jax.enable_x64(True):
        hessian = np.cov(rng.normal(size=(N, 3 * N)))
        pairs = [(s, hessian @ s) for s in rng.normal(size=(learnt, N))]
        steps, changes = np.zeros((2, descent.PAIRS, N))
        for i, (s, y) in enumerate(reversed(pairs[-kept:])):
            steps[i], changes[i] = s, y
        s, y = pairs[-1]
        inverse = (s @ y) / (y @ y) * np.eye(N)
        for s, y in pairs[-kept:]:
            left = np.eye(N) - np.outer(s, y) / (s @ y)
            inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
        gradient = rng.normal(size=N)
        found = descent.product(*map(jnp.asarray, (steps, changes, gradient)))
    np.testing.assert_allclose(np.asarray(found), inverse @ gradient, rtol=1e-9)


def test_descends_a_function_whose_curvature_changes():
    # As bbob's attractive sector: a wrong side is 100 times as steep. One matrix with all that was
    # ever learnt is at 0.9 here.
    n, rng = 40, np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(n, n)))[0]
    optimum = rng.uniform(-4, 4, n)

    def sector(x):
        z = (x - optimum) @ turn
        return jnp.sum(jnp.square(jnp.where(z * optimum > 0, 100 * z, z)), axis=-1) ** 0.9

    with jax.enable_x64(True):
        walls = jnp.full(n, 5.0)
        start = jnp.asarray(rng.uniform(-5, 5, n))
        at, _ = descend(sector, start, 450, n + 1, -walls, walls)
    assert float(at.value) < 1e-3


def test_the_gradient_is_measured_inside_the_walls():
    low, high = jnp.full(N, -1.0), jnp.full(N, 1.0)
    with jax.enable_x64(True):
        low, high = low.astype(float), high.astype(float)
        start = jnp.full(N, 1.0)
        at = descent.begin(start, jnp.zeros(()))
        points = np.asarray(descent.points(at, N + 1, low, high))
        assert np.all(points <= 1.0)
        assert np.count_nonzero(points != 1.0) == N
        at, _ = descend(lambda x: jnp.sum((x - 2.0) ** 2, -1), jnp.zeros(N), 20, low=low, high=high)
    np.testing.assert_allclose(np.asarray(at.x), 1.0)  # the corner nearest to the optimum


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_ends_where_there_is_nothing_to_descend(value):
    at, _ = descend(lambda x: jnp.full(x.shape[0], value), jnp.ones(N), 20)
    assert int(at.phase) == descent.ENDED
    assert np.all(np.isfinite(np.asarray(at.x)))


def test_finds_the_lowest_of_many_optima():
    # Rastrigin in two dimensions: 100 optima in the box, of which a descent finds any.
    def rastrigin(x):
        return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10, axis=-1)

    search = jaxgfo.for_box("dual", 2, jaxgfo.Bounds(-5.12, 5.12))

    @jax.jit
    def lowest(key):
        def step(state, key):
            population, state = search.ask(key, state)
            fitness = rastrigin(population)
            return search.tell(key, state, population, fitness)[0], jnp.min(fitness)

        state = search.init(key, jnp.full(2, 4.5))
        return jnp.min(jax.lax.scan(step, state, jax.random.split(key, 1000))[1])

    found = jax.vmap(lowest)(jax.random.split(jax.random.key(0), 10))
    # Were each optimum equally likely, more than 2 of 10 would come about once in 10,000.
    assert np.sum(np.asarray(found) < 1e-3) >= 8


def test_the_next_descent_begins_at_the_best_of_its_scouts():
    bounds, key = jaxgfo.Bounds(-5.0, 5.0), jax.random.key(4)
    algorithm = jaxgfo.DualAnnealing(bounds=bounds, init_scale=None, pop_size=N + 1)
    state, rows = jaxgfo.init(algorithm, key, jnp.full(N, 2.0)), []
    for step in range(500):
        left, worst = int(state.scouts), int(jnp.argmax(state.fitness))
        population, state = jaxgfo.ask(algorithm, jax.random.fold_in(key, step), state)
        fitness = ellipsoid(population)
        if left:
            rows.append(np.asarray(population))
        if left == 3:
            assert int(state.source) == worst
        state, info = jaxgfo.tell(algorithm, key, state, population, fitness)
        if left:
            assert (int(state.scouts), float(info.descends)) == (left - 1, 1.0)
        if left == 1:
            break
    rows = np.concatenate(rows)
    assert rows.shape == (3 * (N + 1), N)
    assert rows.min() < -4
    assert rows.max() > 4
    assert (state.descent.phase, state.descent.value) == (descent.MEASURE, jnp.inf)
    np.testing.assert_array_equal(state.descent.x, rows[np.argmin(ellipsoid(rows))])


def test_moves_grow_where_there_is_no_curvature():
    start, slope = jnp.zeros(N), jnp.ones(N)
    xs = [start]
    for generations in range(1, 6):
        at, _ = descend(lambda x: x @ slope, start, generations)
        xs.append(at.x)
    lengths = [float(jnp.linalg.norm(b - a)) for a, b in itertools.pairwise(xs[1:])]
    np.testing.assert_allclose(lengths[:2], [1, 2], rtol=1e-2)
    # Rounding may look like a curvature, which is as small as it is, and the move is long.
    assert lengths[2] > 3.9
    assert lengths[3] > 7.9


def test_the_best_chain_is_never_left_for_a_worse_place():
    search = jaxgfo.DualAnnealing(pop_size=4, heat=100.0, init_scale=1.0)
    state = jaxgfo.init(search, jax.random.key(0), jnp.ones(3))
    best = np.inf
    for key in jax.random.split(jax.random.key(1), 300):
        population, state = jaxgfo.ask(search, key, state)
        state, _ = jaxgfo.tell(search, key, state, population, jnp.sum(jnp.abs(population), 1))
        known = float(jnp.min(state.fitness))
        assert known <= best
        best = known
    assert best < 0.1


def test_chains_fill_the_bounds_or_surround_the_start():
    with pytest.raises(ValueError, match="needs bounds: pass bounds=Bounds"):
        jaxgfo.init(jaxgfo.DualAnnealing(init_scale=None), jax.random.key(0), jnp.zeros(6))
    for fields, mean, spread in [
        ({"init_scale": None, "bounds": jaxgfo.Bounds(-1.0, 3.0)}, 1.0, 4 / 12**0.5),
        ({"init_scale": 0.5}, 2.0, 0.5),
    ]:
        search = jaxgfo.DualAnnealing(num_chains=64, **fields)
        chains = jaxgfo.init(search, jax.random.key(0), jnp.full(6, 2.0)).chains[1:]
        # 378 draws: five standard errors are 0.26 of a standard deviation, and 0.18 of it.
        assert float(chains.mean()) == pytest.approx(mean, abs=0.26 * spread)
        assert float(chains.std()) == pytest.approx(spread, rel=0.18)


def test_too_many_coordinates_are_refused():
    with pytest.raises(ValueError, match="20000 coordinates; expected at most 10000"):
        jaxgfo.init(jaxgfo.DualAnnealing(), jax.random.key(0), jnp.zeros(20_000))
    with pytest.raises(ValueError, match="num_chains is 2; expected at least 3"):
        jaxgfo.DualAnnealing(num_chains=2)
