"""Models with int8 matrices, and the evolution strategy that keeps them so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_equal, dense, unchecked
from variants import VARIANTS

import jaxgfo
from jaxgfo import Noise, Seeded, cli, dequantise, embedded, evaluation, tree
from jaxgfo.io.text import read_batch, spread
from jaxgfo.models.quantised import quantise
from jaxgfo.operators.feedback import nothing_left, whole_steps

KEY = jax.random.key(5)
DEEP = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 64,
    "num_attention_heads": 2,
}


@pytest.fixture(scope="module")
def small():
    """The embedded model, in fp32 and in int8."""
    model = jaxgfo.load_model(embedded.MODEL)
    return model, model.quantised()


def rows_of(model, path, rows):
    return spread(read_batch(path, model.tokenizer, 128), rows)


# The model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_largest_number_of_every_output_is_127(dtype):
    rng = np.random.default_rng(0)
    kernel, table = rng.normal(0, 0.05, (3, 8, 5)), rng.normal(0, 3.0, (7, 4))
    kernel[:, :, 2] = 0
    params = {"a": {"kernel": kernel, "bias": np.ones(5)}, "e": {"embedding": table}}
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    narrow = quantise(params)
    assert narrow["a"]["bias"] is params["a"]["bias"]
    assert_equal(quantise(narrow), narrow)
    for layer, name, axis in (("a", "kernel", 1), ("e", "embedding", 1)):
        wide = np.asarray(params[layer][name], np.float64)
        steps, scale = narrow[layer][name], narrow[layer][f"{name}_scale"]
        largest = np.abs(wide).max(axis)
        assert (steps.dtype, scale.dtype) == (jnp.int8, jnp.dtype(dtype))
        expected = np.where(largest > 0, 127, 0)
        np.testing.assert_array_equal(np.abs(np.asarray(steps, int)).max(axis), expected)
        each = np.expand_dims(np.asarray(scale, np.float64), axis)
        # The scale itself is rounded to the dtype; the steps are right for it.
        exact = np.clip(np.round(wide / each), -127, 127)
        assert np.abs(np.asarray(steps, float) - exact).max() <= 1e-9
        slack = 1 + 300 * float(jnp.finfo(dtype).eps)
        assert (np.abs(wide - np.asarray(steps, float) * each) <= each / 2 * slack).all()
    again = dequantise(narrow)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert {x.dtype for x in jax.tree.leaves(again)} == {jnp.dtype(dtype)}


def test_int8_costs_the_embedded_model_a_thousandth_of_its_perplexity(small):
    model, narrow = small
    batch = rows_of(model, embedded.VALIDATION, 16)
    real, ours = (jaxgfo.perplexity(m, m.params, batch) for m in small)
    assert real != ours == pytest.approx(real, rel=1e-3)
    assert sum(x.nbytes for x in jax.tree.leaves(narrow.params)) < 0.27 * sum(
        x.nbytes for x in jax.tree.leaves(model.params)
    )


@pytest.mark.parametrize("name", ["gpt2", pytest.param("phi3", marks=pytest.mark.slow)])
def test_every_function_is_that_of_the_real_matrices(name, tmp_path):
    config = next(c for n, c in VARIANTS.items() if c["model_type"] == name)
    with jax.numpy_dtype_promotion("standard"):
        model = jaxgfo.random_model(config, key=KEY)
    narrow = model.quantised()
    kinds = {p: x.dtype for p, x in tree.flat_paths(narrow.params).items()}
    matrices = {p for p in kinds if p.endswith((".kernel", ".embedding"))}
    assert matrices == {p for p, dtype in kinds.items() if dtype == jnp.int8}
    real = jax.jit(dequantise)(narrow.params)
    tokens = jax.random.randint(KEY, (2, 9), 0, model.vocab_size)

    @jax.jit
    def at_once_and_by_step(params):
        lengths = jnp.array([8, 8])
        _, cache = narrow.decoder.prefill(params, tokens[:, :8], lengths, 9)
        last, _ = narrow.decoder.step(params, tokens[:, 8], lengths, cache)
        return narrow.apply(params, tokens), narrow.decoder.logits(params, last)

    ours, last = at_once_and_by_step(narrow.params)
    logits = jax.jit(model.apply)(real, tokens)
    np.testing.assert_allclose(ours, logits, atol=1e-5)
    np.testing.assert_allclose(last, logits[:, 8], atol=1e-5)
    saved = jaxgfo.save_model(narrow, narrow.params, tmp_path / "saved")
    assert_equal(jaxgfo.load_model(saved).params, real)


def test_activations_have_the_dtype_of_the_model():
    narrow = jaxgfo.random_model(DEEP, key=KEY, dtype="bfloat16").quantised()
    tokens = jnp.ones((1, 4), jnp.int32)
    assert jax.eval_shape(narrow.decoder.features, narrow.params, tokens).dtype == jnp.bfloat16


@pytest.mark.usefixtures("optimised")
def test_no_more_than_one_layer_is_real_at_a_time():
    model = jaxgfo.random_model(DEEP, key=KEY)
    narrow, tokens = model.quantised(), jnp.ones((1, 4), jnp.int32)
    kernels = jaxgfo.Select(narrow.params, "*.kernel").start()
    held = sum(x.nbytes for x in jax.tree.leaves(kernels))
    layer = 4 * held // DEEP["num_hidden_layers"]

    def program(function, params):
        return jax.jit(function).lower(params, tokens).compile()

    ours = program(narrow.apply, narrow.params)
    early = program(lambda p, t: model.apply(dequantise(p), t), narrow.params)
    assert "f32[64,32,96]" not in ours.as_text()
    assert "f32[64,32,96]" in early.as_text()
    assert early.memory_analysis().temp_size_in_bytes > 3 * held
    assert ours.memory_analysis().temp_size_in_bytes < layer + 2**16
    # Nor does a member of a population exist as a whole: not even in int8.
    batch, space = jaxgfo.Batch(tokens, tokens > 0), jaxgfo.Select(narrow.params, "*.up.kernel")
    population = Seeded(space.start(), KEY, 1.0, 8)
    scored = evaluation.compiled(
        jaxgfo.MeanNLL(narrow), space, population, batch, chunk_size=2
    ).memory_analysis()
    (leaf,) = space.start().values()
    assert scored.temp_size_in_bytes < leaf.nbytes


# The population

TREE = {
    "layers": {"*": {"kernel": jnp.zeros((4, 50, 41), jnp.int8)}},
    "head": jnp.full((30, 7), 126, jnp.int8),
}


@pytest.mark.parametrize("noise", [Noise("signs"), Noise("table", "rbg")])
def test_members_are_whole_steps_apart_and_the_sum_is_of_these_steps(noise):
    population = Seeded(TREE, KEY, 0.7, 7, noise)
    members = dense(population)
    assert_equal(tree.take(members, jnp.array(0)), TREE)
    kernel = np.asarray(members["layers"]["*"]["kernel"], int)
    assert members["head"].dtype == members["layers"]["*"]["kernel"].dtype == jnp.int8
    np.testing.assert_array_equal(kernel[2:6:2], -kernel[3::2])
    assert np.asarray(members["head"], int).max() == 127
    # Steps k of 24,600 numbers: E k = 0, and E k^2 = 0.7^2 + E f (1 - f), f the rounded-off part.
    steps = kernel[2::2].reshape(-1)
    draws = np.random.default_rng(1).standard_normal(10**6)
    noises = np.sign(draws) if noise.kind == "signs" else draws
    part = (0.7 * noises) % 1
    square = np.mean((0.7 * noises) ** 2 + part * (1 - part))
    assert abs(steps.mean()) < 5 * steps.std() / np.sqrt(steps.size)
    error = np.square(steps).std() / np.sqrt(steps.size)
    assert abs(np.square(steps).mean() - square) < 6 * error
    weights = np.arange(7) / 8 - 0.5  # sums of such parts are exact
    total = population.contract(jnp.asarray(weights, jnp.float32))
    expected = np.tensordot(weights, kernel, 1)
    np.testing.assert_array_equal(total["layers"]["*"]["kernel"], expected)


def test_rounding_goes_up_as_often_as_it_should():
    steps = Noise("signs").steps(KEY, (100_000,), None, jnp.float32(2.25))
    sizes, counts = np.unique(np.abs(np.asarray(steps, int)), return_counts=True)
    assert list(sizes) == [2, 3]
    assert abs(counts[1] / 1e5 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 1e5)
    whole = Noise("signs").steps(KEY, (1000,), None, jnp.float32(127))
    assert set(np.unique(whole)) == {-127, 127}
    assert np.abs(np.asarray(Noise().steps(KEY, (1000,), None, jnp.float32(100)))).max() == 127


# Residuals


def moved(moves, threshold, center=0):
    """Where a weight stands after each of some moves, and what is left."""

    def step(carry, move):
        center, left = carry
        steps, left = whole_steps(center, left, move, threshold)
        return (center + steps, left), (center + steps, left)

    start = jnp.full((1,), center, jnp.int8)
    _, (centers, left) = jax.jit(lambda m: jax.lax.scan(step, (start, nothing_left(start)), m))(
        jnp.asarray(moves, jnp.float32)[:, None]
    )
    return np.asarray(centers[:, 0], int), np.asarray(left[:, 0]) / 2**15


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_small_moves_add_up(threshold):
    for move in (0.01, -0.01, 0.0001):
        centers, left = moved([move] * 1000, threshold)
        expected = 1000 * move
        assert abs(centers[-1] - expected) <= 1
        # What is kept loses nothing but the rounding of 1,000 moves to its parts.
        assert abs(centers[-1] + left[-1] - expected) < 1000 / 2**16
        assert np.abs(left).max() <= threshold
    assert np.round(np.full(1000, 0.01)).sum() == 0  # each for itself


def test_a_threshold_of_one_keeps_noise_from_moving_a_weight_to_and_fro():
    noise = np.random.default_rng(0).normal(0, 0.2, 400)
    eager, calm = (np.abs(np.diff(moved(noise, t)[0])).sum() for t in (0.5, 1.0))
    assert 2 * calm < eager


def test_at_the_wall_nothing_piles_up():
    centers, left = moved([0.9] * 10 + [-0.9] * 3 + [300.0, -300.0, -300.0], 1.0, center=126)
    assert centers.max() == 127
    assert left[9] == pytest.approx(1, abs=1e-4)
    assert centers[12] == 127 - 1
    assert (centers[13], centers[14], centers[15]) == (127, 0, -127)


# The algorithm


def test_a_generation_in_plain_numpy():
    params = {"w": jnp.zeros((4, 3), jnp.int8), "v": jnp.full(5, 100, jnp.int8)}
    search = jaxgfo.Int8ES(scale=1.5, learning_rate=7.0, pop_size=6)
    state = jaxgfo.init(search, KEY, params)
    fitness = np.array([3.0, 1.0, 2.0, 2.0, 7.0, np.inf])
    shaped = np.array([3, 0, 1.5, 1.5, 4, 5]) / 5 - 0.5
    kept = {path: np.zeros(x.shape) for path, x in params.items()}
    for key in jax.random.split(KEY, 3):
        population, state = jaxgfo.ask(search, key, state)
        members = dense(population)
        before = {path: np.asarray(x, int) for path, x in state.center.items()}
        state, info = jaxgfo.tell(search, key, state, population, fitness)
        for path, center in before.items():
            steps = np.asarray(members[path], int) - center
            kept[path] = kept[path] - 7 * sum(u * k for u, k in zip(shaped, steps)) / 6 / 1.5
            whole = np.trunc(kept[path])
            kept[path] = kept[path] - whole
            np.testing.assert_array_equal(state.center[path], center + whole)
            np.testing.assert_allclose(state.residual[path] / 2**15, kept[path], atol=1e-4)
        assert (info.center, info.learnt) == (3.0, 1.0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_nothing_moves_where_nothing_was_learnt(optimizer):
    search = jaxgfo.Int8ES(optimizer=optimizer, pop_size=6)
    state = jaxgfo.init(search, KEY, {"w": jnp.zeros((4, 3), jnp.int8)})
    for told in (np.arange(6.0), np.full(6, np.inf), np.full(6, 2.5), np.full(6, np.nan)):
        population, state = jaxgfo.ask(search, KEY, state)
        before = jax.tree.map(np.asarray, state)
        state, info = jaxgfo.tell(search, KEY, state, population, told)
        if info.learnt:
            assert state.residual["w"].any()
        else:
            assert_equal(before._replace(step=state.step), state)
            assert info.moved == 0
    assert info.learnt == 0


def test_beside_the_weights_there_are_two_bytes_each():
    start = {"w": jnp.zeros((64, 64), jnp.int8)}
    for optimizer, each in (("sgd", 3), ("adam", 11)):
        state = jax.eval_shape(jaxgfo.Int8ES(optimizer=optimizer).init, KEY, start)
        held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        assert 0 <= held - each * 64 * 64 < 16


def test_real_leaves_are_refused_with_the_way_out(small):
    for model, pattern in ((small[0], "*.kernel"), (small[1], "norms"), (small[1], "attention")):
        space = jaxgfo.Select(model.params, pattern)
        with unchecked(), pytest.raises(ValueError, match=r"take model.quantised\(\) .*float32"):
            jaxgfo.init(jaxgfo.Int8ES(), KEY, space.start())


def test_it_lowers_the_perplexity_of_the_int8_model(small):
    _, model = small
    batch = rows_of(model, embedded.TRAIN, 4)
    space = jaxgfo.Select(model.params, "*.mlp.*.kernel")
    assert {x.dtype for x in jax.tree.leaves(space.start())} == {jnp.dtype("int8")}
    objective, search = jaxgfo.MeanNLL(model), jaxgfo.Int8ES(pop_size=16, learning_rate=20.0)
    result = jaxgfo.run(search, space, objective, batch, key=KEY, num_generations=12)
    before, after = (float(objective(p, batch)) for p in (model.params, result.params))
    assert after < before - 0.1
    kinds = [jax.tree.map(lambda x: x.dtype, p) for p in (model.params, result.params)]
    assert kinds[0] == kinds[1]
    assert_equal(model.params["embed"], result.params["embed"])


def test_the_command_line_says_how_to_get_int8_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main("tune --algorithm int8-es".split()) == 2
    assert "jaxgfo tune --dtype int8" in capsys.readouterr().err
