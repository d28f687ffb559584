"""The decoder's parts: rotary positions, attention, activations, and how they are stacked."""

import math

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoConfig

from jaxgfo.models import attention
from jaxgfo.models.activations import ACTIVATIONS
from jaxgfo.models.model import build
from jaxgfo.models.rope import from_parameters, rotate

THETA, DIM = 1e4, 12
RNG = np.random.default_rng(0)


# Rotary positions


def plain(pair):
    """Radians that a pair turns from one position to the next (RoFormer, section 3.4)."""
    return 1 / THETA ** (2 * pair / DIM)


def rope_of(kind, longest=64, **given):
    return from_parameters({"rope_type": kind, "rope_theta": THETA} | given, DIM, longest)


def turned(rope, positions, length):
    """Frequencies that a table was made with, from the sine and cosine of position 1."""
    cos, sin = rope.table(jnp.asarray(positions), length)
    return np.arctan2(np.asarray(sin), np.asarray(cos)), np.hypot(cos, sin)


def test_default_positions_turn_by_powers_of_theta():
    angles, scale = turned(rope_of("default"), [1], 64)
    np.testing.assert_allclose(angles[0], [plain(i) for i in range(6)], rtol=1e-6)
    np.testing.assert_allclose(scale, 1, rtol=1e-6)
    cos, sin = rope_of("default").table(jnp.arange(50), 50)
    expected = np.arange(50)[:, None] * np.asarray([plain(i) for i in range(6)])
    np.testing.assert_allclose(cos, np.cos(expected), atol=1e-5)
    np.testing.assert_allclose(sin, np.sin(expected), atol=1e-5)


def test_linear_positions_are_divided():
    angles, _ = turned(rope_of("linear", factor=4.0), [4], 64)
    np.testing.assert_allclose(angles[0], [plain(i) for i in range(6)], rtol=1e-6)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 256])
def test_dynamic_positions_grow_theta_with_the_length(length):
    angles, _ = turned(rope_of("dynamic", factor=2.0), [1], length)
    # NTK-aware scaling with the factor that this length needs; none up to the usual length.
    stretch = 1 if length <= 64 else 2.0 * length / 64 - (2.0 - 1)
    theta = THETA * stretch ** (DIM / (DIM - 2))
    np.testing.assert_allclose(angles[0], [theta ** (-2 * i / DIM) for i in range(6)], rtol=1e-5)


def test_llama3_positions_keep_fast_pairs_and_stretch_slow_ones():
    old, low, high, factor = 512, 1.0, 4.0, 8.0
    expected = []
    for pair in range(6):
        wavelength = 2 * math.pi / plain(pair)
        if wavelength < old / high:
            expected.append(plain(pair))
        elif wavelength > old / low:
            expected.append(plain(pair) / factor)
        else:
            share = (old / wavelength - low) / (high - low)
            expected.append((1 - share) * plain(pair) / factor + share * plain(pair))
    rope = rope_of(
        "llama3",
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position_embeddings=old,
    )
    angles, _ = turned(rope, [1], 4096)
    np.testing.assert_allclose(angles[0], expected, rtol=1e-6)
    unchanged = np.isclose(expected, [plain(i) for i in range(6)], rtol=1e-9)
    assert 0 < unchanged.sum() < 5  # the three cases are all met


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize("given", [{}, {"attention_factor": 1.7}, {"mscale": 2.0}, "both"])
def test_yarn_positions_blend_by_the_turns_that_a_pair_makes(truncate, given):
    old, factor, fast, slow = 256, 4.0, 24.0, 2.0
    given = {"mscale": 1.5, "mscale_all_dim": 0.5} if given == "both" else given

    def pair_of(turns):  # the pair, as a fraction, that makes so many turns in the old context
        return DIM * math.log(old / (2 * math.pi * turns)) / (2 * math.log(THETA))

    first, last = pair_of(fast), pair_of(slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, DIM - 1)
    expected = []
    for pair in range(6):
        ramp = min(max((pair - first) / (last - first), 0), 1)
        expected.append((1 - ramp) * plain(pair) + ramp * plain(pair) / factor)
    rope = rope_of(
        "yarn",
        factor=factor,
        beta_fast=fast,
        beta_slow=slow,
        truncate=truncate,
        original_max_position_embeddings=old,
        **given,
    )
    angles, scale = turned(rope, [1], 1024)
    np.testing.assert_allclose(angles[0], expected, rtol=1e-6)
    heat = 0.1 * math.log(factor) + 1  # the paper's square root of 1 / t
    if "mscale_all_dim" in given:
        heat = (0.15 * math.log(factor) + 1) / (0.05 * math.log(factor) + 1)
    np.testing.assert_allclose(scale, given.get("attention_factor", heat), rtol=1e-6)


