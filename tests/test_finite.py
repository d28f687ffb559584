"""Long after it converged, a search in single precision is still a search: all is finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import build, dense, numbers

import jaxgfo
from jaxgfo import tree

NAMES = ["snes", "xnes", "pgpe", "lmma"]
SIZE, GENERATIONS, SETTLED = 10, 4000, 1000
KEY = jax.random.key(4)
OF_ASK = {"step", "noise", "keys"}  # what a state knows of its last population
WEIGHTS = jnp.logspace(0, 6, SIZE)


def functions(x):
    """Sphere, ellipsoid of condition 1e6, Rosenbrock, a constant: (4, pop), minima of 0."""
    away = jnp.square(x - 0.25)
    valley = 100 * jnp.square(x[:, 1:] - jnp.square(x[:, :-1])) + jnp.square(1 - x[:, :-1])
    return jnp.stack([away.sum(1), away @ WEIGHTS, valley.sum(1), jnp.ones(x.shape[0])])


@jax.jit
def follow(algorithm, which):
    """Best fitness and `learnt` (generations,), whether all was finite, first and last state."""

    def step(carry, key):
        state, finite = carry
        ask_key, tell_key = jax.random.split(key)
        population, state = jaxgfo.ask(algorithm, ask_key, state)
        rows = dense(population)
        fitness = functions(rows)[which]
        state, info = jaxgfo.tell(algorithm, tell_key, state, population, fitness)
        finite &= jnp.all(jnp.stack([jnp.isfinite(x).all() for x in (rows, *info)]))
        # What has no fitness yet has +inf there.
        leaves = [x for x in jax.tree.leaves(state) if tree.is_float(x)]
        finite &= ~jnp.any(jnp.stack([jnp.isnan(x).any() for x in leaves]))
        return (state, finite), (fitness.min(), getattr(info, "learnt", 1.0))

    first = jaxgfo.init(algorithm, KEY, jnp.zeros(SIZE))
    carry = (first, jnp.array(True))
    (last, finite), (best, learnt) = jax.lax.scan(step, carry, jax.random.split(KEY, GENERATIONS))
    return best, learnt, finite, first, last


@pytest.mark.parametrize("name", NAMES)
def test_all_is_finite_long_after_convergence(name):
    algorithm = jaxgfo.REGISTRY[name](pop_size=16, init_scale=0.3)
    run = jax.vmap(follow, in_axes=(None, 0))
    best, learnt, finite, first, last = run(algorithm, jnp.arange(4))
    assert finite.all()
    sphere, constant = 0, 3
    assert best[sphere, :SETTLED].min() < 1e-6 * best[sphere, 0]
    assert not learnt[constant].any()
    kept = last._replace(**{f: getattr(first, f) for f in OF_ASK & set(first._fields)})
    for before, after in zip(numbers(first), numbers(kept)):
        np.testing.assert_array_equal(before[constant], after[constant])


@pytest.mark.parametrize("name", ["cma", "sepcma", "openes", "lowrank-es", "spsa", "shade", "pso"])
def test_all_is_finite_in_other_searches(name):
    best, _, finite, _, _ = jax.vmap(follow, in_axes=(None, 0))(
        build(name, pop_size=16), jnp.arange(4)
    )
    assert finite.all()
    assert (best[:3].min(axis=1) < best[:3, 0]).all()
