"""Settings for a box."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgfo

BOX = jaxgfo.Bounds(-5.0, 5.0)
NAMES = "ga de shade pso dual sa gsa cma sepcma snes xnes".split()


@pytest.mark.parametrize("name", NAMES)
def test_the_first_population_is_in_the_box_and_begins_at_the_start(name):
    search = jaxgfo.for_box(name, 4, BOX)
    state = jaxgfo.init(search, jax.random.key(0), jnp.full(4, 2.0))
    population, _ = jaxgfo.ask(search, jax.random.key(1), state)
    rows = np.asarray(population)
    np.testing.assert_array_equal(rows[0], 2.0)
    assert np.all(np.abs(rows) <= 5)
    if name not in ("sa", "gsa", "dual"):  # which have one member, or measure a gradient
        assert rows[1:].std() > 1


def test_members_and_fields_can_be_chosen():
    search = jaxgfo.for_box("pso", 10, BOX, pop_size=20, inertia=0.5)
    assert (search.pop_size, search.inertia, search.social) == (20, 0.5, 1.7)
    assert search.bounds is BOX


def test_lengths_are_shares_of_the_narrowest_width():
    sides = jaxgfo.Bounds({"a": -1.0, "b": 0.0}, {"a": 1.0, "b": jnp.array([1.0, 3.0])})
    assert jaxgfo.for_box("cma", 3, sides).init_scale == pytest.approx(0.1)


def test_what_has_no_settings_is_refused():
    with pytest.raises(ValueError, match=r"no settings for 'lmma'; choose one of ga, de, "):
        jaxgfo.for_box("lmma", 3, BOX)
    with pytest.raises(ValueError, match="finite bounds with lower < upper"):
        jaxgfo.for_box("cma", 3, jaxgfo.Bounds(0.0, jnp.inf))
    with pytest.raises(ValueError, match="finite bounds with lower < upper"):
        jaxgfo.for_box("cma", 3, jaxgfo.Bounds(None, 1.0))
    with pytest.raises(ValueError, match="finite bounds with lower < upper"):
        jaxgfo.for_box("cma", 3, jaxgfo.Bounds(1.0, 1.0))
