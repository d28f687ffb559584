"""Selection, crossover, mutation and annealing against the laws of their field.

Statistical tests fix their seed and state their bound. Chi-square statistics are held below their
99.9 % quantile.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxgfo import Bounds, tree
from jaxgfo.operators import annealing, crossover, differential, mutation, selection

KEY = jax.random.key(11)
INF = math.inf


def assert_law(counts, chances):
    """Counts drawn with these chances: chi-square below its 99.9 % quantile; impossible is 0."""
    counts, chances = np.asarray(counts, float), np.asarray(chances, float)
    possible = chances > 0
    assert counts[~possible].sum() == 0
    expected = counts.sum() * chances[possible] / chances.sum()
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    assert statistic <= stats.chi2.ppf(0.999, max(possible.sum() - 1, 1))


def assert_share(hits, chance):
    """A share of independent hits, within five standard errors."""
    hits = np.asarray(hits, float)
    assert abs(hits.mean() - chance) <= 5 * math.sqrt(chance * (1 - chance) / hits.size) + 1e-9


# ------------------------------------------------------------------------------------- selection


@pytest.mark.parametrize(
    ("fitness", "weights"),
    [
        ([1.0, 2.0, 3.0, 5.0], [4, 3, 2, 0]),
        ([-1.0, -2.0, -3.0, -5.0], [0, 1, 2, 4]),
        ([1e6, 1e6 + 1, 1e6 + 3, 1e6 + 3], [3, 2, 0, 0]),
        ([2.0, 2.0, 2.0, 2.0], [1, 1, 1, 1]),
        ([INF, 1.0, 2.0, 4.0], [0, 3, 2, 0]),
        ([INF, 3.0, INF, INF], [0, 1, 0, 0]),
        ([INF, 3.0, 3.0, INF], [0, 1, 1, 0]),
        ([INF, INF, INF, INF], [1, 1, 1, 1]),
        ([-INF, 3.0, -INF, INF], [1, 0, 1, 0]),
        ([-3e38, 0.0, 3e38, INF], [2, 1, 0, 0]),
        ([0.0, 1e-36, 2e-36, 3e-36], [3, 2, 1, 0]),
    ],
)
def test_roulette_draws_in_proportion_to_windowed_fitness(fitness, weights):
    fitness = jnp.array(fitness)
    got = np.asarray(selection.roulette_weights(fitness))
    np.testing.assert_allclose(got / got.sum(), np.array(weights) / sum(weights), rtol=1e-5)
    drawn = selection.roulette(KEY, fitness, 20_000)
    assert_law(np.bincount(drawn, minlength=4), weights)


@pytest.mark.parametrize(("size", "intensity"), [(1, 0.0), (2, 0.564), (3, 0.846), (5, 1.163)])
def test_tournament_selection_intensity(size, intensity):
    """Blickle & Thiele: the mean rise of a standard normal population, in its deviations."""
    key, draw = jax.random.split(KEY)
    fitness = jax.random.normal(key, (200_000,))
    fitness = (fitness - fitness.mean()) / fitness.std()
    winners = fitness[selection.tournament(draw, fitness, 200_000, size)]
    # The standard error is at most 1/sqrt(200000) = 0.0022; five of them, plus the rounding.
    assert -winners.mean() == pytest.approx(intensity, abs=0.0115)


def test_tournament_prefers_what_did_not_fail():
    fitness = jnp.array([INF, 1.0, -INF, INF])
    drawn = np.bincount(selection.tournament(KEY, fitness, 20_000, 2), minlength=4)
    # With replacement: the best of four wins unless missed twice, and so on down the ranks.
    assert_law([drawn[2], drawn[1], drawn[0] + drawn[3]], [7, 5, 4])


@pytest.mark.parametrize(("share", "kept"), [(1.0, 5), (0.4, 2), (0.01, 1)])
def test_truncation_draws_evenly_from_the_best(share, kept):
    fitness = jnp.array([4.0, -INF, 3.0, INF, 5.0])
    chances = np.zeros(5)
    chances[[1, 2, 0, 4, 3][:kept]] = 1
    drawn = selection.truncation(KEY, fitness, 10_000, share)
    assert_law(np.bincount(drawn, minlength=5), chances)


def test_distinct_indices_differ_and_are_uniform():
    runs, pop = 4000, 6
    draw = jax.vmap(lambda k: jnp.stack(selection.distinct(k, pop, [pop, pop, pop + 2])))
    drawn = np.asarray(draw(jax.random.split(KEY, runs)))  # (runs, 3, pop)
    own = np.broadcast_to(np.arange(pop), (runs, 1, pop))
    four = np.sort(np.concatenate([own, drawn], axis=1), axis=1)
    assert (np.diff(four, axis=1) > 0).all()
    for i in range(pop):
        triples = drawn[:, :, i]
        # Every ordered choice of two others is equally likely, and so is every third.
        pairs = np.bincount(triples[:, 0] * pop + triples[:, 1], minlength=pop * pop)
        allowed = [a != b and i not in (a, b) for a in range(pop) for b in range(pop)]
        assert_law(pairs, allowed)
        thirds = np.bincount(triples[:, 2], minlength=pop + 2)
        # 3/5 of the time a given other of the first six is still free; then one of five.
        assert_law(thirds, [0 if j == i else 0.6 / 5 if j < pop else 1 / 5 for j in range(pop + 2)])


def test_among_best_is_uniform_over_the_best():
    fitness = jnp.array([3.0, INF, 1.0, -1.0, 2.0, 9.0])
    drawn = jax.vmap(lambda k: differential.among_best(k, fitness, 3.0))(
        jax.random.split(KEY, 2000)
    )
    assert_law(np.bincount(np.ravel(drawn), minlength=6), [0, 0, 1, 1, 1, 0])


# ------------------------------------------------------------------------------------- crossover

POP = 20_000
PARENTS = {"a": jnp.zeros((POP, 2, 2)), "b": jnp.zeros((POP,)), "c": jnp.zeros((POP, 3))}
LENGTH = 8  # the three leaves as one string


def strings(masks):
    return np.concatenate([np.asarray(m).reshape(POP, -1) for m in jax.tree.leaves(masks)], axis=1)


def test_single_point_separates_loci_in_proportion_to_their_distance():
    masks = strings(crossover.single_point(KEY, PARENTS))
    for i in range(LENGTH):
        for j in range(i):
            assert_share(masks[:, i] != masks[:, j], (i - j) / (LENGTH - 1))
    assert (np.diff(masks.astype(int), axis=1) != 0).sum(axis=1).tolist() == [1] * POP


def test_two_point_swaps_one_inner_segment():
    masks = strings(crossover.two_point(KEY, PARENTS)).astype(int)
    assert not masks[:, 0].any()
    starts, ends = (np.diff(masks, axis=1) == 1), (np.diff(masks, axis=1) == -1)
    assert (starts.sum(axis=1) == 1).all()
    # The cuts are a uniform pair of the places 1 ... 7; the end 8 is not written as a step down.
    low = starts.argmax(axis=1) + 1
    high = np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, LENGTH)
    pairs = [(a, b) for a in range(1, LENGTH) for b in range(a + 1, LENGTH)]
    assert_law([((low == a) & (high == b)).sum() for a, b in pairs], np.ones(len(pairs)))
    assert (high < LENGTH).all()


def test_uniform_crossover_is_a_fair_independent_coin():
    masks = strings(crossover.uniform(KEY, PARENTS))
    for i in range(LENGTH):
        assert_share(masks[:, i], 0.5)
        for j in range(i):
            assert_share(masks[:, i] == masks[:, j], 0.5)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_binomial_crossover_takes_one_coordinate_for_certain(rate):
    masks = strings(crossover.binomial(KEY, PARENTS, rate))
    assert masks.any(axis=1).all()
    # 1 + Binomial(n - 1, CR) coordinates, at any place alike.
    counts = np.bincount(masks.sum(axis=1), minlength=LENGTH + 1)
    assert_law(counts[1:], stats.binom.pmf(np.arange(LENGTH), LENGTH - 1, rate))
    for i in range(LENGTH):
        assert_share(masks[:, i], rate + (1 - rate) / LENGTH)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9, 1.0])
def test_exponential_crossover_takes_a_run_of_geometric_length(rate):
    masks = strings(crossover.exponential(KEY, PARENTS, rate))
    lengths = masks.sum(axis=1)
    law = [rate ** (v - 1) - rate**v for v in range(1, LENGTH)] + [rate ** (LENGTH - 1)]
    assert_law(np.bincount(lengths, minlength=LENGTH + 1)[1:], law)
    starts = masks & ~np.roll(masks, 1, axis=1)  # around the end
    assert (starts.sum(axis=1) == (lengths < LENGTH)).all()
    if rate < 1:
        assert_law(starts.sum(axis=0), np.ones(LENGTH))


def test_one_rate_for_each_member():
    rates = jnp.where(jnp.arange(POP) < POP // 2, 0.0, 1.0)
    for cross in (crossover.binomial, crossover.exponential):
        lengths = strings(cross(KEY, PARENTS, rates)).sum(axis=1)
        assert (lengths[: POP // 2] == 1).all()
        assert (lengths[POP // 2 :] == LENGTH).all()


@pytest.mark.parametrize("length", [1, 2])
def test_crossover_of_the_shortest_strings(length):
    parents = jnp.zeros((50, length))
    for cross in (crossover.single_point, crossover.two_point):
        masks = np.asarray(cross(KEY, parents))
        np.testing.assert_array_equal(masks, np.tile(np.arange(length) > 0, (50, 1)))


# -------------------------------------------------------------------------------------- mutation


def test_gaussian_mutation_hits_at_its_rate_with_its_scale():
    moved = mutation.mutate(KEY, {"x": jnp.ones((100, 200))}, "gaussian", 0.3, 0.5, None)["x"] - 1
    hit = moved != 0
    assert_share(hit, 0.3)
    # About 6000 steps of N(0, 0.5): Kolmogorov-Smirnov at the 0.1 % level.
    assert stats.kstest(np.asarray(moved)[np.asarray(hit)], stats.norm(0, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_bit_flip_negates_at_its_rate(rate):
    for kind in ("bit_flip", "auto"):
        bits = jnp.tile(jnp.array([True, False]), (100, 100))
        assert_share(mutation.mutate(KEY, bits, kind, rate, 0.0, None) != bits, rate)


@pytest.mark.parametrize(
    ("dtype", "low", "bits"), [(jnp.int32, 0, 3), (jnp.int32, -4, 3), (jnp.uint8, 0, 8)]
)
def test_bit_flip_of_integers_changes_one_bit_above_the_lower_bound(dtype, low, bits):
    box = Bounds(low, low + 2**bits - 1)
    x = jnp.full((200, 100), low + 5, dtype)
    flipped = np.asarray(mutation.mutate(KEY, x, "bit_flip", 1.0, 0.0, box)).astype(int)
    changed = (flipped - low) ^ 5
    assert_law(np.bincount(changed.ravel(), minlength=2**bits)[1 << np.arange(bits)], [1] * bits)
    assert set(np.unique(changed)) == {1 << b for b in range(bits)}


def test_bit_flip_of_integers_stays_inside_awkward_bounds():
    box, x = Bounds(-100, 100), jnp.tile(jnp.arange(-100, 101, dtype=jnp.int8), (50, 1))
    flipped = np.asarray(mutation.mutate(KEY, x, "bit_flip", 1.0, 0.0, box)).astype(int)
    offset = np.arange(201)
    allowed = [{min(v ^ (1 << b), 200) - 100 for b in range(8)} for v in offset]
    assert all(set(flipped[:, v]) <= allowed[v] for v in offset)
    assert np.abs(flipped).max() <= 100


def test_uniform_reset_draws_afresh_from_the_bounds():
    x = {"r": jnp.zeros((100, 100)), "n": jnp.zeros((100, 100), jnp.int32)}
    new = mutation.mutate(KEY, x, "uniform_reset", 0.5, 0.0, Bounds(-2, 3))
    hit = np.asarray(new["r"] != 0)
    assert_share(hit, 0.5)
    drawn = np.asarray(new["r"])[hit]
    assert stats.kstest(drawn, stats.uniform(-2, 5).cdf).pvalue > 1e-3
    # A hit draws 0 again one time in six.
    assert_law(
        np.bincount(np.ravel(new["n"]) + 2), [1 / 12, 1 / 12, 7 / 12, 1 / 12, 1 / 12, 1 / 12]
    )


def test_mutation_refuses_leaves_that_do_not_fit():
    with pytest.raises(ValueError, match=r"gaussian mutation moves real numbers; .* dtype bool"):
        mutation.mutate(KEY, {"m": jnp.zeros((2, 2), bool)}, "gaussian", 1.0, 1.0, None)
    with pytest.raises(ValueError, match="bit_flip mutation needs bits or integers; the array"):
        mutation.mutate(KEY, jnp.zeros((2, 2)), "bit_flip", 1.0, 1.0, None)
    with pytest.raises(ValueError, match=r"needs bounds.*pass bounds=Bounds\(0, 2\*\*bits - 1\)"):
        mutation.mutate(KEY, jnp.zeros((2, 2), jnp.int32), "bit_flip", 1.0, 1.0, None)
    with pytest.raises(ValueError, match="integers of dtype int32 need bounds"):
        mutation.neighbour(KEY, jnp.zeros((2, 2), jnp.int32), 1.0, None)


def test_neighbour_changes_one_discrete_coordinate_symmetrically():
    pop = 40_000
    x = {"bit": jnp.zeros((pop, 2), bool), "n": jnp.full((pop, 2), 2, jnp.int32)}
    box = Bounds({"bit": None, "n": -1}, {"bit": None, "n": 3})
    new = mutation.neighbour(KEY, x, 1.0, box)
    changed = np.concatenate([new["bit"] != x["bit"], new["n"] != x["n"]], axis=1)
    assert (changed.sum(axis=1) == 1).all()
    assert_law(changed.sum(axis=0), [1] * 4)
    values = np.asarray(new["n"])[np.asarray(new["n"] != x["n"])]
    assert_law(np.bincount(values + 1, minlength=5), [1, 1, 1, 0, 1])
    # The whole table of steps of one integer: from each value every other equally often.
    n = jnp.repeat(jnp.arange(5, dtype=jnp.uint8), 4000)[:, None]
    steps = np.asarray(mutation.neighbour(KEY, n, 1.0, Bounds(0, 4)))[:, 0].reshape(5, 4000)
    for value in range(5):
        assert_law(np.bincount(steps[value], minlength=5), np.arange(5) != value)


def test_neighbour_of_real_leaves_is_gaussian_and_moves_all():
    x = {"r": jnp.full((100, 100), 3.0), "bit": jnp.zeros((100, 4), bool)}
    new = mutation.neighbour(KEY, x, 0.25, None)
    assert stats.kstest(np.ravel(new["r"] - x["r"]), stats.norm(0, 0.25).cdf).pvalue > 1e-3
    assert (new["bit"].sum(axis=1) == 1).all()


def test_differential_sums_pairs_with_one_weight_or_one_each():
    base, a, b = ({"x": jnp.full((3, 2), v, jnp.bfloat16)} for v in (1, 5, 2))
    one = differential.differential(base, 0.5, (a, b), (b, base))["x"]
    np.testing.assert_array_equal(one.astype(jnp.float32), np.full((3, 2), 3))
    each = differential.differential(base, jnp.arange(3.0), (a, b))["x"]
    np.testing.assert_array_equal(each.astype(jnp.float32), [[1, 1], [4, 4], [7, 7]])
    assert tree.row_size(base) == 2


# ------------------------------------------------------------------------------------- annealing


@pytest.mark.parametrize("k", [0, 1, 7, 40])
def test_cooling_schedules_in_closed_form(k):
    start, step = jnp.float32(3.0), jnp.float32(k)
    assert annealing.geometric(start, step, 0.9) == pytest.approx(3 * 0.9**k, rel=1e-5)
    assert annealing.linear(start, step, 20.0) == pytest.approx(3 * max(0, 1 - k / 20), abs=1e-6)
    expected = 3 * math.log(2) / math.log(k + 2)
    assert annealing.logarithmic(start, step) == pytest.approx(expected, rel=1e-5)


def test_a_temperature_lasts_its_steps():
    # Generation 0 compares nothing: temperatures are counted from generation 1.
    levels = [int(annealing.level(jnp.int32(s), 3.0)) for s in range(9)]
    assert levels == [0, 0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(("rise", "temperature"), [(0.5, 1.0), (2.0, 1.0), (1.0, 10.0), (1e-3, 1)])
def test_metropolis_accepts_a_rise_with_its_boltzmann_factor(rise, temperature):
    current = jnp.full((50_000,), 7.0)
    accepted = annealing.metropolis(KEY, current, current + rise, temperature)
    assert_share(accepted, math.exp(-float((current + rise - current)[0]) / temperature))


def test_metropolis_at_the_edges():
    current = jnp.array([1.0, 1.0, 1.0, 1.0, INF, INF, -INF, -INF, INF])
    proposed = jnp.array([0.5, 1.0, 1.5, INF, 3.0, INF, 1.0, -INF, -INF])
    cold = annealing.metropolis(KEY, current, proposed, 0.0)
    assert cold.tolist() == [True, True, False, False, True, False, False, True, True]
    hot = annealing.metropolis(KEY, current, proposed, INF)
    assert hot.tolist() == [True, True, True, False, True, False, False, True, True]


@pytest.mark.parametrize("acceptance", [0.01, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_calibration_solves_its_equation(acceptance, scale):
    current = jnp.array([0.0, 1.0, 2.0, -1.0, 5.0, INF, 0.0]) * scale
    proposed = jnp.array([1.0, 3.0, 2.5, 3.0, 4.0, 1.0, INF]) * scale
    rises = np.array([1.0, 2.0, 0.5, 4.0])  # falls and failures do not count
    got = float(annealing.calibrate(current, proposed, acceptance)) / scale
    want = optimize.brentq(lambda t: np.exp(-rises / t).mean() - acceptance, 1e-2, 1e4)
    assert got == pytest.approx(want, rel=1e-3)


def test_calibration_without_a_rise_is_zero():
    for proposed in ([-1.0, 0.0], [INF, INF], [INF, 0.0], [-INF, -1.0]):
        assert annealing.calibrate(jnp.zeros(2), jnp.array(proposed), 0.5) == 0
    known = annealing.start_temperature(None, jnp.float32(3), jnp.zeros(2), jnp.ones(2), 0.5)
    assert known == 3
    given = annealing.start_temperature(2.0, jnp.float32(3), jnp.zeros(2), jnp.ones(2), 0.5)
    assert given == 2
