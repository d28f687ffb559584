"""All members of a population at once are those that are made one by one."""

import jax
import jax.numpy as jnp
import pytest
from problems import assert_close

from jaxgfo.noise import Noise
from jaxgfo.population import LowRank, Seeded, kinds, member, members

CENTER = {
    "layers.0-2.kernel": jnp.ones((2, 5, 4)),
    "bias": jnp.arange(3, dtype=jnp.bfloat16),
    "scalar": jnp.ones(()),
}
KEY = jax.random.key(0)
POPULATIONS = {
    "normal": Seeded(CENTER, KEY, 0.5, 6, Noise("normal")),
    "odd": Seeded(CENTER, KEY, 0.5, 7, Noise("normal")),
    "one": Seeded(CENTER, KEY, 0.5, 1, Noise("normal"), lead=1.0),
    "signs": Seeded(CENTER, KEY, 0.5, 6, Noise("signs")),
    "table": Seeded(CENTER, KEY, 0.5, 6, Noise("table")),
    "rbg": Seeded(CENTER, KEY, 0.5, 6, Noise("normal", "rbg")),
    "no pairs": Seeded(CENTER, KEY, 0.5, 5, Noise("normal"), antithetic=False, lead=1.0),
    "int8": Seeded({"kernel": jnp.full((4, 3), 126, jnp.int8)}, KEY, 3.0, 6, Noise("normal")),
    "low rank": LowRank(CENTER, KEY, 0.5, 6, 2),
    "low rank, odd, no pairs": LowRank(CENTER, KEY, 0.5, 7, 1, antithetic=False),
}


def assert_those_made_alone(population):
    rows = jax.jit(members)(population)
    for index in range(population.pop_size):
        assert_close(member(rows, index), member(population, index), rtol=1e-6, atol=1e-6)
    assert {x.shape[0] for x in jax.tree.leaves(rows)} == {population.pop_size}


@pytest.mark.parametrize("kind", POPULATIONS)
def test_all_members_are_those_made_alone(kind):
    assert_those_made_alone(POPULATIONS[kind])


@pytest.mark.parametrize("together", [1, 100], ids="one two".split())
def test_and_so_they_are_a_few_pairs_at_a_time(together, monkeypatch):
    monkeypatch.setattr(kinds, "DRAWN", together)
    assert_those_made_alone(POPULATIONS["odd"])


def test_a_dense_population_is_its_members():
    rows = {"a": jnp.arange(6.0).reshape(3, 2)}
    assert members(rows) is rows
