"""What a search needs, told before it begins, against what it then really holds."""

import contextlib
import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import pytest
from checkpoints import write
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from problems import build

import jaxgfo
from jaxgfo import cli, embedded, evaluation, memory, tune
from jaxgfo.flops import flops
from jaxgfo.io.text import read_batch, spread
from jaxgfo.planning import plan

PARAMS = {"layers": {"*": {"kernel": jnp.ones((3, 4, 5))}}, "scale": jnp.ones(7, jnp.bfloat16)}
BATCH = jnp.ones((2, 4))
POP = 23
ROOM = 10**9


def objective(params, batch):
    hidden = jnp.sum(batch @ params["layers"]["*"]["kernel"])
    return hidden + jnp.sum(params["scale"].astype(jnp.float32))


def planned(name, pop_size=POP, available=ROOM, **options):
    return plan(build(name, pop_size=pop_size), PARAMS, objective, BATCH, available=available)


def real(name, pop_size=POP):
    """The state and the population that ask returns."""
    algorithm = build(name, pop_size=pop_size)
    state = jaxgfo.init(algorithm, jax.random.key(0), PARAMS)
    population, state = jaxgfo.ask(algorithm, jax.random.key(1), state)
    return state, population


def held(*values):
    """Bytes of arrays, shared ones once."""
    return sum(x.nbytes for x in {id(x): x for x in jax.tree.leaves(values)}.values())


@pytest.mark.parametrize("name", ["de", "ga", "shade", "sa", "openes", "lowrank-es"])
def test_population_bytes_are_those_of_the_population(name):
    found, (_, population) = planned(name), real(name)
    assert found.population_bytes == held(population)
    assert (found.pop_size, found.parameters) == (POP, 67)


def test_members_that_are_not_held_cost_nothing():
    small, large = (planned("lowrank-es", n).population_bytes for n in (4, 400))
    assert small == large < held(PARAMS) + 20


def wide(params, batch):
    """Needs far more for a member than anything else needs."""
    return jnp.sort(batch @ params @ batch.T)[0].mean()


@pytest.mark.parametrize("name", ["de", "random", "openes"])
def test_the_peak_is_what_is_held_and_what_the_compiler_reports(name):
    params, batch = jnp.zeros((4, 4)), jnp.ones((512, 4))
    algorithm = build(name)
    state = jaxgfo.init(algorithm, jax.random.key(0), params)
    population, state = jaxgfo.ask(algorithm, jax.random.key(1), state)
    for chunk_size in (1, 2):
        found = plan(algorithm, params, wide, batch, chunk_size=chunk_size, available=ROOM)
        program = evaluation.compiled(wide, params, population, batch, chunk_size=chunk_size)
        report = program.memory_analysis()
        needed = held(params, batch, state, population) + report.temp_size_in_bytes
        best, fitness = params.nbytes, report.output_size_in_bytes
        assert found.peak_bytes == needed + best + fitness
        assert (found.chunk_size, found.available_bytes) == (chunk_size, ROOM)


def test_what_ask_and_tell_need_is_in_the_peak():
    """A population under an objective that needs next to nothing."""
    found, (state, population) = planned("de"), real("de")
    # While asking: the state, the population before and the one after, and the best so far.
    assert found.peak_bytes >= held(state) + 2 * held(population) + 2 * held(PARAMS)


def test_nothing_is_computed_and_no_population_is_made():
    calls, pop_size = [], 37

    def counted(params, batch):
        jax.debug.callback(lambda: calls.append(1))
        return objective(params, batch)

    algorithm = build("de", pop_size=pop_size)
    plan(algorithm, PARAMS, counted, BATCH)
    jax.effects_barrier()
    assert not calls
    assert not [x for x in jax.live_arrays() if x.shape[:1] == (pop_size,)]
    population = jax.tree.map(lambda x: jnp.stack([x] * pop_size), PARAMS)
    jaxgfo.evaluate(counted, PARAMS, population, BATCH, chunk_size=1)
    jax.effects_barrier()
    assert len(calls) == pop_size


