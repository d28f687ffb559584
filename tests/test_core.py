"""The decorator, the front doors and tree arithmetic."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_equal

import jaxgfo
from jaxgfo import core, population, tree

KEY = jax.random.key(0)


class CountState(NamedTuple):
    start: jax.Array
    step: jax.Array


@jaxgfo.algorithm
class Still:
    """Asks for the start shifted by `step * shift`; its state begins weakly typed."""

    shift: core.Scalar = jaxgfo.within(1.0, 0, 5)
    kind: Literal["plain", "fancy"] = jaxgfo.static("plain")
    pop_size: int = jaxgfo.static(3)

    def init(self, key, start):
        return CountState(start, jnp.asarray(0.0))

    def ask(self, key, state):
        return population.repeat(state.start + self.shift * state.step, self.pop_size), state

    def tell(self, key, state, population, fitness):
        return state._replace(step=state.step + 1), jnp.min(fitness)


def test_an_algorithm_is_a_frozen_keyword_only_pytree_of_its_numbers():
    algorithm = Still(shift=2.0)
    leaves, structure = jax.tree.flatten(algorithm)
    assert leaves == [2.0]
    assert structure == jax.tree.structure(Still(shift=3.0))
    assert structure != jax.tree.structure(Still(pop_size=4))
    assert core.choices(Still) == {"kind": ("plain", "fancy")}
    assert isinstance(algorithm, jaxgfo.Algorithm)
    with pytest.raises(dataclasses.FrozenInstanceError):
        algorithm.shift = 1.0
    with pytest.raises(TypeError):
        Still(2.0)


@pytest.mark.parametrize("number", [int, np.float64, np.int32, np.asarray, jnp.asarray])
def test_a_whole_number_is_a_hyperparameter_like_any_other(number):
    algorithm = Still(shift=number(2))
    state = jaxgfo.init(algorithm, KEY, jnp.zeros(2))._replace(step=jnp.float32(3))
    asked, _ = jaxgfo.ask(algorithm, KEY, state)
    assert asked.dtype == jnp.float32
    np.testing.assert_array_equal(asked, np.full((3, 2), 6))


def test_hyperparameters_never_go_stale():
    state = jaxgfo.init(Still(), KEY, jnp.zeros(1))._replace(step=jnp.float32(1))
    for shift in (1.0, 2.0, 3.0):
        assert jaxgfo.ask(Still(shift=shift), KEY, state)[0][0, 0] == shift


def test_integer_hyperparameters_sweep():
    state = jaxgfo.init(Still(), KEY, jnp.zeros(1))._replace(step=jnp.float32(1))
    swept = jax.vmap(lambda s: jaxgfo.ask(Still(shift=s), KEY, state)[0])(jnp.arange(3))
    np.testing.assert_array_equal(swept[:, 0, 0], [0, 1, 2])


def test_state_is_strongly_typed():
    state = jaxgfo.init(Still(), KEY, 1.0)  # a bare number is a candidate too
    assert not any(jax.typeof(x).weak_type for x in jax.tree.leaves(state))
    _, asked = jaxgfo.ask(Still(), KEY, state)
    assert not any(jax.typeof(x).weak_type for x in jax.tree.leaves(asked))


@pytest.mark.parametrize("key", [jax.random.key(3), jax.random.PRNGKey(3)])
def test_takes_both_kinds_of_key(key):
    first = jaxgfo.init(jaxgfo.RandomSearch(), key, jnp.zeros(2))
    assert jnp.std(jaxgfo.ask(jaxgfo.RandomSearch(), key, first)[0]) > 0


def test_nan_counts_as_infinite_and_whole_fitness_as_real():
    state = jaxgfo.init(Still(), KEY, jnp.zeros(1))
    asked, state = jaxgfo.ask(Still(), KEY, state)
    told = np.array([np.nan, np.nan, np.nan])
    state, best = jaxgfo.tell(Still(), KEY, state, asked, told)
    assert best == jnp.inf
    state, best = jaxgfo.tell(Still(), KEY, state, asked, jnp.array([3, 1, 2]))
    assert best == 1.0
    _, best = jaxgfo.tell(Still(), KEY, state, asked, [2.0, np.nan, 5.0])
    assert best == 2.0


def test_initial_population_draws_what_each_leaf_can_hold():
    start = {"x": jnp.full(3, 9.0), "bit": jnp.ones(3, bool), "n": jnp.full(3, 2, jnp.int32)}
    box = jaxgfo.Bounds({"x": -1.0, "bit": None, "n": 0}, {"x": 1.0, "bit": None, "n": 3})
    got = population.initial(KEY, start, 400, 0.5, box)
    # Row 0 is the start, though it lies outside the box.
    assert_equal(population.member(got, 0), start)
    assert jnp.abs(got["x"][1:]).max() <= 1.0
    # 1197 fair coins and dice of four: six standard errors of 0.0145 and 0.0125.
    assert abs(got["bit"][1:].mean() - 0.5) < 0.09
    shares = np.bincount(np.asarray(got["n"][1:]).ravel(), minlength=4) / 1197
    assert np.abs(shares - 0.25).max() < 0.08
    free = population.initial(KEY, {"x": jnp.full(300, 9.0)}, 10, 0.5, None)["x"][1:]
    # 2700 draws of N(9, 0.5): five standard errors of 0.0096 (mean) and 0.0068 (deviation).
    assert abs(free.mean() - 9) < 0.05
    assert abs(free.std() - 0.5) < 0.035


def test_coordinates_number_the_leaves_as_one_string():
    like = {"a": jnp.zeros((4, 2, 2)), "b": jnp.zeros((4,)), "c": jnp.zeros((4, 3))}
    numbered = tree.coordinates(like)
    assert np.concatenate([np.ravel(x) for x in jax.tree.leaves(numbered)]).tolist() == list(
        range(8)
    )
    assert tree.row_size(like) == 8
    assert tree.size(population.member(like, 0)) == 8


class Twice(Still):
    """Its state holds one array in two places."""

    def ask(self, key, state):
        asked, _ = super().ask(key, state)
        return asked, CountState(state.start, state.start)

    def tell(self, key, state, population, fitness):
        return CountState(state.start - 1, state.step), jnp.min(fitness)


def test_a_state_may_hold_an_array_twice():
    search = jaxgfo.algorithm(Twice)()
    state = CountState(jnp.ones(2), jnp.zeros(2))
    for _ in range(2):
        population, state = jaxgfo.ask(search, KEY, state)
        state, _ = jaxgfo.tell(search, KEY, state, population, jnp.ones(3))
    assert_equal(state, CountState(jnp.full(2, -1.0), jnp.zeros(2)))
    assert not population.is_deleted()


def test_arithmetic_is_done_wide_and_kept_narrow():
    x = jnp.full((2,), 1, jnp.bfloat16)
    # 1 + 1/512 - 1 is 0 in bf16, 1/512 in fp32.
    lifted = tree.lift(lambda a, b: (a + b / 512) - 1, x, x)
    assert lifted.dtype == jnp.bfloat16
    np.testing.assert_array_equal(lifted.astype(jnp.float32), np.full(2, 1 / 512))
    assert tree.wide(jnp.zeros(1, jnp.int8)).dtype == jnp.int8


def test_where_and_take_work_member_by_member():
    a, b = {"x": jnp.zeros((3, 2)), "s": jnp.zeros(3)}, {"x": jnp.ones((3, 2)), "s": jnp.ones(3)}
    got = tree.where(jnp.array([True, False, True]), a, b)
    np.testing.assert_array_equal(got["x"][:, 0], [0, 1, 0])
    np.testing.assert_array_equal(got["s"], [0, 1, 0])
    np.testing.assert_array_equal(tree.take(got, jnp.array([1, 1]))["s"], [1, 1])
    assert_equal(tree.where(jnp.array(True), a, b), a)
    assert tree.concatenate(a, b)["x"].shape == (6, 2)


def test_algorithms_with_equal_fields_are_not_equal_structures():
    """Where they were, jit could run one for the other."""
    first, second = jaxgfo.RandomSearch(pop_size=8), jaxgfo.SepCMAES(pop_size=8)
    assert vars(first).keys() == vars(second).keys()
    assert jax.tree.structure(first) != jax.tree.structure(second)
    structures = [jax.tree.structure(cls(pop_size=8)) for cls in jaxgfo.REGISTRY.values()]
    assert not any(a == b for i, a in enumerate(structures) for b in structures[:i])