@pytest.mark.parametrize("length", [1, 32, 33, 128])
def test_longrope_positions_change_beyond_the_old_length(length):
    short, long = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], [1.0, 2.0, 3.0, 5.0, 8.0, 13.0]
    rope = rope_of(
        "longrope",
        longest=128,
        short_factor=short,
        long_factor=long,
        original_max_position_embeddings=32,
    )
    angles, scale = turned(rope, [1], length)
    divisor = long if length > 32 else short
    np.testing.assert_allclose(angles[0], [plain(i) / divisor[i] for i in range(6)], rtol=1e-6)
    np.testing.assert_allclose(scale, math.sqrt(1 + math.log(128 / 32) / math.log(32)), rtol=1e-6)


def test_every_row_has_a_table_for_its_own_length():
    rope = rope_of("dynamic", factor=2.0)
    together = rope.table(jnp.arange(5), jnp.asarray([[10], [100]]))
    for row, length in enumerate((10, 100)):
        for many, one in zip(together, rope.table(jnp.arange(5), length)):
            np.testing.assert_allclose(many[row], one, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rope_type": "spiral"}, "rope_type is 'spiral'; supported: 'default'"),
        ({"rope_type": "linear"}, "rope_parameters lack factor"),
        ({"rope_type": "longrope", "short_factor": [1.0] * 6}, "rope_parameters lack long_factor"),
        ({"rope_type": "linear", "factor": 2.0, "twist": 1}, "'linear' have twist, which is not"),
    ],
)
def test_rotary_parameters_that_are_not_known_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        rope_of(given.pop("rope_type"), **given)


def test_rotating_keeps_norms_and_leaves_the_rest_alone():
    x = RNG.normal(size=(2, 7, 3, 10)).astype(np.float32)
    share = {"rope_theta": THETA, "partial_rotary_factor": 0.6}
    with pytest.raises(ValueError, match=r"partial_rotary_factor is 0\.6"):
        from_parameters(share, 10, 64)
    rope = from_parameters(share, 10, 64, partial=True)
    cos, sin = rope.table(jnp.arange(7), 7)
    out = np.asarray(rotate(jnp.asarray(x), cos, sin))
    assert rope.dim == 6
    np.testing.assert_array_equal(out[..., 6:], x[..., 6:])
    np.testing.assert_array_equal(out[:, 0], x[:, 0])  # position 0 turns nothing
    for i in range(3):  # pairs as complex numbers, turned by a complex one
        pair = x[..., i] + 1j * x[..., i + 3]
        phase = np.exp(1j * np.arange(7) * THETA ** (-2 * i / 6))[:, None]
        expected = pair * phase
        np.testing.assert_allclose(out[..., i], expected.real, atol=1e-5)
        np.testing.assert_allclose(out[..., i + 3], expected.imag, atol=1e-5)
    norms = (np.linalg.norm(a, axis=-1) for a in (out, x))
    np.testing.assert_allclose(*norms, rtol=1e-5)


def test_scores_depend_on_the_distance_alone():
    query, key = jnp.asarray(RNG.normal(size=(2, 1, 1, 1, DIM)), jnp.float32)
    rope = rope_of("default")

    def score(at, other):
        turn = [
            rotate(x, *rope.table(jnp.asarray([p]), 64)) for x, p in ((query, at), (key, other))
        ]
        return jnp.vdot(*turn).item()

    assert score(9, 4) == pytest.approx(score(25, 20), rel=1e-4)
    assert abs(score(9, 4) - score(9, 5)) > 1e-2


# Attention


