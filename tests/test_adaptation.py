"""What adapts itself: mutation scales, a leader's reach; and members at a wall."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgfo

KEY = jax.random.key(0)


def test_a_child_has_the_geometric_mean_of_its_parents_scales_times_a_log_normal():
    n, c = 8, 2.0
    algorithm = jaxgfo.GeneticAlgorithm(pop_size=4000, adaptation=c, elites=0, selection="roulette")
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(n))
    # Two kinds of parents, with scales 1 and 4, each drawn with probability 1/2.
    scales = jnp.where(jnp.arange(4000) < 2000, 1.0, 4.0)
    state = state._replace(fitness=jnp.zeros(4000), parent_scale=scales, step=jnp.int32(1))
    _, state = jaxgfo.ask(algorithm, KEY, state)
    logs = np.log(np.asarray(state.scale))
    # log of the mean: 0, ln 2 or ln 4 with probabilities 1/4, 1/2, 1/4; five standard errors,
    # of 2,000 pairs whose children share their parents.
    variance = 0.5 * np.log(2) ** 2 + c**2 / (2 * n)
    assert logs.mean() == pytest.approx(np.log(2), abs=5 * np.sqrt(variance / 2000))
    assert logs.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / 2000))


def test_a_member_is_mutated_by_its_own_scale():
    algorithm = jaxgfo.GeneticAlgorithm(
        pop_size=2000, adaptation=0.0, crossover_rate=0.0, mutation_rate=1.0, elites=0
    )
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(50))
    state = state._replace(
        population=jnp.zeros((2000, 50)),
        parent_scale=jnp.full(2000, 0.3),
        fitness=jnp.zeros(2000),
        step=jnp.int32(1),
    )
    population, _ = jaxgfo.ask(algorithm, KEY, state)
    # 100,000 draws: a relative standard error of 0.22 %, five of them.
    assert float(population.std()) == pytest.approx(0.3, rel=0.011)


def test_self_adaptation_ends_in_the_optimum_where_one_scale_does_not():
    def lowest(adaptation):
        algorithm = jaxgfo.GeneticAlgorithm(
            pop_size=32,
            adaptation=adaptation,
            mutation_scale=0.5,
            selection="truncation",
            truncation=0.125,
        )

        @jax.jit
        def search(key):
            def step(state, key):
                population, state = algorithm.ask(key, state)
                fitness = jnp.sum(population**2, axis=1)
                return algorithm.tell(key, state, population, fitness)[0], jnp.min(fitness)

            state = algorithm.init(key, jnp.full(5, 3.0))
            return jnp.min(jax.lax.scan(step, state, jax.random.split(key, 300))[1])

        return np.asarray(jax.vmap(search)(jax.random.split(KEY, 5)))

    # Five seeds each: all of one kind are orders of magnitude below all of the other.
    assert lowest(2.0).max() < 1e-2 * lowest(None).min()


def test_a_leaders_reach_doubles_after_five_successes_and_halves_after_two_failures():
    algorithm = jaxgfo.ParticleSwarm(guaranteed=True, reach=1.0, pop_size=3)
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(2))
    better = [True] * 11 + [False] * 5 + [True, False, False]
    # The same rule in plain Python, for particle 0, which leads from the first generation on.
    reach, run, expected = 1.0, 0, []
    for step, good in enumerate(better):
        if step:  # before the first fitness nobody has succeeded or failed
            run = max(run, 0) + 1 if good else min(run, 0) - 1
            if run in (5, -2):
                reach, run = reach * (2 if run > 0 else 0.5), 0
        else:
            run = 1
        expected.append(reach)
    found = []
    for step, good in enumerate(better):
        population, state = jaxgfo.ask(algorithm, KEY, state)
        fitness = jnp.array([-float(step) if good else 100.0, 200.0, 200.0])
        state, _ = jaxgfo.tell(algorithm, KEY, state, population, fitness)
        found.append(float(state.reach[0]))
    assert found == expected
    assert max(found) == 4.0


def test_the_leader_searches_within_its_reach_of_its_best_place():
    algorithm = jaxgfo.ParticleSwarm(guaranteed=True, reach=0.5, pop_size=3, inertia=0.0)
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(1000))
    population, state = jaxgfo.ask(algorithm, KEY, state)
    state, _ = jaxgfo.tell(algorithm, KEY, state, population, jnp.array([0.0, 1.0, 2.0]))
    best = np.asarray(state.best[0])
    population, _ = jaxgfo.ask(algorithm, jax.random.key(1), state)
    away = np.asarray(population[0]) - best
    assert np.abs(away).max() <= 0.5 + 1e-6
    # U(-0.5, 0.5): 1,000 draws, five standard errors of the standard deviation.
    assert away.std() == pytest.approx(0.5 / np.sqrt(3), rel=0.08)
