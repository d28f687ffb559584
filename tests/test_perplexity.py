"""Mean negative log-likelihood against NumPy, and what it never holds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import assert_close

import jaxgfo
from jaxgfo import Batch, MeanNLL, evaluation, perplexity
from jaxgfo.objectives.perplexity import CHUNK_LOGITS

VOCAB, WIDTH = 11, 4


class Bigram:
    """A model in two halves: the logits of the next token depend on the last one."""

    def features(self, params, tokens):
        return params["embed"][tokens]

    def logits(self, params, features):
        return features @ params["head"]


def plain(params, tokens):
    return Bigram().logits(params, Bigram().features(params, tokens))


MODELS = {"halves": Bigram(), "plain": plain}


def make_params(vocab=VOCAB, width=WIDTH, dtype=jnp.float32, seed=0):
    keys = jax.random.split(jax.random.key(seed))
    shapes = {"embed": (vocab, width), "head": (width, vocab)}
    return {n: jax.random.normal(k, s, dtype) for k, (n, s) in zip(keys, shapes.items())}


def make_batch(kind, rows=5, length=7, vocab=VOCAB, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocab, (rows, length))
    if kind == "padded":
        mask = np.arange(length) < rng.integers(1, length + 1, (rows, 1))
    elif kind == "packed":  # holes where a new document begins
        mask = rng.random((rows, length)) < 0.8
    else:
        mask = np.ones((rows, length), bool)
    return Batch(jnp.asarray(tokens, jnp.int32), jnp.asarray(mask))


def oracle(logits, batch):
    """Sum of the negative log-likelihood in float64, and the number of tokens, one by one."""
    logits, total, count = np.asarray(logits, np.float64), 0.0, 0
    for row in range(batch.tokens.shape[0]):
        for i in range(1, batch.tokens.shape[1]):
            if batch.mask[row, i]:
                scores = logits[row, i - 1]
                log_partition = scores.max() + np.log(np.exp(scores - scores.max()).sum())
                total += log_partition - scores[int(batch.tokens[row, i])]
                count += 1
    return total, count


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["whole", "padded", "packed"])
@pytest.mark.parametrize("chunk_size", [None, 1, 3, 4, 1000])
def test_it_is_the_mean_over_predicted_tokens(model, kind, chunk_size):
    params, batch = make_params(), make_batch(kind)
    total, count = oracle(plain(params, batch.tokens), batch)
    objective = MeanNLL(MODELS[model], chunk_size)
    nll, tokens = objective.sums(params, batch)
    np.testing.assert_allclose(nll, total, rtol=1e-6)
    assert int(tokens) == count
    np.testing.assert_allclose(jax.jit(objective)(params, batch), total / count, rtol=1e-6)
    value = perplexity(MODELS[model], params, batch, chunk_size=chunk_size)
    assert value == pytest.approx(math.exp(total / count), rel=1e-5)


def test_a_sure_model_has_perplexity_one_and_an_ignorant_one_the_vocabulary():
    batch = make_batch("whole")
    assert perplexity(lambda p, t: jnp.zeros((*t.shape, VOCAB)), {}, batch) == pytest.approx(VOCAB)

    def sure(params, tokens):
        return 1e4 * jax.nn.one_hot(jnp.roll(tokens, -1, axis=1), VOCAB)

    assert perplexity(sure, {}, batch) == 1


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_what_is_masked_does_not_count(model):
    params, batch = make_params(), make_batch("padded")
    other = Batch(jnp.where(batch.mask, batch.tokens, 0), batch.mask.at[:, 0].set(False))
    assert perplexity(model, params, other) == perplexity(model, params, batch)
    fewer = Batch(batch.tokens, batch.mask.at[0].set(False))
    assert perplexity(model, params, fewer) != perplexity(model, params, batch)


def test_batches_are_weighted_by_their_tokens():
    params, batch = make_params(), make_batch("packed", rows=9)
    parts = [Batch(*(x[cut] for x in batch)) for cut in (slice(0, 2), slice(2, 9))]
    whole = perplexity(plain, params, batch)
    assert perplexity(plain, params, iter(parts)) == pytest.approx(whole, rel=1e-6)
    naive = math.exp(np.mean([MeanNLL(plain)(params, part) for part in parts]))
    assert naive != pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("chunk_size", [None, 1])
def test_a_half_precision_model_is_summed_in_full_precision(model, chunk_size):
    # The head is the identity, so that logits are the same however they are computed.
    params = {"embed": make_params(VOCAB, VOCAB, jnp.bfloat16)["embed"]}
    params["head"] = jnp.eye(VOCAB, dtype=jnp.bfloat16)
    batch = make_batch("whole", rows=64, length=65)
    logits = plain(params, batch.tokens)
    assert logits.dtype == jnp.bfloat16
    total, count = oracle(logits.astype(jnp.float32), batch)
    value = MeanNLL(MODELS[model], chunk_size)(params, batch)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, total / count, rtol=5e-5)
    # The same in bf16 would be visibly wrong: a sum of thousands takes up no more terms.
    terms = jax.nn.logsumexp(logits[:, :-1], axis=-1) - jnp.take_along_axis(
        logits[:, :-1], batch.tokens[:, 1:, None], -1
    ).squeeze(-1)
    half = jax.lax.scan(lambda s, x: (s + x, None), jnp.bfloat16(0), terms.ravel())[0]
    assert abs(float(half) / count / (total / count) - 1) > 0.05


def test_extreme_logits_stay_finite():
    def model(params, tokens):
        return jnp.full((*tokens.shape, VOCAB), 3e4, jnp.bfloat16).at[..., 0].set(-3e4)

    assert perplexity(model, {}, make_batch("whole")) > 1e10
    batch = make_batch("whole")
    safe = Batch(jnp.maximum(batch.tokens, 1), batch.mask)
    assert perplexity(model, {}, safe) == pytest.approx(VOCAB - 1, rel=2e-3)


def test_a_broken_model_is_told_from_a_bad_one():
    def nan(params, tokens):
        return jnp.full((*tokens.shape, VOCAB), jnp.nan)

    def hopeless(params, tokens):
        return -1e4 * jax.nn.one_hot(jnp.roll(tokens, -1, axis=1), VOCAB)

    assert math.isnan(perplexity(nan, {}, make_batch("whole")))
    assert perplexity(hopeless, {}, make_batch("whole")) == math.inf


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("chunk_size", [1, 4])
def test_chunks_do_not_change_the_gradient(model, chunk_size):
    params, batch = make_params(), make_batch("packed")
    whole, chunked = (jax.grad(MeanNLL(model, c))(params, batch) for c in (1000, chunk_size))
    assert_close(chunked, whole, rtol=1e-5, atol=1e-6)
    step = 1e-2
    direction = make_params(seed=1)

    def along(s):
        moved = jax.tree.map(lambda p, d: p + s * d, params, direction)
        total, count = oracle(plain(moved, batch.tokens), batch)
        return total / count

    slope = sum(jnp.vdot(g, d) for g, d in zip(whole.values(), direction.values()))
    assert float(slope) == pytest.approx((along(step) - along(-step)) / (2 * step), rel=1e-2)


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("gradient", [False, True])
def test_full_logits_are_never_held(model, gradient):
    vocab, rows, length, pop_size = 2**14, 32, 65, 4
    full = rows * length * vocab * 4  # bytes of one member's logits
    shapes = jax.eval_shape(lambda: make_params(vocab, 8))
    tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    batch = Batch(tokens, jax.ShapeDtypeStruct((rows, length), bool))
    objective = MeanNLL(MODELS[model])
    if gradient:
        program = jax.jit(jax.grad(objective)).lower(shapes, batch).compile()
    else:
        population = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((pop_size, *x.shape), x.dtype), shapes
        )
        program = evaluation.compiled(objective, shapes, population, batch, chunk_size=1)
    held = program.memory_analysis().temp_size_in_bytes
    assert 4 * CHUNK_LOGITS <= 1.1 * held < full / 3


def test_a_population_of_a_large_vocabulary():
    population = jax.tree.map(lambda *x: jnp.stack(x), *(make_params(seed=s) for s in range(3)))
    batch = make_batch("packed")
    fitness = [
        jaxgfo.evaluate(MeanNLL(m, 2), make_params(), population, batch, chunk_size=c)
        for m in MODELS.values()
        for c in (1, 2)
    ]
    for value in fitness[1:]:
        np.testing.assert_allclose(value, fitness[0], rtol=1e-5)


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_nothing_to_predict_is_an_error(length, model):
    tokens = jnp.zeros((2, length), jnp.int32)
    batch = Batch(tokens, jnp.zeros((2, length), bool).at[:, 0].set(True))
    assert jnp.isnan(MeanNLL(model)(make_params(), batch))
    for batches in (batch, [batch, batch], []):
        with pytest.raises(ValueError, match="no token is predicted"):
            perplexity(model, make_params(), batches)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: MeanNLL(3), TypeError, "needs a function.*got int"),
        (lambda: MeanNLL(plain, 0), ValueError, "chunk_size is 0; expected at least 1"),
    ],
)
def test_what_cannot_score_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()