def heads_of(length, heads, groups, width, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(2, length, n, width) for n in (heads, groups, groups)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def plain_attention(query, key, value, scale, window, cap):
    """Softmax attention, one query after another."""
    out = np.zeros(query.shape)
    share = query.shape[2] // key.shape[2]
    for batch, row, head in np.ndindex(query.shape[:3]):
        first = 0 if window is None else max(0, row - window + 1)
        keys, values = (x[batch, first : row + 1, head // share] for x in (key, value))
        scores = scale * keys.astype(np.float64) @ query[batch, row, head]
        scores = scores if cap is None else cap * np.tanh(scores / cap)
        weights = np.exp(scores - scores.max())
        out[batch, row, head] = weights / weights.sum() @ values
    return out


def by_mask(query, key, value, *, scale, window, cap):
    """`masked` on the whole square at once."""
    positions = jnp.arange(query.shape[1])
    mask = attention.visible(positions, positions, window)
    return attention.masked(query, key, value, mask, scale=scale, cap=cap)


def of_library(query, key, value, *, scale, window, cap):
    assert cap is None
    return attention.library(query, key, value, scale=scale, window=window)


FORMS = {"causal": attention.causal, "masked": by_mask, "library": of_library}
LENGTHS = [1, 63, 64, 65, 130, 257]
WINDOWED = [(length, window) for length in LENGTHS for window in (None, 1, 7, 64, 100)]


@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.parametrize(("length", "window"), WINDOWED)
def test_every_form_of_attention_is_the_plain_one(length, window, cap):
    query, key, value = heads_of(length, 4, 2, 6)
    expected = plain_attention(query, key, value, 0.4, window, cap)
    for name, form in FORMS.items():
        if name != "library" or cap is None:
            options = {"scale": 0.4, "window": window, "cap": cap}
            out = form(*map(jnp.asarray, (query, key, value)), **options)
            np.testing.assert_allclose(out, expected, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (3, 3), (6, 2), (4, 1)])
def test_heads_share_keys_in_order(heads, groups):
    arrays = heads_of(9, heads, groups, 5)
    expected = plain_attention(*arrays, 1.0, 4, None)
    for name, form in FORMS.items():
        out = form(*map(jnp.asarray, arrays), scale=1.0, window=4, cap=None)
        np.testing.assert_allclose(out, expected, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(("length", "window", "cap"), [(130, 7, None), (257, None, None)])
def test_gradients_of_every_form_agree(length, window, cap):
    arrays = [jnp.asarray(x) for x in heads_of(length, 4, 2, 6)]
    weight = jnp.asarray(np.random.default_rng(1).normal(size=arrays[0].shape), jnp.float32)

    def gradients(form):
        def loss(*arrays):
            return jnp.vdot(form(*arrays, scale=0.4, window=window, cap=cap), weight)

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arrays)

    expected = gradients(of_library)
    for form in (attention.causal, by_mask):
        for ours, theirs in zip(gradients(form), expected):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_gradients_with_a_cap_are_those_of_differences():
    arrays = [jnp.asarray(x) for x in heads_of(65, 2, 1, 4)]

    def loss(form, *arrays):
        return jnp.sum(jnp.sin(form(*arrays, scale=0.4, window=7, cap=1.5)))

    ours = jax.grad(lambda *a: loss(attention.causal, *a), argnums=(0, 1, 2))(*arrays)
    steps = [jnp.asarray(x) for x in heads_of(65, 2, 1, 4, seed=1)]
    slope = sum(jnp.vdot(g, s) for g, s in zip(ours, steps))
    wide = [np.asarray(x, np.float64) for x in arrays]

    def plain_loss(size):
        moved = [x + size * np.asarray(s, np.float64) for x, s in zip(wide, steps)]
        return np.sin(plain_attention(*moved, 0.4, 7, 1.5)).sum()

    difference = (plain_loss(1e-5) - plain_loss(-1e-5)) / 2e-5
    assert slope == pytest.approx(difference, rel=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_mixes_in_single(dtype):
    arrays = [jnp.asarray(x, dtype) for x in heads_of(130, 4, 2, 8)]
    wide = [np.asarray(x, np.float32) for x in arrays]
    expected = plain_attention(*wide, 0.4, None, None)
    for name, form in FORMS.items():
        out = form(*arrays, scale=0.4, window=None, cap=None)
        assert out.dtype == dtype
        np.testing.assert_allclose(np.asarray(out, np.float32), expected, atol=0.03, err_msg=name)


@pytest.mark.parametrize(
    ("dtype", "width", "ampere", "chosen"),
    [
        ("bfloat16", 64, True, "cudnn"),
        ("float16", 128, True, "cudnn"),
        ("bfloat16", 8, True, "cudnn"),
        ("bfloat16", 60, True, "xla"),
        ("bfloat16", 136, True, "xla"),
        ("bfloat16", 64, False, "xla"),
        ("float32", 64, True, "xla"),
    ],
)
@pytest.mark.parametrize("window", [None, 3])
def test_a_gpu_takes_cudnn_where_it_applies(dtype, width, ampere, chosen, window, monkeypatch):
    asked = []

    def dot_product_attention(query, key, value, **options):
        asked.append(options)
        return query

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(attention, "_on_ampere", lambda: ampere)
    monkeypatch.setattr(jax.nn, "dot_product_attention", dot_product_attention)
    arrays = [jnp.zeros((1, 5, n, width), dtype) for n in (4, 2, 2)]
    attention.causal(*arrays, scale=0.5, window=window)
    attention.causal(*arrays, scale=0.5, window=window, cap=2.0)  # the library has no cap
    (options,) = asked
    assert options["implementation"] == chosen
    assert options["is_causal"]
    assert options["scale"] == 0.5
    assert options["local_window_size"] == (None if window is None else (2, 0))


@pytest.mark.parametrize(
    ("platform", "capability", "expected"),
    [("gpu", "8.0", True), ("gpu", "7.5", False), ("gpu", "gfx90a", False), ("cpu", None, False)],
)
def test_ampere_is_told_by_the_capability(platform, capability, expected, monkeypatch):
    class Device:
        pass

    device = Device()
    device.platform = platform
    if capability is not None:
        device.compute_capability = capability
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert attention._on_ampere.__wrapped__() is expected


# Activations


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    from transformers.activations import ACT2FN

    x = np.linspace(-12, 12, 481, dtype=np.float32)
    expected = ACT2FN[name](torch.tensor(x)).numpy()
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_of_activations_are_finite(name):
    x = jnp.asarray([-1e4, -30.0, -3.0, -1.0, 0.0, 0.5, 6.0, 30.0, 1e4])
    assert jnp.isfinite(jax.vmap(jax.grad(ACTIVATIONS[name]))(x)).all()
    half = ACTIVATIONS[name](x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


# The stack

SMALL = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def decoder_of(family, **settings):
    """A decoder and the shapes of its parameters."""
    config = AutoConfig.for_model(family, **SMALL | settings)
    _, shapes, decoder, _ = build(config)
    return decoder, shapes


def equations(jaxpr):
    """How many there are, those inside of others included."""
    inner = jax.extend.core.jaxprs_in_params
    return sum(1 + sum(map(equations, inner(eqn.params))) for eqn in jaxpr.eqns)


@pytest.mark.parametrize("method", ["apply", "step", "gradient"])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "smollm3"])
def test_the_program_does_not_grow_with_the_depth(family, method):
    def size(layers):
        types = ["full_attention", "sliding_attention"] * (layers // 2)
        own = {"gemma3_text": {"layer_types": types, "sliding_window": 5}}
        own["smollm3"] = {"no_rope_layers": [0, 1] * (layers // 2)}
        decoder, shapes = decoder_of(family, num_hidden_layers=layers, **own.get(family, {}))
        rows = jax.ShapeDtypeStruct((2, 9), jnp.int32)
        one = jax.ShapeDtypeStruct((2,), jnp.int32)
        if method == "apply":
            return equations(jax.make_jaxpr(decoder.apply)(shapes, rows).jaxpr)
        if method == "step":
            cache = jax.eval_shape(lambda *args: decoder.prefill(*args, 12), shapes, rows, one)[1]
            return equations(jax.make_jaxpr(decoder.step)(shapes, one, one, cache).jaxpr)
        gradient = jax.grad(lambda params, rows: jnp.sum(decoder.apply(params, rows)))
        return equations(jax.make_jaxpr(gradient)(shapes, rows).jaxpr)

    assert size(2) == size(24) > 50


@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt_neo"])
def test_a_sequence_longer_than_the_learnt_positions_is_refused(family):
    config = AutoConfig.for_model(family, vocab_size=31, max_position_embeddings=64)
    _, shapes, decoder, _ = build(config)
    longest = decoder.config.max_length
    rows = [jax.ShapeDtypeStruct((1, n), jnp.int32) for n in (longest, longest + 1)]
    assert jax.eval_shape(decoder.apply, shapes, rows[0]).shape == (1, longest, 31)
    message = f"a sequence of {longest + 1} tokens; this model has {longest} positions"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(decoder.apply, shapes, rows[1])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text", "smollm3"])
def test_a_model_in_half_precision_gives_logits_in_single(family):
    decoder, shapes = decoder_of(family, num_hidden_layers=2)
    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), shapes)
    rows = jax.ShapeDtypeStruct((2, 9), jnp.int32)
    with jax.numpy_dtype_promotion("strict"):
        assert jax.eval_shape(decoder.apply, half, rows).dtype == jnp.float32
        assert jax.eval_shape(decoder.features, half, rows).dtype == jnp.bfloat16


def test_no_logit_sees_what_comes_later():
    decoder, shapes = decoder_of("gemma3_text", num_hidden_layers=2, sliding_window=5)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)
    tokens = jnp.asarray(rng.integers(0, 31, (2, 70)), jnp.int32)
    apply = jax.jit(decoder.apply)
    changed = apply(params, tokens.at[:, 40:].set(3))
    np.testing.assert_array_equal(apply(params, tokens)[:, :40], changed[:, :40])