@pytest.mark.parametrize("name", ["de", "openes"])
def test_the_run_traces_nothing_that_the_plan_has_compiled(name):
    traces = []

    def counted(params, batch):
        traces.append(1)
        return objective(params, batch)

    algorithm = build(name)
    found = plan(algorithm, PARAMS, counted, BATCH)
    before = len(traces)
    jaxgfo.run(
        algorithm,
        PARAMS,
        counted,
        BATCH,
        key=jax.random.key(0),
        num_generations=2,
        chunk_size=found.chunk_size,
    )
    assert len(traces) == before > 0


@pytest.mark.parametrize("name", ["de", "openes", "lowrank-es"])
def test_over_a_mesh_it_is_of_one_device(name):
    mesh = jax.make_mesh((2, 4), ("pop", "model"), axis_types=(AxisType.Auto,) * 2)
    lies = NamedSharding(mesh, PartitionSpec(None, "model"))
    params, batch = jax.device_put(jnp.ones((64, 256)), lies), jnp.ones((2, 64))
    traces = []

    def wide(params, batch):
        traces.append(1)
        return jnp.mean(jnp.tanh(batch @ params))

    algorithm = build(name, pop_size=16)
    alone = plan(algorithm, jnp.ones((64, 256)), wide, batch, available=ROOM)
    with jax.set_mesh(mesh):
        found = plan(algorithm, params, wide, batch, available=ROOM)
    assert (found.devices, alone.devices) == (8, 1)
    assert (found.parameters, found.flops) == (alone.parameters, alone.flops)
    assert found.peak_bytes < alone.peak_bytes
    members = 16 if name == "de" else 1  # the others hold the center
    assert members * params.nbytes // 4 <= found.population_bytes < members * params.nbytes
    before = len(traces)
    jaxgfo.run(
        algorithm,
        params,
        wide,
        batch,
        key=jax.random.key(0),
        num_generations=2,
        chunk_size=found.chunk_size,
        mesh=mesh,
    )
    assert len(traces) == before


def test_shapes_are_enough():
    shapes = jax.eval_shape(lambda: PARAMS)
    given = plan(build("pso"), shapes, objective, BATCH, available=ROOM)
    assert given == plan(build("pso"), PARAMS, objective, BATCH, available=ROOM)


def test_what_is_there_already_is_available(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device=None: 10**6)
    shapes = jax.eval_shape(lambda: PARAMS)
    for params, batch in [(PARAMS, BATCH), (shapes, BATCH)]:
        found = plan(build("sa"), params, objective, batch)
        there = [x for x in jax.tree.leaves((params, batch)) if isinstance(x, jax.Array)]
        assert found.available_bytes == 9 * 10**5 + held(there)


# What does not fit


def largest(error):
    return int(re.search(r"the largest that fits has (\d+): use --pop-size \1$", str(error))[1])


@pytest.mark.parametrize(("name", "fits"), [("de", 11), ("random", 17)])
def test_a_population_that_does_not_fit_is_refused_with_the_largest_that_does(name, fits):
    available = planned(name, fits).peak_bytes
    with pytest.raises(
        MemoryError, match=f"a population of {POP} needs .*B, parameters"
    ) as refused:
        planned(name, available=available)
    found = largest(refused.value)
    assert found == fits
    assert planned(name, found, available).peak_bytes == available
    with pytest.raises(MemoryError, match=f"population of {found + 1} needs"):
        planned(name, found + 1, available)
    with pytest.raises(MemoryError, match=f"the largest that fits has {found - 1}:"):
        planned(name, available=available - 1)


def test_a_population_far_too_large_is_refused_without_compiling_it(monkeypatch):
    asked, compiled = [], evaluation.compiled

    def noted(objective, space, population, batch, **options):
        asked.append(jax.tree.leaves(population)[0].shape[0])
        return compiled(objective, space, population, batch, **options)

    monkeypatch.setattr(evaluation, "compiled", noted)
    available = planned("random", 50).peak_bytes
    with pytest.raises(MemoryError, match=r"a population of 1000000000 needs .*GiB") as refused:
        planned("random", 10**9, available)
    # Members that are drawn where they are scored are never held: more of them may need as much.
    found = largest(refused.value)
    assert found >= 50
    assert planned("random", found).peak_bytes <= available
    assert planned("random", found + 1).peak_bytes > available
    assert max(asked) < 1000


