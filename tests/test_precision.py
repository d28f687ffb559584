"""Updates smaller than what the parameters' dtype resolves; schedules; any rule of optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import copy, scan

import jaxgfo
from jaxgfo.operators.rounding import round_at_random
from jaxgfo.shaping import SHAPINGS

KEY = jax.random.key(5)
STRATEGIES = [jaxgfo.OpenES, jaxgfo.LowRankES, jaxgfo.SPSA]
every_strategy = pytest.mark.parametrize("cls", STRATEGIES)


def constant(size):
    """A rule that always moves every parameter by as much."""

    def update(slope, state, params=None):
        return jax.tree.map(lambda g: jnp.full_like(g, size), slope), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@pytest.mark.parametrize(
    ("cls", "dtype", "rounding"),
    [
        (jaxgfo.LowRankES, jnp.bfloat16, "none"),
        (jaxgfo.LowRankES, jnp.bfloat16, "stochastic"),
        (jaxgfo.OpenES, jnp.float16, "stochastic"),
        (jaxgfo.SPSA, jnp.float16, "none"),
        (jaxgfo.SPSA, jnp.bfloat16, "stochastic"),
    ],
)
def test_a_thousand_steps_too_small_for_the_dtype(cls, dtype, rounding):
    start = {"w": jnp.full((32, 64), 0.02, dtype)}
    begun, away = float(start["w"][0, 0]), 1000 * 1e-5
    assert (start["w"] + dtype(1e-6) == start["w"]).all()
    search = cls(optimizer=constant(1e-5), rounding=rounding, pop_size=4)

    @jax.jit
    def run(state):
        def step(state, key):
            population, state = search.ask(key, state)
            state, _ = search.tell(key, state, population, jnp.arange(4.0))
            return state, None

        return jax.lax.scan(step, state, jax.random.split(KEY, 1000))[0]

    center = run(search.init(KEY, copy(start))).center["w"]
    assert center.dtype == dtype
    moved = np.asarray(center.astype(jnp.float32)) - begun
    resolution = float(jnp.finfo(dtype).eps) * 2**-6  # of numbers between 1/64 and 1/32
    if rounding == "none":
        assert np.abs(moved - away).max() <= resolution / 2 + 1e-6
    else:  # every step adds at most a quarter of a resolution squared to the variance
        error = np.sqrt(1000 * 1e-5 * resolution / moved.size)
        assert abs(moved.mean() - away) < 5 * error
        assert error < 0.02 * away


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_rounding_at_random(dtype):
    x = jnp.array([1.003, -0.0201, 3e-3, 100.7, 0.5, 0.0], jnp.float32)
    drawn = jax.vmap(lambda key: round_at_random(key, x, dtype))(jax.random.split(KEY, 20_000))
    assert drawn.dtype == dtype
    drawn = np.asarray(drawn.astype(jnp.float32), np.float64)
    for values, exact in zip(drawn.T, np.asarray(x, np.float64)):
        seen = np.unique(values)
        assert len(seen) <= 2
        assert seen[0] <= exact <= seen[-1]
        assert abs(values.mean() - exact) <= 5 * values.std() / np.sqrt(len(values))
    assert (drawn[:, 4:] == [0.5, 0.0]).all()  # what the dtype holds stays


def test_a_copy_in_full_precision_only_where_it_is_needed():
    start = {"half": jnp.ones((2, 3), jnp.bfloat16), "full": jnp.ones(3)}
    kept = jaxgfo.init(jaxgfo.OpenES(), KEY, start).exact
    assert {path: x.dtype for path, x in kept.items()} == {"half": jnp.float32}
    assert not jaxgfo.init(jaxgfo.OpenES(rounding="stochastic"), KEY, start).exact


@pytest.mark.parametrize("spread", [3e-3, 1e-4])
@pytest.mark.parametrize("shaping", SHAPINGS)
def test_shaping_is_relative(shaping, spread):
    # Exact in fp32 near 3, so that only the shaping can differ.
    apart = jnp.round(jax.random.normal(KEY, (16,)) * spread * 2**22) / 2**22
    found = SHAPINGS[shaping](3 + apart)
    np.testing.assert_allclose(found, SHAPINGS[shaping](1e6 * apart), atol=1e-4)


@pytest.mark.parametrize("shaping", SHAPINGS)
@every_strategy
def test_a_generation_that_teaches_nothing_says_so(cls, shaping):
    shaped = {} if cls is jaxgfo.SPSA else {"shaping": shaping}
    search = cls(pop_size=6, optimizer="adamw", **shaped)  # weight decay moves what has no slope
    state = jaxgfo.init(search, KEY, {"w": jnp.ones((4, 3), jnp.bfloat16)})
    for told in (np.arange(6.0), np.full(6, np.inf), np.full(6, 2.5), np.full(6, np.nan)):
        population, state = jaxgfo.ask(search, KEY, state)
        before = copy(state)
        state, info = jaxgfo.tell(search, KEY, state, population, told)
        assert bool(info.learnt) == (told[0] == 0)
        if told[0] != 0:
            jax.tree.map(np.testing.assert_array_equal, state._replace(step=before.step), before)
    assert (state.center["w"] != 1).any()  # there was momentum


@every_strategy
def test_schedules(cls):
    halving = "exponential_decay:1:0.5"
    search = cls(
        optimizer=constant(1e-2),
        scale=0.3,
        scale_schedule=halving,
        learning_rate_schedule=lambda step: 1 / (1 + step),
        pop_size=4,
    )
    state, center = jaxgfo.init(search, KEY, jnp.zeros(3)), 0.0
    for generation in range(3):
        population, state = jaxgfo.ask(search, KEY, state)
        assert population.scale == pytest.approx(0.3 * 0.5**generation)
        state, _ = jaxgfo.tell(search, KEY, state, population, jnp.arange(4.0))
        center += 1e-2 / (1 + generation)
        np.testing.assert_allclose(state.center, center, rtol=1e-5)


@pytest.mark.parametrize(
    "schedule", ["cosin", "cosine_decay_schedule:x", "adam", "linear_schedule"]
)
def test_a_schedule_that_is_none(schedule):
    for name in ("scale_schedule", "learning_rate_schedule"):
        search = jaxgfo.SPSA(**{name: schedule})
        with pytest.raises(ValueError, match=f"schedule is '{schedule}'.*expected 'constant', or"):
            jaxgfo.init(search, KEY, jnp.zeros(3))


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "rmsprop", "adafactor", "sign_sgd"])
def test_any_rule_of_optax(optimizer):
    search = jaxgfo.SPSA(
        optimizer=optimizer,
        learning_rate=0.02,
        learning_rate_schedule="cosine_decay_schedule:200:0.1",
        pop_size=8,
    )
    _, fitness = scan(search, KEY, {"w": jnp.ones((4, 3))}, 200)
    assert fitness[-1].mean() < 0.3 * fitness[0].mean()
