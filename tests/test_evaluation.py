"""A population's fitness in one compiled call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_equal

import jaxgfo
from jaxgfo import Flat, Select, Subspace, evaluation, memory
from jaxgfo.spaces import base

PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3, jnp.bfloat16)}
BATCH = {"x": jnp.float32([[1, 2], [3, -4]]), "weight": 2.0}
POP = 7
KEY = jax.random.key(0)


def objective(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["w"]) + params["b"].astype(jnp.float32)
    return batch["weight"] * jnp.mean(jnp.square(hidden))


def spread(start, pop_size=POP):
    """Members around a candidate."""
    leaves, treedef = jax.tree.flatten(start)
    keys = jax.random.split(KEY, len(leaves))
    return treedef.unflatten(
        x + jax.random.normal(k, (pop_size, *x.shape), x.dtype) for k, x in zip(keys, leaves)
    )


SPACES = {
    "tree": PARAMS,
    "full": jaxgfo.Full(PARAMS),
    "flat": Flat(PARAMS),
    "select": Select(PARAMS, "w"),
    "subspace": Subspace(PARAMS, 4, KEY),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 3, POP, 100])
def test_it_is_the_objective_of_every_member(name, chunk_size):
    space = SPACES[name]
    population = spread(base.decode(space, PARAMS) if name == "tree" else space.start())
    members = [jax.tree.map(lambda x, i=i: x[i], population) for i in range(POP)]
    expected = [objective(base.decode(space, m), BATCH) for m in members]
    fitness = jaxgfo.evaluate(objective, space, population, BATCH, chunk_size=chunk_size)
    assert (fitness.shape, fitness.dtype) == ((POP,), jnp.float32)
    np.testing.assert_allclose(fitness, expected, rtol=1e-5)
    inside = jax.jit(lambda s, p: jaxgfo.evaluate(objective, s, p, BATCH, chunk_size=chunk_size))(
        space, population
    )
    np.testing.assert_allclose(inside, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_a_failed_member_is_infinite_and_harms_no_other(dtype, chunk_size):
    values = jnp.asarray([1, jnp.nan, -jnp.inf, jnp.inf, -2], dtype)
    fitness = jaxgfo.evaluate(lambda z, b: z, values[0], values, (), chunk_size=chunk_size)
    assert_equal(fitness, jnp.float32([1, jnp.inf, -jnp.inf, jnp.inf, -2]))


def test_whole_numbers_are_fitness_too():
    fitness = jaxgfo.evaluate(
        lambda z, b: jnp.sum(z), jnp.zeros(2), jnp.ones((3, 2), jnp.int32), ()
    )
    assert_equal(fitness, jnp.full(3, 2.0))


def test_it_compiles_once_for_new_weights_and_batches():
    traces, counts, values = [], [], []

    def counted(params, batch):
        traces.append(1)
        return objective(params, batch)

    for shift in (0.0, 1.0, np.float32(2)):
        params = jax.tree.map(lambda x, s=shift: x + jnp.asarray(s, x.dtype), PARAMS)
        batch = BATCH | {"weight": shift}
        space = Select(params, "w")
        values.append(jaxgfo.evaluate(counted, space, spread(space.start()), batch, chunk_size=1))
        counts.append(len(traces))
    assert len(set(counts)) == 1
    assert len({float(v.sum()) for v in values}) == 3


def test_another_objective_shape_or_chunk_compiles_anew():
    traces = []

    def counted(params, batch):
        traces.append(1)
        return jnp.sum(params)

    for pop_size, chunk_size in [(3, 1), (3, 2), (4, 1), (3, 1), (4, 1)]:
        jaxgfo.evaluate(counted, jnp.zeros(2), jnp.zeros((pop_size, 2)), (), chunk_size=chunk_size)
    programs = {
        evaluation.compiled(counted, jnp.zeros(2), jnp.zeros((n, 2)), (), chunk_size=c)
        for n, c in [(3, 1), (3, 2), (4, 1), (3, 1)]
    }
    assert len(programs) == 3
    before = len(traces)
    jaxgfo.evaluate(counted, jnp.ones(2), jnp.ones((3, 2)), (), chunk_size=2)
    assert len(traces) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunk_size": 0}, "chunk_size is 0; expected at least 1"),
        ({"objective": lambda z, b: z}, r"shape \(2,\); expected a scalar"),
        ({"objective": lambda z, b: z, "chunk_size": 2}, r"shape \(2,\); expected a scalar"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    arguments = {"objective": lambda z, b: jnp.sum(z)} | arguments
    with pytest.raises(ValueError, match=message):
        jaxgfo.evaluate(space=jnp.zeros(2), population=jnp.zeros((3, 2)), batch=(), **arguments)


def wide(params, batch):
    """Needs about 4 MB a member beside its weights."""
    return jnp.sort(batch @ params @ batch.T)[0].mean()


WIDE = (wide, jnp.zeros((4, 4)), jnp.zeros((64, 4, 4)), jnp.ones((512, 4)))


def largest(available):
    return evaluation.largest_chunk(*WIDE, available=available)


@pytest.mark.usefixtures("optimised")
def test_the_chunk_grows_with_memory():
    one, two = (
        evaluation.compiled(*WIDE, chunk_size=c).memory_analysis().temp_size_in_bytes
        for c in (1, 2)
    )
    chunks = [largest(one), largest(one + 10 * (two - one)), largest(10**12)]
    assert chunks == [1, 11, 64]
    needed = evaluation.compiled(*WIDE, chunk_size=11).memory_analysis().temp_size_in_bytes
    assert needed <= 1.1 * (one + 10 * (two - one))  # the estimate holds


def test_a_member_that_does_not_fit_is_refused(monkeypatch):
    with pytest.raises(MemoryError, match=r"one member needs .*B .* 1000 B are free: use fewer"):
        largest(1000)
    monkeypatch.setattr(memory, "free", lambda device=None: 2000)
    with pytest.raises(MemoryError, match=r"1\.758 KiB are free"):  # nine tenths
        jaxgfo.evaluate(*WIDE)
    assert jaxgfo.evaluate(*WIDE, chunk_size=1).shape == (64,)  # at one's own risk


def test_the_default_chunk_is_kept_when_free_memory_changes(monkeypatch):
    """On an accelerator another chunk would be another compilation in every generation."""
    free = iter(range(10**8, 10**6, -(10**7)))
    monkeypatch.setattr(memory, "free", lambda device=None: next(free))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert len({evaluation.compiled(*WIDE) for _ in range(4)}) == 1


def test_on_a_cpu_members_are_computed_one_by_one():
    assert evaluation.largest_chunk(*WIDE) == 1


def test_free_memory_is_what_the_device_has():
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 100, "bytes_in_use": 30}

    assert memory.free(Device()) == 70
    assert memory.free() > 2**20
    shown = [memory.readable(n) for n in (12, 2048, 1.5 * 2**30, 3 * 2**41)]
    assert shown == ["12 B", "2 KiB", "1.5 GiB", "6 TiB"]


def product(params, batch):
    """As a layer does it: each row of the batch is a row of a product with a weight."""
    return jnp.mean(batch @ params)


@pytest.mark.parametrize(
    ("kind", "rows", "expected"),
    [
        ("dense", 10, 4),
        ("dense", 250, 4),
        ("dense", 500, 2),
        ("dense", 1000, 1),
        ("dense", 10**5, 1),
        ("low rank", 10, 16),
        ("low rank", 128, 8),
        ("low rank", 256, 4),
        ("low rank", 10**5, 2),
        ("seeded", 10, 2),
        ("seeded", 10**5, 2),
    ],
)
def test_on_a_cpu_a_chunk_has_about_a_thousand_rows(kind, rows, expected):
    params, batch = jnp.ones((4, 8)), jax.ShapeDtypeStruct((rows, 4), jnp.float32)
    populations = {
        "dense": jnp.ones((20, 4, 8)),
        "low rank": jaxgfo.LowRank(params, KEY, 0.1, 20),
        "seeded": jaxgfo.Seeded(params, KEY, 0.1, 20),
    }
    chunk = evaluation.largest_chunk(product, params, populations[kind], batch)
    assert chunk == expected
    few = jax.tree.map(lambda x: x[:3], populations["dense"])
    assert evaluation.largest_chunk(product, params, few, batch) <= 3


@pytest.mark.usefixtures("optimised")
def test_a_member_is_not_copied_as_a_whole():
    """Layers under scan: no array of a whole member's size is made."""
    params = {"layers": {"*": {"kernel": jnp.ones((6, 8, 8))}}}
    population = spread(params, 5)

    def deep(params, batch):
        kernels = params["layers"]["*"]["kernel"]
        return jnp.mean(jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), batch, kernels)[0])

    batch = jnp.ones((2, 8))
    for chunk_size, copied in ((1, "f32[6,8,8]"), (2, "f32[2,6,8,8]")):
        program = evaluation.compiled(deep, params, population, batch, chunk_size=chunk_size)
        assert copied not in program.as_text()
    before = jax.lax.map(lambda member: deep(member, batch), population)  # what it is about
    whole = jax.jit(lambda p: jax.lax.map(lambda member: deep(member, batch), p))
    assert "f32[6,8,8]" in whole.lower(population).compile().as_text()
    np.testing.assert_allclose(before, jaxgfo.evaluate(deep, params, population, batch), rtol=1e-5)
    fitness = jaxgfo.evaluate(deep, params, population, batch)
    members = [jax.tree.map(lambda x, i=i: x[i], population) for i in range(5)]
    np.testing.assert_allclose(fitness, [deep(m, batch) for m in members], rtol=1e-5)
