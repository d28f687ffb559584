"""SPSA beside theory and plain NumPy; the directions of low-rank estimates beside theory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import copy, unchecked

import jaxgfo
from jaxgfo import tree
from jaxgfo.population import LowRank, Seeded, member

KEY = jax.random.key(3)
SEEDS = 20_000


def linear(slope, params):
    return jnp.vdot(slope, params)


def sphere(slope, params):
    return 0.5 * jnp.sum(jnp.square(params))


@functools.partial(jax.jit, static_argnames=("objective", "seeds"))
def moves(search, start, objective, slope, seeds):
    """How far the center goes in one generation, not the first one, under many seeds."""

    def one(key):
        state = search.init(key, start)._replace(step=jnp.ones((), jnp.int32))
        population, state = search.ask(key, state)
        fitness = jax.vmap(lambda i: objective(slope, member(population, i)))(
            jnp.arange(search.pop_size)
        )
        state, _ = search.tell(key, state, population, fitness)
        return state.center - start

    return jax.lax.map(one, jax.random.split(KEY, seeds), batch_size=1000)


def mezo(**fields):
    """As in the paper, on one probe, with a learning rate of 1."""
    given = {"pop_size": 2, "step": "plain", "noise": "normal", "scale": 0.1}
    return jaxgfo.SPSA(**given | {"learning_rate": 1.0} | fields)


def within_errors(samples, expected, most=0.08):
    """The mean of independent samples is what it should be, to five standard errors of it, which
    are no more than this share."""
    samples = np.asarray(samples, np.float64)
    error = 5 * samples.std() / np.sqrt(len(samples))
    assert abs(samples.mean() - expected) < error < most * abs(expected)


@pytest.mark.parametrize(("noise", "more"), [("normal", 2), ("signs", 0)])
def test_second_moment_of_the_estimate(noise, more):
    d = 10
    slope = jax.random.normal(jax.random.key(1), (d,))
    step = moves(mezo(noise=noise), jnp.ones(d), linear, slope, SEEDS)
    # Unbiased, and E|p z|^2 = (d + 2) |g|^2 with normal noise, d |g|^2 with signs.
    within_errors(-step @ slope / (slope @ slope), 1)
    within_errors((step**2).sum(axis=1) / (slope @ slope), d + more)


def test_distance_on_a_sphere_contracts_by_the_optimal_rate():
    d = 10
    start = jax.random.normal(jax.random.key(2), (d,))
    search = mezo(learning_rate=1 / (d + 2))
    after = start + moves(search, start, sphere, jnp.zeros(d), SEEDS)
    ratio = (after**2).sum(axis=1) / (start @ start)
    within_errors(ratio, 1 - 1 / (d + 2))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_second_moment_of_low_rank_estimates(rank):
    m, n, probes = 4, 3, 2
    slope = jax.random.normal(jax.random.key(1), (m, n))
    search = mezo(rank=rank, pop_size=2 * probes)
    step = moves(search, jnp.ones((m, n)), linear, slope, SEEDS)
    # E|<g, E> E|^2 / |g|^2 of E = A B^T / sqrt(r), by counting the pairings of normal numbers.
    one = (m + 2) * (n + 2) / rank + (1 - 1 / rank) * (m * n + 2) if rank else m * n + 2
    size = (step**2).sum(axis=(1, 2)) / jnp.sum(slope**2)
    within_errors(size, 1 + (one - 1) / probes, most=0.2)


@pytest.mark.parametrize("rank", [1, 4])
def test_direction_nears_the_gradient_as_members_grow(rank):
    m, n = 16, 12
    slope = jax.random.normal(jax.random.key(1), (m, n))
    one = (m + 2) * (n + 2) / rank + (1 - 1 / rank) * (m * n + 2)
    seen = []
    for probes in (8, 64, 512):
        search = jaxgfo.LowRankES(
            rank=rank, pop_size=2 * probes, noise="normal", shaping="z-scores", optimizer="sgd"
        )
        step = moves(search, jnp.zeros((m, n)), linear, slope, 32)
        cosine = -jnp.sum(step * slope, axis=(1, 2)) / jnp.linalg.norm(slope)
        cosine = np.asarray(cosine / jnp.linalg.norm(step, axis=(1, 2)))
        # E[step] is the gradient and E|step|^2 = 1 + (one - 1) / probes, in its units.
        assert cosine.mean() == pytest.approx(1 / np.sqrt(1 + (one - 1) / probes), rel=0.06)
        seen.append(cosine.mean())
    assert seen == sorted(seen)
    assert seen[-1] > 0.8


FITNESS = np.array([3.0, 1.0, 2.0, 2.5, np.inf, 7.0, 1.0, 4.0])


@pytest.mark.parametrize(
    ("sides", "step", "rank", "first"),
    [
        ("two", "plain", 0, True),
        ("two", "plain", 2, False),
        ("two", "sign", 0, False),
        ("two", "normalised", 0, False),
        ("one", "plain", 2, True),
        ("one", "normalised", 0, False),
    ],
)
def test_a_generation_in_plain_numpy(sides, step, rank, first):
    params = {"w": jnp.ones((4, 3)), "b": jnp.zeros(5)}
    search = jaxgfo.SPSA(
        sides=sides, step=step, rank=rank, scale=0.1, learning_rate=0.3, pop_size=8
    )
    state = jaxgfo.init(search, KEY, params)
    if not first:
        state = state._replace(step=jnp.asarray(1, jnp.int32))
    population, state = jaxgfo.ask(search, KEY, state)
    assert isinstance(population, LowRank if rank else Seeded)
    members = [tree.flat_paths(member(population, i)) for i in range(8)]
    state, info = jaxgfo.tell(search, KEY, state, population, FITNESS)
    finite = FITNESS[np.isfinite(FITNESS)]
    pairs = [(0, 1), (2, 3), (6, 7)] if sides == "two" else [(i, 0) for i in (1, 2, 3, 5, 6, 7)]
    for path, start in tree.flat_paths(params).items():
        slope = 0
        for a, b in pairs:
            apart = np.asarray(members[a][path], float) - np.asarray(members[b][path], float)
            # The first probe of a run has the center on one side, half as far from the other.
            z = apart / (0.1 if (first and a == 0) or sides == "one" else 0.2)
            length = np.linalg.norm(apart) / np.linalg.norm(z)
            slope = slope + (FITNESS[a] - FITNESS[b]) / length * z / len(pairs)
        if step == "normalised":
            slope = slope * 0.1 / finite.std()
        elif step == "sign":
            slope = np.where(np.abs(slope) > 1e-4, np.sign(slope), 0)
        np.testing.assert_allclose(
            tree.flat_paths(state.center)[path], np.asarray(start) - 0.3 * slope, atol=2e-4
        )
    center = 3.0 if sides == "one" else np.mean([2.0, 2.25, 2.5])
    assert info.center == pytest.approx(center)
    assert info.learnt == 1


def test_the_center_is_restored_without_drift():
    start = {"w": jax.random.normal(KEY, (4, 3)).astype(jnp.bfloat16), "b": jnp.full(5, 0.1)}
    search = jaxgfo.SPSA(learning_rate=0.0, pop_size=4)
    state = jaxgfo.init(search, KEY, copy(start))
    for key in jax.random.split(KEY, 20):
        population, state = jaxgfo.ask(search, key, state)
        state, info = jaxgfo.tell(search, key, state, population, jnp.arange(4.0))
    assert info.update == 0
    jax.tree.map(np.testing.assert_array_equal, state.center, start)


def test_probes_of_one_side_share_nothing():
    search = jaxgfo.SPSA(sides="one", pop_size=6, scale=1.0)
    population, _ = jaxgfo.ask(search, KEY, jaxgfo.init(search, KEY, jnp.zeros(4000)))
    rows = np.stack([member(population, i) for i in range(6)])
    assert not rows[0].any()
    correlation = rows[1:] @ rows[1:].T / 4000
    assert np.abs(correlation - np.eye(5)).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize(
    ("sides", "rank", "chunk_size"), [("two", 0, 4), ("two", 1, 1), ("one", 0, 1), ("one", 1, 3)]
)
def test_members_are_scored_as_they_are(sides, rank, chunk_size):
    params = {"w": jax.random.normal(KEY, (5, 4))}
    search = jaxgfo.SPSA(sides=sides, rank=rank, scale=0.3, pop_size=6)
    state = jaxgfo.init(search, KEY, params)._replace(step=jnp.asarray(1, jnp.int32))
    population, _ = jaxgfo.ask(search, KEY, state)

    def objective(params, x):
        return jnp.sum(jnp.sin(x @ params["w"]))

    found = jaxgfo.evaluate(objective, params, population, jnp.ones((3, 5)), chunk_size=chunk_size)
    full = [objective(member(population, i), jnp.ones((3, 5))) for i in range(6)]
    np.testing.assert_allclose(found, full, rtol=1e-4)
    assert len({float(f) for f in full}) == 6


@unchecked()
def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="pop_size is 7; two-sided probes need an even number"):
        jaxgfo.SPSA(pop_size=7)
    assert jaxgfo.SPSA(pop_size=7, sides="one").pop_size == 7
    with pytest.raises(ValueError, match="rank is -1; expected at least 1, or 0 for full rank"):
        jaxgfo.SPSA(rank=-1)
