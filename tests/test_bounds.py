"""Bounds against plain NumPy: clip, reflect and wrap on every kind of leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import unchecked

from jaxgfo import Bounds, bounds

MODES = ("clip", "reflect", "wrap")
each_mode = pytest.mark.parametrize("mode", MODES)


def walk(x, low, high, mode, integer=False):
    """One number brought inside, one wall at a time."""
    if low <= x <= high:
        return x
    one_side = np.isinf(low) or np.isinf(high)
    if mode == "clip" or low == high or (mode == "wrap" and one_side):
        return min(max(x, low), high)
    while not low <= x <= high:
        if mode == "reflect":
            x = 2 * low - x if x < low else 2 * high - x
        else:
            period = high - low + integer  # both ends of a range of integers count
            x = x + period if x < low else x - period
    return x


@each_mode
@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 2.0), (0.5, 0.5), (-np.inf, 1.0), (-1.0, np.inf), (-np.inf, np.inf)]
)
def test_real_leaves(mode, low, high):
    x = np.concatenate([np.linspace(-9, 9, 91), [low, high]])
    x = x[np.isfinite(x)].astype(np.float32)
    got = bounds.apply(Bounds(low, high, mode), jnp.asarray(x)[:, None])[:, 0]
    want = [walk(float(v), low, high, mode) for v in x]
    # At a wall that wraps, rounding decides on which side the point comes out: compare modulo.
    gap = np.abs(np.asarray(got) - want)
    if mode == "wrap" and np.isfinite(high - low) and high > low:
        gap = np.minimum(gap, np.abs(gap - (high - low)))
    assert gap.max() < 1e-5
    inside = (x >= low) & (x <= high)
    np.testing.assert_array_equal(np.asarray(got)[inside], x[inside])  # to the last bit
    assert (np.asarray(got) >= low).all()
    assert (np.asarray(got) <= high).all()


@each_mode
@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (jnp.int32, -3, 4),
        (jnp.int32, 2, 2),
        (jnp.int32, -(2**31), 2**31 - 1),
        (jnp.int8, -100, 100),
        (jnp.int8, -128, 127),
        (jnp.uint8, 0, 255),
        (jnp.uint8, 3, 9),
        (jnp.int16, -200, 30_000),
    ],
)
def test_integer_leaves(mode, dtype, low, high):
    info = jnp.iinfo(dtype)
    x = np.unique(np.clip(np.r_[-128:128, low, high, info.min, info.max], info.min, info.max))
    if high - low < 100:
        x = x[np.abs(x) < 300]
    got = bounds.apply(Bounds(low, high, mode), jnp.asarray(x, dtype))
    assert got.dtype == dtype
    want = [walk(int(v), low, high, mode, integer=True) for v in x]
    np.testing.assert_array_equal(got, want)


@each_mode
def test_bf16_never_steps_over_a_wall(mode):
    low, high = jnp.bfloat16(-0.1), jnp.bfloat16(0.3)
    x = jnp.linspace(-2, 2, 501).astype(jnp.bfloat16)
    got = bounds.apply(Bounds(-0.1, 0.3, mode), x)
    assert got.dtype == jnp.bfloat16
    assert got.min() >= low
    assert got.max() <= high
    inside = (x >= low) & (x <= high)
    assert (got[inside] == x[inside]).all()


def test_trees_prefixes_and_unbounded_leaves():
    population = {
        "a": {"x": jnp.full((2, 3), 9.0), "y": jnp.full((2,), -9.0)},
        "b": jnp.full((2, 2), 9.0),
        "bit": jnp.ones((2, 4), bool),
    }
    # One number for the branch `a`, an array for `b`, none for the bits.
    box = Bounds(
        {"a": -1, "b": jnp.array([0.0, -5.0]), "bit": None},
        {"a": 1, "b": jnp.array([4.0, 5.0]), "bit": None},
    )
    got = bounds.apply(box, population)
    np.testing.assert_array_equal(got["a"]["x"], np.full((2, 3), 1))
    np.testing.assert_array_equal(got["a"]["y"], [-1, -1])
    np.testing.assert_array_equal(got["b"], [[4, 5], [4, 5]])
    assert got["bit"].all()
    free = bounds.apply(Bounds({**box.lower, "b": None}, {**box.upper, "b": None}), population)
    np.testing.assert_array_equal(free["b"], population["b"])
    assert bounds.apply(None, population) is population
    assert bounds.apply(Bounds(0, 1), {"bit": population["bit"]})["bit"].all()


@unchecked()
def test_bounds_are_traced_and_their_mode_is_checked():
    highs = jnp.array([1.0, 2.0])
    got = jax.vmap(lambda h: bounds.apply(Bounds(0.0, h), jnp.full((1,), 9.0)))(highs)
    np.testing.assert_array_equal(got[:, 0], highs)
    with pytest.raises(ValueError, match="mode is 'bounce'; choose clip, reflect or wrap"):
        Bounds(0, 1, "bounce")


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(jnp.int32, -2, 3), (jnp.uint8, 0, 255), (jnp.int8, -128, 127), (jnp.int8, -100, 100)],
)
def test_draws_reach_both_ends_evenly(dtype, low, high):
    num = 200 * (high - low + 1)
    drawn = bounds.draw(jax.random.key(0), jnp.zeros((num,), dtype), low, high)
    counts = np.bincount(np.asarray(drawn, int) - low, minlength=high - low + 1)
    assert drawn.dtype == dtype
    assert counts.size == high - low + 1
    # Binomial counts around 200: six standard deviations of 14.
    assert np.abs(counts - 200).max() < 6 * 200**0.5


def test_draws_on_the_whole_range_of_int32():
    drawn = bounds.draw(jax.random.key(0), jnp.zeros((4000,), jnp.int32), -(2**31), 2**31 - 1)
    # Uniform: the share of negatives is 1/2 with a standard error of 0.008; five of them.
    assert abs((drawn < 0).mean() - 0.5) < 0.04
    assert jnp.abs(drawn.astype(jnp.float32)).mean() == pytest.approx(2**30, rel=0.05)
