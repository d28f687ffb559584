"""The benchmark's problems of bits: against loops in plain Python, and against all candidates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import bit_peers, bits, discrete

SIZES = {"trap": 10, "cut, grid": 12}


def loop(name, data, x):
    """The fitness of one candidate, bit by bit."""
    size = len(x)
    if "cut" in name:
        return -sum(w for (u, v), w in zip(data["edges"], data["weight"]) if x[u] != x[v])
    if name == "knapsack":
        weight = sum(w for w, taken in zip(data["weight"], x) if taken)
        value = sum(v for v, taken in zip(data["value"], x) if taken)
        over = weight - data["capacity"]
        return -value + (data["rate"] * over + max(data["value"]) if over > 0 else 0)
    if name == "nk":
        k = int(np.log2(data["table"].shape[1])) - 1
        windows = [sum(x[(i + j) % size] * 2**j for j in range(k + 1)) for i in range(size)]
        return sum(data["table"][i][window] for i, window in enumerate(windows))
    right = [int(a == b) for a, b in zip(x, data["best"])]
    if name == "leading ones":
        return size - len(list(itertools.takewhile(bool, right)))
    if name == "trap":
        ones = [sum(right[i : i + 5]) for i in range(0, size, 5)]
        return sum(0 if u == 5 else 5 - (4 - u) for u in ones)
    return size - sum(right)


@pytest.mark.parametrize("name", bits.PROBLEMS)
@pytest.mark.parametrize("number", [0, 1])
def test_fitness_and_optimum(name, number):
    size = SIZES.get(name, 9)
    problem, made = bits.PROBLEMS[name], bits.instance(name, size, number)
    every = np.array(list(itertools.product([0, 1], repeat=size)), np.int32)
    fitness = problem.fitness(np, made.data, every)
    assert fitness.min() == made.optimum
    some = np.random.default_rng(0).integers(0, len(every), 40)
    np.testing.assert_array_equal(fitness[some], [loop(name, made.data, x) for x in every[some]])
    jitted = jax.jit(lambda data, x: problem.fitness(jnp, data, x))(made.data, every)
    np.testing.assert_array_equal(jitted, fitness)


@pytest.mark.parametrize("problem", discrete.SIZES)
def test_instances_lie_side_by_side_and_each_is_counted(problem):
    size, numbers = discrete.SIZES[problem][0], [0, 1]
    made = [bits.instance(problem, size, number) for number in numbers]
    ends, best = discrete.ours(discrete.OURS["random"], problem, made, numbers, size, budget=40)
    assert ends.shape == best.shape == (2,)
    optima = np.array([one.optimum for one in made])
    assert np.all(best >= optima)
    assert np.array_equal(np.isfinite(ends), best == optima)


def test_instances_differ_and_come_again():
    first, again, other = (bits.instance("nk", 12, number) for number in (0, 0, 1))
    np.testing.assert_array_equal(first.data["table"], again.data["table"])
    assert (first.data["table"] != other.data["table"]).any()


def test_a_recorder_counts_to_the_optimum_and_to_the_budget():
    ones = bit_peers.Recorder(lambda x: x.sum(axis=1), optimum=0, budget=5)
    np.testing.assert_array_equal(ones([[1, 1], [0, 1]]), [2, 1])
    with pytest.raises(bit_peers.Over):
        ones([[1, 0], [0, 0], [1, 1]])
    assert (ones.reached, ones.best) == (4, 0)
    few = bit_peers.Recorder(lambda x: x.sum(axis=1), optimum=0, budget=1)
    with pytest.raises(bit_peers.Over):
        few([[1, 1], [0, 0]])
    assert (few.reached, few.best, few.spent) == (None, 2, 1)
