"""What the tests of algorithms share: candidates of every kind, fitness, and a compiled run."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np

import jaxgfo
from jaxgfo import core, tree
from jaxgfo.population import members

dense = jax.jit(members)  # all of a population of any kind
STARTS = {
    "flat": jnp.zeros(6),
    "tree": {"matrix": jnp.zeros((2, 3)), "scalar": jnp.zeros(())},
    "bf16": {"matrix": jnp.zeros((2, 3), jnp.bfloat16)},
    "mixed": {"half": jnp.zeros((2, 2), jnp.bfloat16), "full": jnp.zeros(3)},
    "bits": {"mask": jnp.zeros(10, bool)},
    "ints": {"tokens": jnp.zeros(6, jnp.int32)},
    "genome": {"mask": jnp.zeros(4, bool), "tokens": jnp.zeros(3, jnp.uint8)},
    "int8": {"kernel": jnp.zeros((2, 3), jnp.int8)},
}
BOUNDS = {
    "int8": jaxgfo.Bounds(0, 4),
    "ints": jaxgfo.Bounds(0, 4),
    "genome": jaxgfo.Bounds({"mask": None, "tokens": 0}, {"mask": None, "tokens": 4}),
}
REAL_TARGET, INT_TARGET = 0.25, 3  # a real optimum exact in bf16


def build(name, kind="flat", pop_size=8, **fields):
    """The algorithm, at defaults but for one step size of 0.1 wherever it has any."""
    cls = jaxgfo.REGISTRY[name]
    names = {f.name for f in dataclasses.fields(cls)}
    given = {name: 0.1 for name in names if name.endswith("scale")} | {"pop_size": pop_size}
    given |= {"bounds": BOUNDS.get(kind)} if "bounds" in names else {}
    if cls is jaxgfo.Int8ES:
        given["learning_rate"] = 1.0  # in steps, of which there are three to the optimum
    return cls(**given | fields)


def accepts(name, kind):
    """Whether the algorithm can move this kind of candidate: it says so in `init`."""
    try:
        jax.eval_shape(build(name, kind).init, jax.random.key(0), STARTS[kind])
    except ValueError:
        return False
    return True


def moved(name, real):
    """The kind `real` of candidate, or the one that an algorithm for int8 moves instead."""
    return real if accepts(name, real) else "int8"


CASES = [
    (name, kind)
    for name in jaxgfo.REGISTRY
    for kind in STARTS
    # The kind "mixed" is a tree of fp32 and bf16 leaves. Where others than Int8ES move int8, they
    # move it like the small integers of a genome.
    if accepts(name, kind)
    and kind not in ("flat", "tree", "bf16")
    and (kind != "int8" or name == "int8-es")
]
# Choices that fitness does not meet.
NOT_OF_FITNESS = set(
    "noise generator fallback rounding restarts crossover mutation recombination".split()
)
VARIANTS = [(name, {}) for name in jaxgfo.REGISTRY] + [
    (name, {field: choice})
    for name, cls in jaxgfo.REGISTRY.items()
    for field, options in core.choices(cls).items()
    for choice in options
    if choice != getattr(cls, field) and field not in NOT_OF_FITNESS
]


def sphere(population):
    """Squared distance of every member from the target: fitness (pop,), 0 at the optimum."""

    def leaf(x):
        target = REAL_TARGET if tree.is_float(x) else 1 if tree.is_bool(x) else INT_TARGET
        away = jnp.square(x.astype(jnp.float32) - target)
        return jnp.sum(away.reshape(x.shape[0], -1), axis=1)

    return sum(map(leaf, jax.tree.leaves(dense(population))))


def generation(algorithm, key, state, fitness=sphere):
    """One generation through the front doors: state, population, its fitness, info."""
    ask_key, tell_key = jax.random.split(key)
    population, state = jaxgfo.ask(algorithm, ask_key, state)
    scores = fitness(population)
    state, info = jaxgfo.tell(algorithm, tell_key, state, population, scores)
    return state, population, scores, info


def loop(algorithm, key, start, num, fitness=sphere):
    """`num` generations, one by one: final state and fitness (num, pop)."""
    init_key, key = jax.random.split(key)
    state, history = jaxgfo.init(algorithm, init_key, start), []
    for k in jax.random.split(key, num):
        state, _, scores, _ = generation(algorithm, k, state, fitness)
        history.append(np.asarray(scores))
    return state, np.stack(history)


@functools.partial(jax.jit, static_argnames=("num", "fitness"))
def scan(algorithm, key, start, num, fitness=sphere):
    """The same run in one `lax.scan`."""
    init_key, key = jax.random.split(key)

    def step(state, k):
        state, _, scores, _ = generation(algorithm, k, state, fitness)
        return state, scores

    state = jaxgfo.init(algorithm, init_key, start)
    return jax.lax.scan(step, state, jax.random.split(key, num))


def numbers(values):
    """The leaves as NumPy float64, which holds every other dtype here exactly."""
    return [np.asarray(x.astype(jnp.float32), np.float64) for x in jax.tree.leaves(values)]


def assert_close(first, second, rtol=1e-4, atol=1e-5):
    """Equal trees, up to rounding; dtypes and shapes exactly."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    kinds = [[(x.shape, x.dtype) for x in jax.tree.leaves(t)] for t in (first, second)]
    assert kinds[0] == kinds[1]
    for a, b in zip(numbers(first), numbers(second)):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def assert_equal(first, second):
    """Equal trees, to the last bit."""
    assert_close(first, second, rtol=0, atol=0)


def copy(values):
    """A copy whose buffers nothing else donates."""
    return jax.tree.map(jnp.copy, values)


@contextlib.contextmanager
def unchecked():
    """What a user meets: without the type checks of these tests, which would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
