"""Draws beside `jax.random`'s, number for number where they promise it, else against their law."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgfo import draws

KEY = jax.random.fold_in(jax.random.key(7), 3)
MANY = (3, draws.FEW)  # enough that the rounds are written out on a CPU


@pytest.mark.parametrize("shape", [(), (5,), MANY])
@pytest.mark.parametrize("key", [KEY, jax.random.key_data(KEY), jax.random.key(1, impl="rbg")])
def test_numbers_are_those_of_jax_random(key, shape):
    for dtype in (jnp.uint32, jnp.uint16, jnp.uint8):
        np.testing.assert_array_equal(
            draws.bits(key, shape, dtype), jax.random.bits(key, shape, dtype)
        )
    for dtype in (jnp.float32, jnp.bfloat16):
        for name in ("uniform", "normal"):
            drawn = getattr(draws, name)(key, shape, dtype).astype(jnp.float32)
            there = getattr(jax.random, name)(key, shape, dtype).astype(jnp.float32)
            np.testing.assert_allclose(drawn, there, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(draws.coins(key, shape), jax.random.bernoulli(key, 0.5, shape))


@pytest.mark.parametrize("key", [KEY, jax.random.key_data(KEY), jax.random.key(1, impl="rbg")])
def test_keys_are_those_of_jax_random(key):
    def words(key):
        return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key

    for count in (1, 2, 5):
        there = jax.random.split(key, count)
        found = jax.jit(draws.split, static_argnums=1)(key, count)
        assert (found.shape, found.dtype) == (there.shape, there.dtype)
        np.testing.assert_array_equal(words(found), words(there))
    for number in (0, 7, 2**31 - 1, jnp.int32(9), jnp.uint32(2**32 - 1)):
        there, found = jax.random.fold_in(key, number), jax.jit(draws.fold_in)(key, number)
        assert (found.shape, found.dtype) == (there.shape, there.dtype)
        np.testing.assert_array_equal(words(found), words(there))


def test_numbers_are_the_same_when_mapped():
    keys = jax.random.split(KEY, 3)
    mapped = jax.jit(jax.vmap(lambda k: draws.bits(k, MANY)))(keys)
    np.testing.assert_array_equal(mapped, [draws.bits(k, MANY) for k in keys])


def test_draws_are_written_out_on_a_cpu_and_with_other_generators_are_not():
    def loops(key, shape):
        return str(jax.make_jaxpr(lambda k: draws.normal(k, shape))(key)).count("random_bits")

    on_a_cpu = jax.default_backend() == "cpu"
    assert loops(KEY, MANY) == loops(KEY, (8,)) == (0 if on_a_cpu else 1)
    assert loops(jax.random.key(1, impl="rbg"), MANY) == 1
    with jax.threefry_partitionable(False):
        assert loops(KEY, MANY) == 1


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only on a CPU are they written out")
def test_few_numbers_are_not_drawn_again_for_every_coordinate():
    def scaled(key, x):
        return x * draws.uniform(draws.split(key, 3)[1], (8,))[:, None]

    program = jax.jit(scaled).lower(KEY, jnp.ones((8, 500))).compile().as_text()
    # The keys and the numbers are arrays that something else than the product fills.
    for shape in (r"3,2", r"8"):
        assert re.search(rf"= u32\[{shape}\]\S* fusion\(", program)


@pytest.mark.parametrize("count", [1, 3, 2**20, 2**21])
def test_integers_are_uniform(count):
    drawn = np.asarray(draws.integers(KEY, (40_000,), count))
    assert drawn.dtype == np.int32
    assert set(np.clip(drawn, 0, count - 1)) == set(drawn)
    parts = min(count, 32)
    counts = np.bincount(drawn.astype(np.int64) * parts // count, minlength=parts)
    if parts > 1:
        assert stats.chisquare(counts).pvalue > 1e-3


def test_two_uniforms_are_uniform_and_independent():
    both = np.stack([np.asarray(u).ravel() for u in draws.two_uniforms(KEY, MANY)])
    np.testing.assert_array_equal(both, np.clip(both, 0, 1 - 2**-16))
    np.testing.assert_array_equal(both * 2**16, np.floor(both * 2**16))
    cells = np.floor(both * 8).astype(int)
    counts = np.bincount(8 * cells[0] + cells[1], minlength=64)
    assert stats.chisquare(counts).pvalue > 1e-3
