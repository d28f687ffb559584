"""SNES, XNES, PGPE and LM-MA-ES against their papers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_close, copy, numbers, unchecked
from scipy.linalg import expm

import jaxgfo

KEY = jax.random.key(5)
POP, SIZE, GENERATIONS = 8, 5, 6
START = jnp.linspace(-0.4, 0.6, SIZE)
NAMES = ["snes", "xnes", "pgpe", "lmma"]
every_name = pytest.mark.parametrize("name", NAMES)

# Oracles: the papers' loops in double precision, with the same raw random numbers.


def energy(x):
    """A bowl, longer in one direction, with ripples: no two members are equal."""
    return ((x - 0.25) ** 2 @ np.arange(1, SIZE + 1)) + 0.1 * np.sin(9 * x).sum(axis=1)


def normal(key, *shape):
    return np.asarray(jax.random.normal(key, shape), float)


def best_first(fitness, *values):
    order = np.argsort(fitness)
    return [v[order] for v in values]


def utilities():
    raw = np.array([max(0, math.log(POP / 2 + 1) - math.log(k)) for k in range(1, POP + 1)])
    return raw / raw.sum() - 1 / POP


def snes(keys, scale):
    mean, sigma = np.asarray(START, float), np.full(SIZE, scale)
    u, rate = utilities(), (3 + math.log(SIZE)) / (5 * math.sqrt(SIZE))
    for t, key in enumerate(keys):
        s = normal(key, POP, SIZE)
        s[0] *= t > 0
        x = mean + sigma * s
        (s,) = best_first(energy(x), s)
        mean = mean + sigma * (u @ s)
        sigma = sigma * np.exp(rate / 2 * (u @ (s**2 - 1)))
        yield x, {"mean": mean, "sigma": sigma}


def xnes(keys, scale):
    mean, sigma, b = np.asarray(START, float), scale, np.eye(SIZE)
    u, rate = utilities(), (9 + 3 * math.log(SIZE)) / (5 * SIZE * math.sqrt(SIZE))
    for t, key in enumerate(keys):
        s = normal(key, POP, SIZE)
        s[0] *= t > 0
        x = mean + sigma * s @ b.T
        (s,) = best_first(energy(x), s)
        g = sum(w * (np.outer(v, v) - np.eye(SIZE)) for w, v in zip(u, s))
        growth = np.trace(g) / SIZE
        mean = mean + sigma * b @ (u @ s)
        sigma = sigma * math.exp(rate / 2 * growth)
        b = b @ expm(rate / 2 * (g - growth * np.eye(SIZE)))
        yield x, {"mean": mean, "sigma": sigma, "shape": b}


def pgpe(keys, scale, rate=0.5, sigma_rate=0.3):
    mean, sigma, half = np.asarray(START, float), np.full(SIZE, scale), POP // 2
    for t, key in enumerate(keys):
        e = normal(key, half, SIZE) * sigma
        x = np.stack([mean + e, mean - e], axis=1).reshape(POP, SIZE)
        if t == 0:
            x[0] = mean
        reward = -energy(x)
        reward = (reward - reward.mean()) / reward.std()
        if t == 0:  # the first pair is not one: each member by itself
            away = x - mean
            slope = reward @ away / POP
            excess = reward @ (away**2 - sigma**2) / sigma / POP
        else:
            plus, minus = reward[::2], reward[1::2]
            slope = e.T @ (plus - minus) / 2 / half
            excess = ((e**2 - sigma**2) / sigma).T @ ((plus + minus) / 2) / half
        mean = mean + rate * slope
        sigma = sigma + np.clip(sigma_rate * excess, -0.2 * sigma, 0.2 * sigma)
        yield x, {"mean": mean, "sigma": sigma}


def lmma(keys, scale):
    n, m, mu = SIZE, 4 + math.floor(3 * math.log(SIZE)), POP // 2
    w = math.log(mu + 0.5) - np.log(np.arange(1, mu + 1))
    w /= w.sum()
    mass = 1 / (w**2).sum()
    c_sigma = min(0.5, 2 * POP / n)
    c_d = [min(0.5, 1 / (1.5**i * n)) for i in range(m)]
    c_c = [min(0.5, POP / (4**i * n)) for i in range(m)]
    mean, sigma, path, vectors = np.asarray(START, float), scale, np.zeros(n), np.zeros((m, n))
    for t, key in enumerate(keys):
        z = normal(key, POP, n)
        z[0] *= t > 0
        d = z
        for i in range(min(t, m)):
            d = (1 - c_d[i]) * d + c_d[i] * np.outer(d @ vectors[i], vectors[i])
        x = mean + sigma * d
        z, d = best_first(energy(x), z, d)
        mean = mean + sigma * w @ d[:mu]
        path = (1 - c_sigma) * path + math.sqrt(mass * c_sigma * (2 - c_sigma)) * (w @ z[:mu])
        for i, c in enumerate(c_c):
            vectors[i] = (1 - c) * vectors[i] + math.sqrt(mass * c * (2 - c)) * (w @ z[:mu])
        sigma = sigma * math.exp(c_sigma / 2 * (path @ path / n - 1))
        yield x, {"mean": mean, "sigma": sigma, "path": path, "vectors": vectors}


ORACLES = {
    "snes": (snes, {}),
    "xnes": (xnes, {}),
    "pgpe": (
        pgpe,
        {"optimizer": "sgd", "learning_rate": 0.5, "sigma_rate": 0.3, "shaping": "z-scores"},
    ),
    "lmma": (lmma, {}),
}


@every_name
def test_six_generations_are_those_of_the_paper(name):
    oracle, fields = ORACLES[name]
    algorithm = jaxgfo.REGISTRY[name](pop_size=POP, init_scale=0.2, **fields)
    keys = jax.random.split(KEY, GENERATIONS)
    state = jaxgfo.init(algorithm, KEY, START)
    for key, (x, expected) in zip(keys, oracle(keys, 0.2)):
        population, state = jaxgfo.ask(algorithm, key, state)
        np.testing.assert_allclose(population, x, rtol=1e-4, atol=1e-5)
        state, _ = jaxgfo.tell(algorithm, key, state, population, energy(np.asarray(x)))
        for field, value in expected.items():
            np.testing.assert_allclose(getattr(state, field), value, rtol=1e-4, atol=1e-5)


# What the papers promise, on quadratic functions of the worst kind.


def rotation(n):
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
    return q


@functools.partial(jax.jit, static_argnames=("num", "seeds"))
def search(algorithm, weights, turn, num, seeds):
    """sum_i weights_i (turn x)_i^2 from (1, ..., 1): last states, best fitness (seeds, num)."""

    def one(key):
        def step(state, key):
            population, state = jaxgfo.ask(algorithm, key, state)
            fitness = jnp.square(population @ turn.T) @ weights
            state, _ = jaxgfo.tell(algorithm, key, state, population, fitness)
            return state, fitness.min()

        state = jaxgfo.init(algorithm, key, jnp.ones(weights.shape))
        return jax.lax.scan(step, state, jax.random.split(key, num))

    return jax.vmap(one)(jax.random.split(KEY, seeds))


def median_of_best(algorithm, weights, turn, num):
    """Of five seeds, relative to the start."""
    turn = np.asarray(turn, np.float32)
    start = np.square(turn.sum(axis=1)) @ weights
    _, best = search(algorithm, jnp.float32(weights), jnp.asarray(turn), num, 5)
    return float(jnp.median(best.min(axis=1)) / start)


def test_snes_learns_a_scale_per_coordinate_and_xnes_their_coupling():
    n, weights = 10, np.logspace(0, 6, 10)
    snes, xnes = (jaxgfo.REGISTRY[a](pop_size=16, init_scale=0.3) for a in ("snes", "xnes"))
    assert median_of_best(snes, weights, np.eye(n), 800) < 1e-20
    assert median_of_best(snes, weights, rotation(n), 800) > 1e-7
    assert median_of_best(xnes, weights, rotation(n), 800) < 1e-12


def test_pgpe_learns_a_scale_per_coordinate():
    pgpe = jaxgfo.PGPE(pop_size=16, init_scale=0.3)
    assert median_of_best(pgpe, np.logspace(0, 4, 10), np.eye(10), 1000) < 1e-9


def test_lm_ma_es_finds_the_long_axis_of_a_rotated_cigar():
    n = 32
    weights = np.r_[1, np.full(n - 1, 1e3)]
    algorithm = jaxgfo.LMMAES(pop_size=14, init_scale=0.3)
    # A sphere that shrinks with the others would leave 1 / 31,000 of the start.
    assert median_of_best(algorithm, weights, rotation(n), 1500) < 1e-15


def test_xnes_with_few_members_turns_like_the_exponential_of_the_whole_matrix():
    n, pop_size = 40, 8
    algorithm = jaxgfo.XNES(pop_size=pop_size, shape_rate=0.05, init_scale=0.3)
    state, shape = jaxgfo.init(algorithm, KEY, jnp.zeros(n)), np.eye(n)
    u = np.maximum(0, math.log(pop_size / 2 + 1) - np.log(np.arange(1, pop_size + 1)))
    u = u / u.sum() - 1 / pop_size
    for t in range(40):  # past the generation in which the inverse is computed anew
        population, state = jaxgfo.ask(algorithm, jax.random.fold_in(KEY, t), state)
        fitness = jnp.sum(population * jnp.arange(1.0, n + 1), axis=1)
        s = np.asarray(state.noise, float)[np.argsort(fitness)]
        state, _ = jaxgfo.tell(algorithm, KEY, state, population, fitness)
        g = (s.T * u) @ s
        g -= np.trace(g) / n * np.eye(n)
        norm = np.linalg.norm(0.025 * g)
        shape = shape @ expm(0.025 * g * min(1, 3 / norm))
        scale = max(abs(shape).max(), 1)
        np.testing.assert_allclose(state.shape, shape, atol=2e-5 * (t + 1) * scale)
    np.testing.assert_allclose(state.shape @ state.inverse, np.eye(n), atol=2e-3)


def test_xnes_learns_the_inverse_of_the_hessian():
    turn, weights = rotation(5), np.logspace(0, 4, 5)
    algorithm = jaxgfo.XNES(pop_size=12, init_scale=0.3)
    states, _ = search(algorithm, jnp.float32(weights), jnp.float32(turn), 600, 16)
    shapes = np.asarray(states.shape, float)
    np.testing.assert_allclose(np.linalg.det(shapes), 1, atol=1e-5)
    hessian = turn.T @ np.diag(weights) @ turn
    # Every run: 1e4 becomes the noise of 12 members, up to 5.9 when it was measured.
    conditions = np.linalg.cond(np.swapaxes(shapes, 1, 2) @ hessian @ shapes)
    assert conditions.max() < 10
    # Their mean: every entry, off the diagonal too, within 0.02 of a trace of 1.
    learnt, inverse = (shapes @ np.swapaxes(shapes, 1, 2)).mean(axis=0), np.linalg.inv(hessian)
    np.testing.assert_allclose(learnt / np.trace(learnt), inverse / np.trace(inverse), atol=0.02)
    assert np.abs(inverse - np.diag(np.diag(inverse))).max() / np.trace(inverse) > 0.1


# What they promise here.


@functools.partial(jax.jit, static_argnames=("fitness", "num"))
def together(algorithm, start, fitness, num):
    """A run in one program: the last state, and the best fitness of every generation."""

    def step(state, key):
        population, state = jaxgfo.ask(algorithm, key, state)
        scores = fitness(population)
        return jaxgfo.tell(algorithm, key, state, population, scores)[0], scores.min()

    return jax.lax.scan(step, jaxgfo.init(algorithm, KEY, start), jax.random.split(KEY, num))


@every_name
def test_a_mean_moves_by_less_than_its_leaves_can(name):
    start = {"half": jnp.ones(40, jnp.bfloat16), "full": jnp.ones(3)}
    algorithm = jaxgfo.REGISTRY[name](
        pop_size=16, init_scale=0.003, **({"learning_rate": 0.001} if name == "pgpe" else {})
    )

    def slope(population):
        kinds = {k: x.dtype for k, x in population.items()}
        assert kinds == {k: x.dtype for k, x in start.items()}
        return population["half"].astype(jnp.float32).sum(1) + population["full"].sum(1)

    state, _ = together(algorithm, start, slope, 3)
    moved = np.abs(np.asarray(state.mean["half"]) - 1)
    step = 2.0**-8  # of bf16 just below 1
    assert state.mean["half"].dtype == jnp.float32
    assert ((moved > 0) & (moved < step / 2)).any()
    unlike = state.mean["half"].astype(jnp.bfloat16).astype(jnp.float32) != state.mean["half"]
    assert unlike.any()


@every_name
def test_what_teaches_nothing_moves_nothing(name):
    algorithm = jaxgfo.REGISTRY[name](pop_size=8, init_scale=0.1)
    state = jaxgfo.init(algorithm, KEY, START)
    for fitness in (jnp.arange(8.0), jnp.ones(8), jnp.full(8, jnp.inf), jnp.arange(8.0)):
        population, state = jaxgfo.ask(algorithm, KEY, state)
        before = copy(state)
        state, info = jaxgfo.tell(algorithm, KEY, state, population, fitness)
        assert info.learnt == float(fitness[0] != fitness[1])
        assert state.step == before.step + 1
        pairs = zip(numbers(before), numbers(state._replace(step=before.step)))
        assert all(np.array_equal(a, b) for a, b in pairs) == (info.learnt == 0)


def test_pgpe_draws_pairs_around_its_mean():
    algorithm = jaxgfo.PGPE(pop_size=8)
    state = jaxgfo.init(algorithm, KEY, START)._replace(step=jnp.int32(1))
    population, _ = jaxgfo.ask(algorithm, KEY, state)
    middle = np.broadcast_to((population[::2] + population[1::2]) / 2, (4, SIZE))
    np.testing.assert_allclose(middle, np.broadcast_to(START, (4, SIZE)), atol=1e-7)
    # A step that no member differs in has no slope: Adam would go along a rounding.
    state, _ = jaxgfo.tell(algorithm, KEY, state, population.at[:, 0].set(0.3), jnp.arange(8.0))
    assert state.mean[0] == START[0]
    assert (state.mean[1:] != START[1:]).all()


@every_name
def test_bounds_stop_what_lies_on_them_and_nothing_else(name):
    # A third of the optimum lies behind a wall.
    n = 24 if name == "lmma" else 3
    target = jnp.r_[jnp.full(n // 3, 3.0), jnp.linspace(-0.5, 0.5, n - n // 3)]

    def away(population):
        return jnp.square(population - target).sum(1)

    algorithm = jaxgfo.REGISTRY[name](init_scale=0.2, bounds=jaxgfo.Bounds(-1.0, 1.0))
    state, best = together(algorithm, jnp.zeros(n), away, 700)
    assert np.abs(state.mean).max() <= 1
    nearest = away(jnp.clip(target, -1, 1)[None])[0]
    assert best.min() - nearest < 0.02 * (best[0] - nearest)
    if name != "lmma":
        np.testing.assert_allclose(state.mean, jnp.clip(target, -1, 1), atol=0.02)


def size_of(values):
    return sum(x.size for x in jax.tree.leaves(values))


def test_lm_ma_es_takes_a_million_coordinates():
    n, m = 10**6, 4 + math.floor(3 * math.log(10**6))
    start = {"matrix": jnp.zeros((1000, 900)), "rest": jnp.zeros(100_000)}
    state = jax.eval_shape(jaxgfo.LMMAES().init, KEY, start)
    assert size_of(state) == (m + 2) * n + 3  # vectors, path and mean; three numbers

    def away(population):
        return jnp.square(population["matrix"] - 1).sum((1, 2)) + population["rest"].sum(1)

    state, best = together(jaxgfo.LMMAES(pop_size=2, m=4), start, away, 2)
    assert np.isfinite(best).all()
    assert state.updates == 2
    # c_sigma is 4e-6: sigma cannot have moved further.
    assert abs(state.sigma / 0.05 - 1) < 1e-4
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.mean))
    # The mean, z = 0, was the best of the first generation; then z of one member with c_c = 2e-6.
    mean_square = np.square(state.vectors["matrix"][0]).mean()
    np.testing.assert_allclose(mean_square, 2 * 2e-6, rtol=0.02)


def test_lm_ma_es_is_the_same_where_its_coordinates_are_spread():
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
    start, algorithm = jnp.ones(64), jaxgfo.LMMAES(pop_size=6, m=3)
    found = [together(algorithm, x, squares, 4)[0] for x in (start, jax.device_put(start, spread))]
    assert {x.data.shape for x in found[1].vectors.addressable_shards} == {(3, 8)}
    assert_close(found[0], jax.device_get(found[1]))


def squares(population):
    return jnp.square(population).sum(1)


# What they refuse.


@unchecked()
def test_refuses():
    with pytest.raises(ValueError, match=r"2001 coordinates.*at most 2000: use SNES \('snes'\)"):
        jaxgfo.init(jaxgfo.XNES(), KEY, jnp.zeros(2001))
    with pytest.raises(ValueError, match="pop_size is 9, but members come in pairs"):
        jaxgfo.PGPE(pop_size=9)
    with pytest.raises(ValueError, match="m is 0; expected at least 1 direction vector"):
        jaxgfo.LMMAES(m=0)
    with pytest.raises(ValueError, match="optimizer is 'nadamax'; expected a name in optax"):
        jaxgfo.init(jaxgfo.PGPE(optimizer="nadamax"), KEY, START)
