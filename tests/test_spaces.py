"""What a candidate means: every space, and spaces on spaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import CONFIG
from flax import linen
from jax.extend import core as jex
from problems import assert_close, assert_equal, unchecked

from jaxgfo import Flat, Full, Select, Subspace, random_model, tree
from jaxgfo.spaces import Space
from jaxgfo.spaces.spec import parse

KEY = jax.random.key(0)
LAYERS = (0, 2, 10)  # as text, 10 would come before 2


def random_tree(shapes):
    keys = iter(jax.random.split(KEY, 64))
    return jax.tree.map(
        lambda s: jax.random.normal(next(keys), s.shape).astype(s.dtype),
        shapes,
        is_leaf=lambda s: isinstance(s, jax.ShapeDtypeStruct),
    )


def leaf(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


PARAMS = random_tree(
    {
        "embed": {"embedding": leaf(5, 3, dtype=jnp.bfloat16)},
        "layers": {
            i: {
                "attention": {"query": {"kernel": leaf(3, 4)}, "bias": leaf(dtype=jnp.float16)},
                "attention_norm": {"scale": leaf(3)},
                "mlp": {"up": {"kernel": leaf(3, 2, dtype=jnp.bfloat16)}},
            }
            for i in LAYERS
        },
        "norm": {"scale": leaf(3)},
    }
)
BUILDERS = {
    "full": Full,
    "flat": Flat,
    "select": lambda p: Select(p, "norms"),
    "select of select": lambda p: Select(Select(p, ["attention", "mlp"]), "last-2"),
    "flat of select": lambda p: Flat(Select(p, ["mlp", "*bias"])),
    "select of full": lambda p: Select(Full(p), "embeddings"),
    "subspace": lambda p: Subspace(p, 4, KEY),
    "subspace of select": lambda p: Subspace(Select(p, "norms"), 4, KEY, projection="gaussian"),
    "subspace of flat": lambda p: Subspace(Flat(Select(p, "last-1")), 4, KEY),
}


def bits(values):
    return [(x.shape, x.dtype, np.asarray(x).tobytes()) for x in jax.tree.leaves(values)]


@pytest.mark.parametrize("name", BUILDERS)
def test_start_decodes_to_the_unchanged_model_bit_for_bit(name):
    space = BUILDERS[name](PARAMS)
    assert isinstance(space, Space)
    back = jax.jit(lambda s: s.decode(s.start()))(space)
    assert jax.tree.structure(back) == jax.tree.structure(PARAMS)
    assert bits(back) == bits(PARAMS)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_space_is_a_pytree_and_new_weights_do_not_retrace(name):
    traces = []

    @jax.jit
    def decode(space, z):
        traces.append(1)
        return space.decode(z)

    space, other = (BUILDERS[name](jax.tree.map(lambda x, s=s: x + s, PARAMS)) for s in (0, 1))
    for each in (space, other):
        z = jax.tree.map(lambda x: x + jnp.ones_like(x), each.start())
        assert_close(decode(each, z), each.decode(z), rtol=1e-6, atol=1e-6)
    assert len(traces) == 1
    copied = jax.tree.map(jnp.copy, space)
    assert type(copied) is type(space)
    assert bits(copied.decode(copied.start())) == bits(PARAMS)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_population_decodes_as_its_members_do(name):
    space = BUILDERS[name](PARAMS)
    members = [
        jax.tree.map(lambda x, i=i: x + i * jnp.ones_like(x), space.start()) for i in (0, 1, 2)
    ]
    together = jax.vmap(space.decode)(jax.tree.map(lambda *x: jnp.stack(x), *members))
    one_by_one = jax.tree.map(lambda *x: jnp.stack(x), *map(space.decode, members))
    assert_close(together, one_by_one, rtol=1e-6, atol=1e-6)


def test_flat_is_the_leaves_in_order_in_the_widest_dtype():
    space = Flat({"a": jnp.bfloat16([[1, 2]]), "b": jnp.float16(3), "c": jnp.zeros((0, 2))})
    np.testing.assert_array_equal(space.start(), [1, 2, 3])
    assert space.start().dtype == jnp.float32
    decoded = space.decode(jnp.float32([4, 5.001, 6]))
    assert_equal(
        decoded, {"a": jnp.bfloat16([[4, 5]]), "b": jnp.float16(6), "c": jnp.zeros((0, 2))}
    )


def test_flat_keeps_half_precision_apart_by_at_least_fp32():
    assert Flat(jnp.zeros(2, jnp.bfloat16)).start().dtype == jnp.float32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Flat({"w": jnp.zeros(2), "mask": jnp.zeros(2, bool)}), r"real.*mask.*bool"),
        (lambda: Flat({"ids": jnp.zeros(2, jnp.int32)}), r"real.*ids.*int32"),
        (lambda: Flat({}), "no parameter"),
        (lambda: Subspace(jnp.zeros(2, jnp.int32), 2, KEY), r"real.*int32"),
        (lambda: Subspace(PARAMS, 0, KEY), "dim is 0; expected at least 1"),
        (lambda: Select(PARAMS, "nothing"), r"'nothing' matches no parameter.*norms.*embed\.emb"),
        (lambda: Select(PARAMS, ["norms", "head"]), "'head' matches no parameter"),
        (lambda: Select(PARAMS, "norms&mlp"), "'norms&mlp' matches no parameter"),
        (lambda: Select(PARAMS, "last-0"), "'last-0' matches no parameter"),
        (lambda: Select({"w": jnp.zeros(2)}, "last-1"), "'last-1' matches no parameter"),
    ],
)
def test_what_a_space_cannot_hold_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_unknown_projection_is_refused():
    with unchecked(), pytest.raises(ValueError, match="'dense'; choose 'sparse' or 'gaussian'"):
        Subspace(PARAMS, 2, KEY, projection="dense")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("norms", {f"layers.{i}.attention_norm.scale" for i in LAYERS} | {"norm.scale"}),
        ("embeddings", {"embed.embedding"}),
        ("mlp", {f"layers.{i}.mlp.up.kernel" for i in LAYERS}),
        ("attention&last-1", {"layers.10.attention.bias", "layers.10.attention.query.kernel"}),
        ("norms&last-2", {"layers.10.attention_norm.scale"}),
        ("layers.2.*.BIAS", {"layers.2.attention.bias"}),
        (
            ["*bias&layers.[23].*", "norm.*"],
            {"layers.2.attention.bias", "norm.scale"},
        ),
        ("last-99&mlp", {f"layers.{i}.mlp.up.kernel" for i in LAYERS}),
        ("*", set(tree.flat_paths(PARAMS))),
    ],
)
def test_select_finds_parts_by_group_layer_and_glob(patterns, expected):
    assert set(Select(PARAMS, patterns).start()) == expected


class Block(linen.Module):
    @linen.compact
    def __call__(self, x):
        y = linen.LayerNorm()(x)
        x = x + linen.MultiHeadDotProductAttention(num_heads=2)(y)
        return x + linen.Dense(4, name="mlp_0")(linen.LayerNorm()(x))


class Decoder(linen.Module):
    named: bool

    @linen.compact
    def __call__(self, tokens):
        x = linen.Embed(7, 4)(tokens)
        for i in range(2):
            x = Block(name=f"layers_{i}" if self.named else None)(x)
        return linen.LayerNorm(name="ln_f")(x)


@pytest.mark.parametrize(("named", "layer"), [(True, "layers_1"), (False, "Block_1")])
def test_groups_know_the_names_that_linen_gives(named, layer):
    params = Decoder(named).init(KEY, jnp.zeros((1, 3), jnp.int32))["params"]

    def found(pattern):
        return set(Select(params, pattern).start())

    norms = {f"{layer}.LayerNorm_{i}.{p}" for i in (0, 1) for p in ("scale", "bias")}
    assert found("norms&last-1") == norms
    assert found("norms") - found("last-2") == {"ln_f.scale", "ln_f.bias"}
    attention = f"{layer}.MultiHeadDotProductAttention_0"
    parts = [
        f"{attention}.{n}.{p}" for n in "query key value out".split() for p in ("kernel", "bias")
    ]
    assert found("attention&last-1") == set(parts)
    assert found("mlp&last-1") == {f"{layer}.mlp_0.kernel", f"{layer}.mlp_0.bias"}
    assert found("embeddings") == {"Embed_0.embedding"}


STACKED = random_model(CONFIG | {"num_hidden_layers": 12}, key=KEY).params


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("attention", {f"layers.*.attention.{n}.kernel" for n in "query key value out".split()}),
        ("mlp", {f"layers.*.mlp.{n}.kernel" for n in ("gate", "up", "down")}),
        ("norms", {"layers.*.attention_norm.scale", "layers.*.mlp_norm.scale", "norm.scale"}),
        ("head", {"head.kernel"}),
        ("embeddings", {"embed.embedding"}),
        ("*", set(tree.flat_paths(STACKED))),
        ("layers.*.attention.query.kernel", {"layers.*.attention.query.kernel"}),
        ("layers.3.mlp.up.*", {"layers.3.mlp.up.kernel"}),
        ("norms&last-2", {f"layers.10-11.{n}_norm.scale" for n in ("attention", "mlp")}),
        (["*.up.*&layers.[0235].*", "norm.*"], {"layers.0,2-3,5.mlp.up.kernel", "norm.scale"}),
        (["*.up.*&last-3", "*.up.*&layers.?.*"], {"layers.*.mlp.up.kernel"}),
    ],
)
def test_layers_that_are_stacked_are_chosen_by_their_number(patterns, expected):
    space = Select(STACKED, patterns)
    assert set(space.start()) == expected
    assert bits(jax.jit(lambda s: s.decode(s.start()))(space)) == bits(STACKED)


@pytest.mark.parametrize("pattern", ["layers.12.*", "last-0"])
def test_a_layer_that_is_not_there_is_refused(pattern):
    with pytest.raises(ValueError, match=r"matches no parameter.*layers\.\*\.attention\.key"):
        Select(STACKED, pattern)


@pytest.mark.parametrize(
    ("pattern", "rows"), [("last-2", [10, 11]), ("layers.[0237].*", [0, 2, 3, 7])]
)
def test_only_the_chosen_layers_move(pattern, rows):
    space = Select(STACKED, f"{pattern}&*up*")
    ((label, start),) = space.start().items()
    path, others = "layers.*.mlp.up.kernel", [i for i in range(12) if i not in rows]
    np.testing.assert_array_equal(start, tree.flat_paths(STACKED)[path][np.array(rows)])
    new = jax.random.normal(KEY, (3, *start.shape))
    after = tree.flat_paths(jax.vmap(space.decode)({label: new}))
    for name, before in tree.flat_paths(STACKED).items():
        for member in range(3):
            moved, still = after[name][member], before
            if name == path:
                np.testing.assert_array_equal(moved[np.array(rows)], new[member])
                moved, still = moved[np.array(others)], before[np.array(others)]
            np.testing.assert_array_equal(moved, still)


def test_only_what_is_chosen_moves():
    space = Select(PARAMS, ["norms", "last-1&mlp"])
    start = space.start()
    before = tree.flat_paths(PARAMS)
    after = tree.flat_paths(space.decode({p: x + jnp.ones_like(x) for p, x in start.items()}))
    assert list(after) == list(before)
    for path, x in after.items():
        assert (bits(x) == bits(before[path])) == (path not in start)
        if path in start:
            assert_equal(x, before[path] + jnp.ones_like(x))


def sizes(jaxpr):
    """Sizes of everything a program computes, inner programs included."""
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars if hasattr(v.aval, "size"))
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda v: isinstance(v, jex.Jaxpr | jex.ClosedJaxpr)
        ):
            if isinstance(value, jex.Jaxpr | jex.ClosedJaxpr):
                yield from sizes(getattr(value, "jaxpr", value))


@pytest.mark.parametrize("projection", ["sparse", "gaussian"])
@pytest.mark.parametrize("members", [None, 3])
def test_the_projection_is_never_stored(projection, members):
    space = Subspace({"w": jnp.zeros((16, 8))}, 50, KEY, projection=projection)
    decode = space.decode if members is None else jax.vmap(space.decode)
    z = jnp.zeros((50,) if members is None else (members, 50))
    largest = max(sizes(jax.make_jaxpr(decode)(z).jaxpr))
    assert 128 * (members or 1) <= largest <= 2 * 128 * (members or 1)  # dim * size is 6400
    assert sum(jnp.size(x) for x in jax.tree.leaves(space)) == 128 + 2  # weights, key, scale


def projected(projection, dim=8, size=4096, key=KEY, **fields):
    """P (dim, size), a direction a row."""
    space = Subspace(jnp.zeros(size), dim, key, projection=projection, **fields)
    return np.asarray(jax.vmap(space.decode)(jnp.eye(dim)), np.float64)


@pytest.mark.parametrize("projection", ["sparse", "gaussian"])
def test_parameters_move_by_unit_variance_in_directions_that_do_not_agree(projection):
    dim, size = 8, 4096
    p = projected(projection)
    rows = np.square(p).sum(axis=0)  # the squared length of a parameter's row of P
    if projection == "sparse":
        np.testing.assert_array_equal(rows, 1)
    else:  # chi-squared with dim degrees of freedom / dim; five standard errors
        assert abs(rows.mean() - 1) < 5 * np.sqrt(2 / (dim * size))
        assert abs(rows.var() - 2 / dim) < 0.05
    # P'P / size is I / dim: entries are means of `size` products of variance at most 2 / dim^2
    # (gaussian) or 1 / dim (sparse).
    spread = np.sqrt((2 / dim**2 if projection == "gaussian" else 1 / dim) / size)
    np.testing.assert_allclose(p @ p.T / size, np.eye(dim) / dim, atol=5 * spread)
    assert abs(p.mean()) < 5 / np.sqrt(dim * dim * size)  # signs are fair


@pytest.mark.parametrize("projection", ["sparse", "gaussian"])
def test_the_map_is_linear_and_drawn_from_the_key(projection):
    p = projected(projection)
    np.testing.assert_array_equal(projected(projection), p)
    assert np.mean(projected(projection, key=jax.random.key(1)) != p) > 0.1
    np.testing.assert_allclose(projected(projection, scale=3.0), 3 * p, rtol=1e-6)
    z = np.random.default_rng(0).normal(size=8)
    base = jnp.linspace(-1, 1, 4096)
    moved = Subspace(base, 8, KEY, 0.5, projection).decode(jnp.float32(z))
    np.testing.assert_allclose(moved, np.asarray(base, np.float64) + 0.5 * (z @ p), atol=1e-5)


def test_leaves_of_a_subspace_move_independently():
    space = Subspace({"a": jnp.zeros(512), "b": jnp.zeros(512)}, 64, KEY)
    moved = space.decode(jax.random.normal(KEY, (64,)))
    assert abs(np.corrcoef(moved["a"], moved["b"])[0, 1]) < 5 / np.sqrt(512)


def test_a_traced_scale_sweeps():
    def move(scale):
        return Subspace(jnp.zeros(3), 2, KEY, scale).decode(jnp.ones(2))

    swept = jax.vmap(move)(jnp.float32([1, 2]))
    np.testing.assert_array_equal(swept[1], 2 * swept[0])


@pytest.mark.parametrize(
    ("spec", "kind", "size"),
    [
        ("full", Full, None),
        ("flat", Flat, tree.size(PARAMS)),
        ("flat:norms", Flat, 12),
        ("flat:norms&last-1,embeddings", Flat, 18),
        ("select:norms", Select, 12),
        ("select:norm.*,layers.0.*norm.scale", Select, 6),
        ("subspace:7", Subspace, 7),
        ("subspace:7:attention", Subspace, 7),
    ],
)
def test_spec_names_a_space(spec, kind, size):
    space = parse(spec, PARAMS, KEY)
    assert type(space) is kind
    assert tree.size(space.start()) == (size or tree.size(PARAMS))
    assert bits(space.decode(space.start())) == bits(PARAMS)


def test_spec_restricts_a_subspace_to_its_part():
    space = parse("subspace:3:norms", PARAMS, KEY)
    assert tree.flat_paths(space.inner.start()).keys() == Select(PARAMS, "norms").start().keys()


@pytest.mark.parametrize(
    "spec",
    "fullest lowrank:2 select select: full:norms subspace subspace:x subspace:-3".split()
    + "subspace:3:a:b flat:a:b :".split(),
)
def test_unknown_spec_is_refused_with_what_there_is(spec):
    with pytest.raises(ValueError, match=r"(is not known|matches no parameter).*norms"):
        parse(spec, PARAMS, KEY)


@pytest.mark.parametrize("size", [3, 5])
def test_flat_refuses_a_vector_of_another_length(size):
    with pytest.raises(ValueError, match=rf"z has shape \({size},\); expected \(4,\)"):
        Flat({"a": jnp.zeros(4)}).decode(jnp.zeros(size))
