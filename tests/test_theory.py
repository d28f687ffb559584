"""Results of the literature that a correct implementation reproduces.

Statistical tests fix their seed and state their bound.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_equal, copy, scan
from scipy import stats

import jaxgfo
from jaxgfo.algorithms.differential_evolution import DifferentialState
from jaxgfo.algorithms.particle_swarm import SwarmState

KEY = jax.random.key(2)


@pytest.mark.parametrize(
    ("weight", "crossover", "pop_size"),
    [(0.5, 0.3, 10), (0.8, 0.9, 10), (0.3, 0.0, 5), (0.2, 1.0, 5), (0.9, 0.5, 40)],
)
def test_variance_of_de_rand_1_bin_without_selection(weight, crossover, pop_size):
    """Zaharie (2002): the variance grows by 2 F^2 p - 2 p / m + p^2 / m + 1 in the mean.

    p is the chance that a coordinate comes from the mutant: CR + (1 - CR) / n, with one coordinate
    for certain. Zaharie draws r1, r2, r3 different from each other but not from i. Where they
    differ from i too, as here, the same calculation (E[x_r1 | i] = -x_i / (m - 1) around the mean)
    gives 1 + 2 F^2 p - 2 p / (m - 1) + p^2 m / (m - 1)^2.
    """
    m, n, runs = pop_size, 20, 4000
    p = crossover + (1 - crossover) / n
    algorithm = jaxgfo.DifferentialEvolution(weight=weight, crossover=crossover, pop_size=m)
    x = jax.random.normal(KEY, (m, n))
    state = DifferentialState(x, jnp.zeros(m), jnp.int32(1))
    trials = jax.vmap(lambda k: jaxgfo.ask(algorithm, k, state)[0])(jax.random.split(KEY, runs))
    ratios = (trials.var(axis=1) / x.var(axis=0)).mean(axis=1)
    exact = 1 + 2 * weight**2 * p - 2 * p / (m - 1) + p**2 * m / (m - 1) ** 2
    zaharie = 1 + 2 * weight**2 * p - 2 * p / m + p**2 / m
    error = float(ratios.std()) / math.sqrt(runs)
    assert error < 0.01
    assert abs(ratios.mean() - exact) < 4 * error
    assert abs(ratios.mean() - zaharie) < 4 * error + 2 * p / (m * (m - 1))


@pytest.mark.parametrize(
    ("w", "c", "known"), [(0.5, 1.0, 0.2887), (0.2, 0.8, None), (0.6, 1.2, None)]
)
def test_spread_of_a_stagnating_particle(w, c, known):
    """Poli (2009): with p = y and g fixed, positions spread as below, in units of |y - g|."""
    spread = 0.5 * math.sqrt(c * (w + 1) / (c * (5 * w - 7) - 12 * w**2 + 12))
    assert known is None or spread == pytest.approx(known, abs=5e-5)
    dimensions, best = 4000, jnp.array([[2.0], [-1.0]])  # |y - g| = 3
    x = jnp.broadcast_to(best, (2, dimensions))
    fitness, run = jnp.array([0.0, 1.0]), jnp.zeros(2, jnp.int32)
    state = SwarmState(jnp.zeros_like(x), x, x, fitness, jnp.ones(2), run, jnp.int32(1))
    algorithm = jaxgfo.ParticleSwarm(inertia=w, cognitive=c, social=c, pop_size=2)

    def fly(state, key):
        population, state = jaxgfo.ask(algorithm, key, state)
        state, _ = jaxgfo.tell(algorithm, key, state, population, jnp.full(2, jnp.inf))
        return state, population[1]

    _, seen = jax.lax.scan(fly, state, jax.random.split(KEY, 400))
    seen = seen[200:]
    # 4000 independent dimensions, 200 correlated generations: the standard errors are near 0.3 %.
    assert seen.std() / 3 == pytest.approx(spread, rel=0.015)
    assert seen.mean() == pytest.approx(0.5, abs=0.015)


def test_constriction_is_inertia_by_another_name():
    """Clerc & Kennedy (2002): chi and c equal w = chi and chi c; 4.1 gives 0.7298 and 1.49618."""
    phi = 4.1
    chi = 2 / abs(2 - phi - math.sqrt(phi**2 - 4 * phi))
    constricted = jaxgfo.ParticleSwarm(constriction=True, cognitive=2.05, social=2.05, pop_size=6)
    plain = jaxgfo.ParticleSwarm(inertia=chi, cognitive=2.05 * chi, social=2.05 * chi, pop_size=6)
    default = jaxgfo.ParticleSwarm(pop_size=6)
    one, two, three = (scan(a, KEY, jnp.zeros(4), 10)[1] for a in (constricted, plain, default))
    np.testing.assert_allclose(one, two, rtol=1e-3)
    np.testing.assert_allclose(one, three, rtol=1e-2)


# A small system: two bits and one integer of three values, twelve states with these energies.
ENERGY = jnp.array([0.0, 0.9, 0.3, 1.7, 0.5, 0.1, 2.2, 1.0, 0.7, 1.3, 0.2, 0.6])
SYSTEM = {"bits": jnp.zeros(2, bool), "level": jnp.zeros((), jnp.int8)}
BOX = jaxgfo.Bounds({"bits": None, "level": 0}, {"bits": None, "level": 2})


def number(population):
    bits = population["bits"].astype(jnp.int32)
    return 6 * bits[..., 0] + 3 * bits[..., 1] + population["level"].astype(jnp.int32)


def system_energy(population):
    return ENERGY[number(population)]


def assert_boltzmann(states, temperature):
    """Independent samples: chi-square below its 99.9 % quantile."""
    chances = np.exp(-np.asarray(ENERGY, float) / temperature)
    expected = states.size * chances / chances.sum()
    counts = np.bincount(np.ravel(states), minlength=12)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < stats.chi2.ppf(0.999, 11), (statistic, counts, expected)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_metropolis_chains_reach_the_boltzmann_distribution(temperature):
    # 6000 independent chains; 300 steps of a 12-state system forget the start.
    algorithm = jaxgfo.SimulatedAnnealing(
        temperature=temperature, cooling_rate=1.0, pop_size=6000, bounds=BOX
    )
    state, _ = scan(algorithm, KEY, SYSTEM, 300, system_energy)
    assert_boltzmann(np.asarray(number(state.population)), temperature)


def test_parallel_tempering_samples_boltzmann_at_every_rung():
    # 6000 independent ladders of four replicas.
    algorithm = jaxgfo.ParallelTempering(
        temperature=2.0, coldest_ratio=0.125, pop_size=4, bounds=BOX
    )
    run = jax.vmap(lambda key: scan(algorithm, key, SYSTEM, 200, system_energy)[0].population)
    states = np.asarray(number(run(jax.random.split(KEY, 6000))))
    for rung, temperature in enumerate([0.25, 0.5, 1.0, 2.0]):
        assert_boltzmann(states[:, rung], temperature)


def test_slow_cooling_finds_the_ground_state():
    # State 0, of energy 0; states 5 and 10 are local minima, in which fast cooling gets stuck.
    def share(rate, num):
        algorithm = jaxgfo.SimulatedAnnealing(
            temperature=2.0, cooling_rate=rate, pop_size=500, bounds=BOX
        )
        state, _ = scan(algorithm, KEY, SYSTEM, num, system_energy)
        return float((number(state.population) == 0).mean())

    assert share(0.5, 300) < 0.6
    assert share(0.998, 4000) > 0.75


def shrinking(final=4, spend=160, pop_size=16):
    return jaxgfo.SHADE(
        final_pop_size=final, max_evaluations=spend, pop_size=pop_size, init_scale=0.3
    )


@pytest.mark.parametrize(("final", "spend"), [(4, 160), (6, 300)])
def test_l_shade_shrinks_linearly_at_fixed_shapes(final, spend):
    algorithm = shrinking(final, spend)
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(5))
    shapes = jax.tree.map(jnp.shape, state)
    spent, active = 0, 16
    for key in jax.random.split(KEY, 40):
        population, state = jaxgfo.ask(algorithm, key, state)
        fitness = (population**2).sum(axis=1)
        # What lies beyond the active rows must not matter: praise it beyond measure.
        used = jnp.arange(16) < active
        praised, failed = (jnp.where(used, fitness, f) for f in (-jnp.inf, jnp.inf))
        before, same = jnp.min(state.fitness), copy(state)
        state, info = jaxgfo.tell(algorithm, key, state, population, praised)
        assert_equal(jaxgfo.tell(algorithm, key, same, population, failed)[0], state)
        spent += active
        active = round(16 + (final - 16) * min(1, spent / spend))
        assert info.active == active
        assert jax.tree.map(jnp.shape, state) == shapes
        assert jnp.isfinite(state.fitness[:active]).all()
        assert jnp.isposinf(state.fitness[active:]).all()
        assert (jnp.diff(state.fitness[:active]) >= 0).all()  # the worst fell out
        assert jnp.min(state.fitness) <= before
    assert active == final


def test_shade_draws_the_laws_of_its_paper():
    """F: Cauchy(M_F, 0.1) drawn again while not positive, cut at 1. CR: N(M_CR, 0.1), clipped."""
    algorithm = jaxgfo.SHADE(pop_size=20_000, memory_size=1)
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(2))
    ask = functools.partial(jaxgfo.ask, algorithm, KEY)
    for middle in (0.05, 0.5, 0.95):
        memory = jnp.array([middle])
        _, asked = ask(state._replace(memory_weight=memory, memory_crossover=memory))
        weight, law = np.asarray(asked.weight, float), stats.cauchy(middle, 0.1)
        positive = law.sf(0)
        assert weight.min() > 0
        # 20000 draws: five standard errors, at most 0.018; Kolmogorov-Smirnov at 0.1 %.
        assert abs((weight == 1).mean() - law.sf(1) / positive) < 0.018
        # Between 0 and 1 the chances of a Cauchy law, spread over (0, 1), are uniform.
        spread = (law.cdf(weight[weight < 1]) - law.cdf(0)) / (law.cdf(1) - law.cdf(0))
        assert stats.kstest(spread, "uniform").pvalue > 1e-3
        crossover = np.asarray(asked.crossover, float)
        inner = crossover[(crossover > 0) & (crossover < 1)]
        truncated = stats.truncnorm(-middle / 0.1, (1 - middle) / 0.1, middle, 0.1)
        assert stats.kstest(inner, truncated.cdf).pvalue > 1e-3
        assert abs((crossover == 0).mean() - stats.norm.cdf(-middle / 0.1)) < 0.018
    terminal = state._replace(memory_crossover=jnp.array([-1.0]))
    assert not ask(terminal)[1].crossover.any()


def test_tournaments_take_over_in_the_expected_time():
    """Goldberg & Deb (1991): selection alone fills the population with the best in about
    (ln m + ln ln m) / ln k generations.
    """
    m, k = 256, 2
    algorithm = jaxgfo.GeneticAlgorithm(
        pop_size=m,
        tournament_size=k,
        crossover_rate=0.0,
        mutation_rate=0.0,
        elites=1,
        init_scale=1.0,
    )
    expected = (math.log(m) + math.log(math.log(m))) / math.log(k)
    _, fitness = scan(algorithm, KEY, jnp.zeros(1), 40)
    taken = int(jnp.argmax((fitness == fitness.min()).all(axis=1)))
    assert 0.5 * expected < taken < 2.5 * expected


def test_one_plus_one_strategy_makes_progress_at_the_optimal_rate():
    """A chain at T = 0 is the (1+1)-ES: on the sphere, at its optimal step, the distance R falls by
    0.203 R / n a step, and 0.27 of the steps succeed (Rechenberg, 1973; n = 100)."""
    n, chains = 100, 40_000
    start = jax.random.normal(KEY, (n,))
    radius = jnp.linalg.norm(start)
    search = jaxgfo.SimulatedAnnealing(
        temperature=0.0, scale=1.224 * radius / n, init_scale=0.0, pop_size=chains
    )
    state = jaxgfo.init(search, KEY, start)

    def distances(population):
        return jnp.sum(jnp.square(population), axis=1)

    for key in jax.random.split(KEY, 2):
        population, state = jaxgfo.ask(search, key, state)
        state, info = jaxgfo.tell(search, key, state, population, distances(population))
    progress = n * (1 - np.sqrt(np.asarray(state.fitness)) / radius)
    # Five standard errors of 40,000 steps are 0.012 and 0.011.
    assert abs(progress.mean() - 0.203) < 5 * progress.std() / np.sqrt(chains) < 0.012
    assert abs(info.accepted - 0.27) < 0.011