def test_where_nothing_fits_that_is_said():
    with pytest.raises(MemoryError, match=r"but 100 B are there, and no smaller one fits: use "):
        planned("de", available=100)
    least = planned("de", 4).peak_bytes
    with contextlib.suppress(MemoryError):  # fewer members at a time need less
        while True:
            least = planned("de", 4, least - 1).peak_bytes
    with pytest.raises(MemoryError, match="the largest that fits has 4:"):
        planned("de", available=least)
    for pop_size in (4, POP):
        with pytest.raises(MemoryError, match="no smaller one fits"):
            planned("de", pop_size, least - 1)


@jaxgfo.algorithm
class Even(jaxgfo.RandomSearch):
    """Random search with an even number of members, at least six."""

    pop_size: int = jaxgfo.static(32)

    def __post_init__(self):
        if self.pop_size % 2 or self.pop_size < 6:
            raise ValueError("expected an even number, at least six")


def test_only_sizes_that_the_algorithm_can_have_are_offered():
    def even(pop_size, available):
        return plan(Even(pop_size=pop_size), PARAMS, objective, BATCH, available=available)

    available = even(16, ROOM).peak_bytes
    with pytest.raises(MemoryError) as refused:
        even(30, available + 1)
    assert largest(refused.value) == 16


def test_on_an_accelerator_the_chunk_fills_what_is_left(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    params, batch = jnp.zeros((4, 4)), jnp.ones((512, 4))
    planned = functools.partial(plan, build("de", pop_size=8), params, wide, batch)
    one, all_of_them = planned(chunk_size=1, available=ROOM), planned(available=ROOM)
    assert all_of_them.chunk_size == 8
    between = (one.peak_bytes + all_of_them.peak_bytes) // 2
    found = planned(available=between)
    assert 1 < found.chunk_size < 8
    assert one.peak_bytes < found.peak_bytes <= between
    assert planned(available=one.peak_bytes).chunk_size == 1


def test_a_chunk_size_is_checked():
    with pytest.raises(ValueError, match="chunk_size is 0; expected at least 1"):
        plan(build("de"), PARAMS, objective, BATCH, chunk_size=0)


# Operations


def ones(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def product(a, b):
    return a @ b


custom = jax.custom_vjp(product)
custom.defvjp(lambda a, b: (a @ b, (a, b)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
JVP = jax.custom_jvp(product)
JVP.defjvp(lambda primals, tangents: (product(*primals), product(*tangents)))
CONVOLVE = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(2, 1),
    padding="VALID",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
)
A, B = ones(3, 4), ones(4, 5)
ONE = 2 * 3 * 4 * 5
COUNTED = {
    "product": (product, (A, B), ONE),
    "twice": (lambda a, b: a @ b + jnp.tanh(a @ b), (A, B), 2 * ONE),
    "nothing": (lambda a, b: jnp.sum(a) * jnp.exp(b), (A, B), 0),
    "einsum": (
        lambda x, y: jnp.einsum("bhqd,bhkd->bhqk", x, y),
        (ones(2, 3, 5, 7), ones(2, 3, 11, 7)),
        2 * 2 * 3 * 5 * 11 * 7,
    ),
    "vmap": (jax.vmap(product), (ones(6, 3, 4), ones(6, 4, 5)), 6 * ONE),
    "jit": (jax.jit(product), (A, B), ONE),
    "remat": (jax.checkpoint(product), (A, B), ONE),
    "custom_vjp": (custom, (A, B), ONE),
    "custom_jvp": (JVP, (A, B), ONE),
    "convolution": (
        CONVOLVE,
        (ones(2, 9, 8, 6), ones(3, 3, 6, 10)),
        2 * 2 * 4 * 6 * 10 * 3 * 3 * 6,
    ),
    "grouped": (
        functools.partial(CONVOLVE, feature_group_count=3),
        (ones(2, 9, 8, 6), ones(3, 3, 2, 12)),
        2 * 2 * 4 * 6 * 12 * 3 * 3 * 2,
    ),
    "scan": (
        lambda x, ws: jax.lax.scan(lambda x, w: (x @ w, None), x, ws)[0],
        (A, ones(7, 4, 4)),
        7 * 2 * 3 * 4 * 4,
    ),
    "map in scan": (
        lambda x, ws: jax.lax.scan(lambda x, w: (jax.lax.map(lambda r: r @ w, x), None), x, ws)[0],
        (A, ones(7, 4, 4)),
        7 * 2 * 3 * 4 * 4,
    ),
    "cond": (
        lambda a, b: jax.lax.switch(
            0, [lambda: a @ b, lambda: a @ b + a @ b, lambda: jnp.zeros((3, 5))]
        ),
        (A, B),
        2 * ONE,
    ),
    "while": (
        lambda a, w: jax.lax.while_loop(lambda x: jnp.all(x < 9), lambda x: x @ w, a),
        (A, ones(4, 4)),
        2 * 3 * 4 * 4,
    ),
}


@pytest.mark.parametrize("case", COUNTED)
def test_operations_are_those_of_the_closed_form(case):
    function, args, expected = COUNTED[case]
    assert flops(function, *args) == expected


def test_operations_of_attention_in_one_kernel():
    fused = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    kernel = fused._dot_product_attention_fwd_p_wrapper
    batch, queries, keys, heads, width = 2, 8, 24, 3, 16
    for layout in fused.AttentionLayout:
        order = (0, 1, 2, 3) if layout is fused.AttentionLayout.BTNH else (0, 2, 1, 3)
        query, key = (
            jax.ShapeDtypeStruct([(batch, n, heads, width)[i] for i in order], jnp.bfloat16)
            for n in (queries, keys)
        )

        def attention(query, key, value, layout=layout):
            nothing = jnp.zeros(0, query.dtype)
            return kernel.bind(
                *(query, key, value, *[nothing] * 7),
                scale=1.0,
                seed=0,
                dropout_rate=0.0,
                variadic_args=(False, False),
                mask_type=fused.MaskType.CAUSAL,
                layout=layout.value,
                sliding_window_length=None,
                is_training=False,
            )

        found = flops(attention, query, key, key)
        assert found == 2 * 2 * batch * heads * queries * keys * width


@pytest.fixture(scope="module")
def llama():
    return jaxgfo.load_model(embedded.MODEL)


def of_llama(config, rows, length):
    """Operations of the loss of a Llama; a block of queries sees no later keys on a CPU."""
    heads = config.num_heads * config.head_dim
    groups = config.num_groups * config.head_dim
    layer = config.hidden_size * (2 * heads + 2 * groups + 3 * config.mlp_size)
    blocks = min(4, max(1, length // 64))
    pairs = sum((length // blocks) ** 2 * (i + 1) for i in range(blocks))
    attention = 2 * heads * pairs  # queries with keys, weights with values
    head = (length - 1) * config.hidden_size * config.vocab_size
    return 2 * rows * (config.num_layers * (length * layer + attention) + head)


@pytest.mark.parametrize(("rows", "length"), [(4, 32), (2, 128), (3, 256)])
def test_operations_of_the_embedded_llama(llama, rows, length):
    shape = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    batch = jaxgfo.Batch(shape, jax.ShapeDtypeStruct(shape.shape, bool))
    expected = of_llama(llama.decoder.config, rows, length)
    assert flops(jaxgfo.MeanNLL(llama), llama.params, batch) == expected


def test_operations_of_a_generation(llama):
    batch = spread(read_batch(embedded.TRAIN, llama.tokenizer, length=32), 4)
    expected = 5 * of_llama(llama.decoder.config, 4, 32)
    for algorithm in (jaxgfo.RandomSearch(pop_size=5), jaxgfo.LowRankES(pop_size=5)):
        space = jaxgfo.Flat(jaxgfo.Select(llama.params, "norms"))
        found = plan(algorithm, space, jaxgfo.MeanNLL(llama), batch)
        assert (found.flops, found.parameters) == (expected, 125248)


# The command line

TINY = "tune --model model --data text.txt --length 16 --rows 2 --algorithm de --pop-size 8"
SCORING = "evaluate --model model --data text.txt --length 16"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A current folder with a model and a text, where nothing may be computed or written."""

    def never(*_, **__):
        raise AssertionError("something was computed")

    monkeypatch.chdir(tmp_path)
    write(tmp_path / "model", num_hidden_layers=1)
    text = "A blue hat was lost near the old inn, and Greta asked everybody for it. " * 40
    (tmp_path / "text.txt").write_text(text)
    for name in ("run", "perplexity", "_reserve"):
        monkeypatch.setattr(tune, name, never)
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {"model", "text.txt"}


def call(capsys, line):
    return cli.main(line.split()), *capsys.readouterr()


def test_a_dry_run_of_tune_prints_the_plan_and_nothing_else(work, capsys):
    code, out, err = call(capsys, f"{TINY} --dry-run --json")
    assert (code, err.strip(), len(out.splitlines())) == (0, "", 1)
    found = json.loads(out)
    model = jaxgfo.load_model("model")
    norms = jaxgfo.Select(model.params, "norms").start()
    assert found["parameters"] == sum(x.size for x in jax.tree.leaves(model.params))
    assert found["population_bytes"] == 8 * held(norms)
    assert (found["pop_size"], found["chunk_size"]) == (8, 4)
    assert found["flops"] == 8 * of_llama(model.decoder.config, 2, 16)
    assert 0 < found["peak_bytes"] < found["available_bytes"]
    code, out, err = call(capsys, f"{TINY} --dry-run --out tuned --chunk-size 2")
    assert (code, err.strip()) == (0, "")
    assert re.search(r"^[\d,]+ parameters; population of 8: .*B, 2 at a time\n", out)
    assert re.search(r"^needs .*B of .*B; forward passes a generation: .* .?FLOP$", out, re.M)


def test_a_dry_run_of_evaluate_prints_the_plan_and_nothing_else(work, capsys):
    code, out, err = call(capsys, f"{SCORING} --dry-run --json")
    assert (code, err.strip(), len(out.splitlines())) == (0, "", 1)
    found = json.loads(out)
    model = jaxgfo.load_model("model")
    rows = read_batch("text.txt", model.tokenizer, 16).tokens.shape[0]
    times = -(-rows // 32)
    assert times > 1
    assert (found["pop_size"], found["population_bytes"], found["chunk_size"]) == (0, 0, 32)
    assert found["flops"] == times * of_llama(model.decoder.config, 32, 16)
    assert held(model.params) < found["peak_bytes"] < found["available_bytes"]
    code, out, err = call(capsys, f"{SCORING} --dry-run")
    assert (code, err.strip()) == (0, "")
    assert re.search(
        r"parameters; no population, 32 at a time\nneeds .* forward passes in all", out
    )


@pytest.mark.parametrize("dry", ["", " --dry-run"])
def test_what_cannot_fit_is_refused_before_anything_is_computed(work, capsys, monkeypatch, dry):
    code, out, _ = call(capsys, f"{TINY} --dry-run --json")
    needed = json.loads(out)
    monkeypatch.setattr(memory, "free", lambda device=None: needed["peak_bytes"] // 2)
    for line, message in [
        (TINY.replace("8", "8000"), "a population of 8000 needs .*the largest that fits has "),
        (f"{SCORING}", "scoring 32 rows at a time needs .*, but .* are there: use shorter"),
    ]:
        monkeypatch.setattr(memory, "free", lambda device=None, line=line: FREE[line[:4]])
        code, out, err = call(capsys, f"{line}{dry}")
        assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
        assert re.search(f"^jaxgfo: {message}", err)


FREE = {"tune": 3 * 10**6, "eval": 1000}


def test_a_dry_run_refuses_what_a_run_refuses(work, capsys):
    for options, message in [
        ("--out model", "model exists and is not an empty folder"),
        ("--evaluations 7", "evaluations is 7; one generation needs 8"),
        ("--space select:foo", "'foo' matches no parameter"),
        ("--data no.txt", "data 'no.txt': no such file"),
    ]:
        code, out, err = call(capsys, f"{TINY} {options} --dry-run")
        assert (code, out) == (2, "")
        assert message in err


def test_a_plan_is_two_lines(llama):
    found = plan(build("sa", pop_size=1), PARAMS, objective, BATCH, available=10**6)
    shown = str(dataclasses.replace(found, flops=1_230_000_000, peak_bytes=2048))
    assert shown == (
        "67 parameters; population of 1: 254 B, 1 at a time\n"
        "needs 2 KiB of 976.6 KiB; forward passes a generation: 1.23 GFLOP"
    )
