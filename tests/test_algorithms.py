"""What is particular to one algorithm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import generation, scan, sphere, unchecked

import jaxgfo
from jaxgfo.algorithms.particle_swarm import neighbours

KEY = jax.random.key(1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: jaxgfo.GeneticAlgorithm(tournament_size=0), "tournament_size is 0; expected at"),
        (lambda: jaxgfo.GeneticAlgorithm(truncation=0), r"truncation is 0; expected a share in \("),
        (lambda: jaxgfo.GeneticAlgorithm(elites=32), "elites is 32; expected 0 to pop_size - 1"),
        (lambda: jaxgfo.SHADE(memory_size=0), "memory_size is 0; expected at least 1"),
        (lambda: jaxgfo.SHADE(archive_rate=-1), "archive_rate is -1; expected at least 0"),
        (lambda: jaxgfo.SHADE(final_pop_size=4), "final_pop_size and max_evaluations go together"),
        (
            lambda: jaxgfo.ParticleSwarm(constriction=True),
            r"constriction needs cognitive \+ social > 4, got 1.49618 \+ 1.49618",
        ),
        (lambda: jaxgfo.DifferentialEvolution(weight=2.5), r"weight is 2.5; .* \[0, 2\]"),
        (lambda: jaxgfo.SimulatedAnnealing(acceptance=1), "acceptance is 1; expected a number"),
    ],
)
@unchecked()
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("cross", ["uniform", "arithmetic"])
def test_genetic_algorithm_refuses_what_does_not_fit_its_leaves(cross):
    bits, real = jnp.zeros(4, bool), jnp.zeros(4)
    if cross == "arithmetic":
        with pytest.raises(ValueError, match="arithmetic crossover averages real numbers"):
            jaxgfo.init(jaxgfo.GeneticAlgorithm(crossover=cross), KEY, bits)
    with pytest.raises(ValueError, match=r"(arithmetic|gaussian)"):
        jaxgfo.init(jaxgfo.GeneticAlgorithm(crossover=cross, mutation="gaussian"), KEY, bits)
    with pytest.raises(ValueError, match="bit_flip mutation needs bits"):
        jaxgfo.init(jaxgfo.GeneticAlgorithm(crossover=cross, mutation="bit_flip"), KEY, real)


@pytest.mark.parametrize("elites", [1, 3])
def test_elites_are_never_lost(elites):
    algorithm = jaxgfo.GeneticAlgorithm(pop_size=6, elites=elites, mutation_scale=1.0)
    state, best = jaxgfo.init(algorithm, KEY, jnp.zeros(3)), np.full(elites, np.inf)
    for key in jax.random.split(KEY, 8):
        state, _, scores, _ = generation(algorithm, key, state)
        best = np.sort(np.r_[best, scores])[:elites]
        # The very best ever seen is in the state, beside what it scored.
        assert np.sort(state.fitness)[0] == best[0]
        np.testing.assert_allclose(sphere(state.population), state.fitness, rtol=1e-6)


def test_without_elites_the_best_may_be_lost():
    algorithm = jaxgfo.GeneticAlgorithm(pop_size=4, elites=0, mutation_scale=9.0)
    state, fitness = scan(algorithm, KEY, jnp.full(3, 0.25), 5)
    assert fitness.min() == 0
    assert state.fitness.min() > 0


@pytest.mark.parametrize(
    "algorithm",
    [jaxgfo.SimulatedAnnealing(pop_size=400), jaxgfo.ParallelTempering(pop_size=400)],
    ids=["sa", "pt"],
)
def test_calibrated_temperature_accepts_at_the_target_rate(algorithm):
    # The hottest chains of a linear landscape: half of the moves rise, and half of these pass.
    def slope(population):
        return population.sum(axis=1)

    state = jaxgfo.init(algorithm, KEY, jnp.zeros(4))
    for key in jax.random.split(KEY, 2):
        population, state = jaxgfo.ask(algorithm, key, state)
        before = np.array(state.fitness)
        state, info = jaxgfo.tell(algorithm, key, state, population, slope(population))
    hottest = info.temperature if hasattr(info, "temperature") else info.hottest
    rises = np.asarray(slope(population) - before, float)
    rises = rises[rises > 0]
    assert np.exp(-rises / float(hottest)).mean() == pytest.approx(0.5, abs=1e-3)


def test_zero_temperature_never_rises():
    algorithm = jaxgfo.SimulatedAnnealing(temperature=0.0, scale=0.1, pop_size=4)
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(3))
    last = np.full(4, np.inf)
    for key in jax.random.split(KEY, 10):
        state, _, _, _ = generation(algorithm, key, state)
        assert (state.fitness <= last).all()
        last = np.array(state.fitness)


@pytest.mark.parametrize(
    ("topology", "pop_size", "degree"),
    [("ring", 5, 2), ("ring", 2, 1), ("von_neumann", 12, 4), ("von_neumann", 32, 4)],
)
def test_neighbourhoods_are_mutual(topology, pop_size, degree):
    table = neighbours(topology, pop_size)
    informs = [set(row) for row in table.tolist()]
    assert all(row[0] == i for i, row in enumerate(table.tolist()))
    assert all(i in informs[j] for i in range(pop_size) for j in informs[i])
    # A torus of three rows and four columns, or four and eight: four different neighbours.
    assert all(len(row) == degree + 1 for row in informs)


def test_news_travels_one_step_a_generation_on_a_ring():
    algorithm = jaxgfo.ParticleSwarm(
        topology="ring", pop_size=8, init_scale=0.0, inertia=0.0, cognitive=0.0
    )
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(3))
    best = state.best.at[0].set(1.0)
    state = state._replace(best=best, step=jnp.int32(1), fitness=jnp.ones(8).at[0].set(0.0))
    moved, _ = jaxgfo.ask(algorithm, KEY, state)
    assert (jnp.abs(moved).sum(axis=1) > 0).tolist() == [True, True, *[False] * 5, True]


def test_random_search_learns_nothing():
    algorithm = jaxgfo.RandomSearch(pop_size=4000, init_scale=0.5)
    state = jaxgfo.init(algorithm, KEY, jnp.full(2, 3.0))
    for key in jax.random.split(KEY, 3):
        state, population, _, _ = generation(algorithm, key, state)
    # 8000 draws of N(3, 0.5): five standard errors of 0.0056 and 0.004.
    assert abs(population.mean() - 3) < 0.028
    assert abs(population.std() - 0.5) < 0.02


def test_arithmetic_crossover_stays_between_the_parents():
    algorithm = jaxgfo.GeneticAlgorithm(
        crossover="arithmetic", mutation_rate=0.0, elites=0, init_scale=1.0, pop_size=9
    )
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(4))
    first, state = jaxgfo.ask(algorithm, KEY, state)
    state, _ = jaxgfo.tell(algorithm, KEY, state, first, sphere(first))
    children, _ = jaxgfo.ask(algorithm, KEY, state)
    assert (children <= first.max(axis=0) + 1e-6).all()
    assert (children >= first.min(axis=0) - 1e-6).all()
    assert jnp.abs(children[:, None] - first[None]).sum(axis=2).min(axis=1).max() > 0


@pytest.mark.parametrize(("memory", "drawn"), [(-1.0, 0.4), (0.5, 0.0)])
def test_terminal_crossover_memory(memory, drawn):
    """L-SHADE: M_CR ends where every success had CR = 0, and an ended entry stays ended."""
    algorithm = jaxgfo.SHADE(pop_size=4, memory_size=2)
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(3))
    state = state._replace(
        fitness=jnp.ones(4),
        step=jnp.int32(1),
        crossover=jnp.full(4, drawn),
        memory_crossover=jnp.array([memory, 0.7]),
    )
    population = jnp.ones((4, 3))
    state, _ = jaxgfo.tell(algorithm, KEY, state, population, jnp.array([0.5, 2.0, 0.5, 2.0]))
    np.testing.assert_allclose(state.memory_crossover, [-1.0, 0.7])
    assert state.slot == 1
