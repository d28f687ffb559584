"""Low-rank and seeded members equal the same members in full, in models that know of neither."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from problems import unchecked
from variants import VARIANTS

import jaxgfo
from jaxgfo import LowRank, Noise, Seeded, tree
from jaxgfo.low_rank import Factored, apply
from jaxgfo.population import member, signs

KEY = jax.random.key(3)
FAMILIES = {config["model_type"]: name for name, config in reversed(VARIANTS.items())}


def kinds(params, **low_rank):
    yield LowRank(params, KEY, 0.05, 4, **low_rank)
    yield Seeded(params, KEY, 0.05, 4)


def assert_members_agree(
    function, params, *args, rtol=2e-4, members=range(4), seeded=True, **low_rank
):
    """Every member, as it is evaluated, against its parameters in full; warnings are errors."""
    plain = jax.jit(function)
    base = plain(params, *args)
    for population in [*kinds(params, **low_rank)][: 2 if seeded else 1]:

        @jax.jit
        def evaluated(population, index):
            drawn = population.draw(index // 2, population.table())
            lazy = population.weights(drawn, signs(index))
            return apply(function, lazy, *args, fallback="refuse")

        for index in members:
            ours = evaluated(population, jnp.asarray(index))
            full = plain(jax.jit(member)(population, index), *args)
            close = {"rtol": rtol, "atol": rtol * float(jnp.abs(full).max())}
            np.testing.assert_allclose(ours, full, **close)
            assert index == 0 or not np.allclose(full, base, **close)


@pytest.mark.slow
# The others are made of the same parts as these.
@pytest.mark.parametrize(
    "family", "llama gemma2 gemma3_text phi3 olmo2 gpt2 gpt_neo gpt_neox opt".split()
)
def test_families_of_decoders(family):
    with jax.numpy_dtype_promotion("standard"):
        model = jaxgfo.random_model(VARIANTS[FAMILIES[family]], key=KEY)
    tokens = jax.random.randint(KEY, (2, 12), 0, model.vocab_size)
    # Seeded noise knows nothing of a use but scan: one family shows that.
    assert_members_agree(
        model.apply, model.params, tokens, rank=2, members=[3], seeded=family == "llama"
    )


class Mixer(nnx.Module):
    """An MLP-mixer: tokens and channels mixed in turn."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (4, 4), strides=(4, 4), rngs=rngs)
        self.tokens = nnx.Linear(16, 16, rngs=rngs)
        self.channels = nnx.Linear(8, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, images):
        x = self.stem(images).reshape(images.shape[0], 16, 8)
        x = x + jnp.swapaxes(self.tokens(jnp.swapaxes(self.norm(x), 1, 2)), 1, 2)
        x = x + jax.nn.gelu(self.channels(x))
        return self.head(x.mean(axis=1))


def test_a_mixer_with_a_convolution():
    images = jax.random.normal(KEY, (2, 16, 16, 3))
    net = jaxgfo.functional(Mixer(nnx.Rngs(0)))
    assert_members_agree(net.apply, net.params, images)


class Recurrent(linen.Module):
    """A GRU language model with a tied head."""

    @linen.compact
    def __call__(self, tokens):
        embed = linen.Embed(11, 8)
        x = linen.RNN(linen.GRUCell(8))(embed(tokens))
        return embed.attend(x)


class Heads(linen.Module):
    """Kernels of three axes: attention, and a general dense layer; rematerialised."""

    @linen.compact
    def __call__(self, x):
        x = linen.MultiHeadDotProductAttention(num_heads=2)(x, x)
        x = linen.remat(linen.DenseGeneral)((4, 3))(x)
        return linen.DenseGeneral(5, axis=(-2, -1))(jax.nn.relu(x))


class Scanned(linen.Module):
    """Layers under scan, computed in bf16."""

    @linen.compact
    def __call__(self, x):
        def body(layer, x, _):
            return jax.nn.silu(layer(x)) + x, None

        layers = linen.scan(
            body, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        return layers(linen.Dense(8), x, None)[0]


@pytest.mark.parametrize(
    "module", [Recurrent(), Heads(), Scanned()], ids=lambda m: type(m).__name__
)
def test_linen_modules(module):
    shape = (2, 7) if isinstance(module, Recurrent) else (2, 7, 8)
    inputs = jax.random.normal(KEY, shape)
    if isinstance(module, Recurrent):
        inputs = jax.random.randint(KEY, shape, 0, 11)
    with jax.numpy_dtype_promotion("standard"):
        net = jaxgfo.functional(module, module.init(KEY, inputs))
        assert_members_agree(net.apply, net.params, inputs)


def einsum(params, x):
    q = jnp.einsum("bld,dhk->blhk", x, params["q"])
    k = jnp.einsum("bld,dhk->blhk", x, params["k"])  # one group of keys for two heads
    k = jnp.repeat(k, 2, axis=2)
    return jnp.einsum("blhk,bmhk->bhlm", q, k)


FUSED = {"w": jax.random.normal(KEY, (6, 9))}
FUNCTIONS = {
    "einsum with grouped heads": (
        einsum,
        {"q": jnp.ones((8, 4, 3)), "k": jnp.ones((8, 2, 3))},
        jax.random.normal(KEY, (2, 5, 8)),
    ),
    "fused and split": (
        lambda p, x: sum(x @ w * (i + 1) for i, w in enumerate(jnp.split(p["w"], 3, axis=1))),
        FUSED,
        jnp.ones((2, 6)),
    ),
    "joined": (
        lambda p, x: x @ jnp.concatenate([p["w"], 2.0 * p["w"], -p["w"] / 3.0], axis=1),
        FUSED,
        jnp.ones((2, 6)),
    ),
    "joined along the rows": (
        lambda p, x: x @ jnp.concatenate([p["w"], jnp.ones((1, 9))]),
        FUSED,
        jnp.ones((2, 7)),
    ),
    "reshaped": (
        lambda p, x: jnp.einsum("bxy,xyk->bk", x, p["w"].reshape(2, 3, 9)),
        FUSED,
        jnp.ones((2, 2, 3)),
    ),
    "the first operand": (lambda p, x: p["w"].T @ x, FUSED, jnp.ones((6, 2))),
    "some rows and columns": (
        lambda p, x: x @ jax.lax.dynamic_slice(p["w"], (x.shape[0], 0), (3, 9))[:, 1:7:2],
        FUSED,
        jnp.ones((2, 3)),
    ),
    "columns looked up": (lambda p, i: p["w"][:, i], FUSED, jnp.array([3, 1])),
    "one entry looked up": (lambda p, i: p["w"][i], FUSED, jnp.array(4)),
    "sum and difference": (
        lambda p, x: x @ (p["w"] + p["w"]) + x @ (1.0 - p["w"]),
        FUSED,
        jnp.ones((2, 6)),
    ),
    "a branch": (
        lambda p, x: jax.lax.cond(x[0, 0] > 0, lambda: x @ p["w"], lambda: x[:, :1] * p["w"][0]),
        FUSED,
        jnp.ones((2, 6)),
    ),
    "a loop": (
        lambda p, x: jax.lax.fori_loop(0, 3, lambda i, y: jnp.tanh(y @ p["w"][:, :6]), x),
        FUSED,
        jnp.ones((2, 6)),
    ),
    "a batch of copies": (
        lambda p, x: jnp.einsum("bi,bij->bj", x, jnp.broadcast_to(p["w"], (2, 6, 9))),
        FUSED,
        jnp.ones((2, 6)),
    ),
    "cast to bf16 and back": (
        lambda p, x: x @ p["w"].astype(jnp.float32),
        {"w": FUSED["w"].astype(jnp.bfloat16)},
        jnp.ones((2, 6)),
    ),
}


def test_a_high_rank_is_a_product_of_its_own():
    params = {"w": jax.random.normal(KEY, (6, 9))}
    assert_members_agree(lambda p, x: jnp.tanh(x @ p["w"]), params, jnp.ones((2, 6)), rank=12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_uses_of_a_weight(name):
    function, params, x = FUNCTIONS[name]
    rtol = 2e-2 if "bf16" in name else 2e-4  # members in full round to bf16, ours do not
    assert_members_agree(function, params, x, rank=3, rtol=rtol)


def test_a_use_without_a_rule():
    params = {"w": jnp.ones((300, 300))}

    def function(params, x):
        return x @ jnp.exp(params["w"])

    x = jnp.ones((2, 300))
    objective = lambda p, x: function(p, x).mean()  # noqa: E731
    population = LowRank(params, KEY, 0.05, 4)
    with pytest.warns(UserWarning, match=r"w float32\[300, 300\] is used in 'exp', which has no"):
        found = jaxgfo.evaluate(objective, params, population, x)
    full = [function(member(population, i), x).mean() for i in range(4)]
    np.testing.assert_allclose(found, full, rtol=1e-5)
    refusing = LowRank(params, KEY, 0.05, 4, fallback="refuse")
    with pytest.raises(NotImplementedError, match="fallback='materialise' computes it for every"):
        jaxgfo.evaluate(lambda p, x: objective(p, x), params, refusing, x)
    with warnings.catch_warnings():  # nobody minds a vector or a small matrix
        warnings.simplefilter("error")
        small = {"w": jnp.ones((3, 3))}
        jaxgfo.evaluate(objective, small, LowRank(small, KEY, 0.05, 4), jnp.ones((2, 3)))


@pytest.mark.parametrize(
    ("pop_size", "chunk_size"), [(2, 1), (2, 100), (5, 2), (5, 3), (8, 1), (8, 4)]
)
def test_fitness_of_every_member_whatever_the_chunk(pop_size, chunk_size):
    params = {"w": jnp.ones((5, 4)), "b": jnp.ones(4)}

    def objective(params, x):
        return jnp.sum(jnp.sin(x @ params["w"] + params["b"]))

    x = jax.random.normal(KEY, (3, 5))
    for cls in (LowRank, Seeded):
        population = cls(params, KEY, 0.1, pop_size)
        found = jaxgfo.evaluate(objective, params, population, x, chunk_size=chunk_size)
        full = [objective(member(population, i), x) for i in range(pop_size)]
        np.testing.assert_allclose(found, full, rtol=1e-5)
        assert len({float(f) for f in full}) == pop_size


def test_layers_of_a_decoder_stay_in_one_loop():
    # The program has no member's weights: no array of the size of a stacked leaf but the leaf.
    with jax.numpy_dtype_promotion("standard"):
        model = jaxgfo.random_model(VARIANTS[FAMILIES["llama"]], key=KEY)
    population = LowRank(model.params, KEY, 0.05, 4)

    def run(z, tokens):
        return apply(model.apply, z, tokens, fallback="refuse")

    lazy = population.weights(population.draw(jnp.asarray(0), None), jnp.ones(()))
    assert any(isinstance(x, Factored) for x in jax.tree.leaves(lazy, is_leaf=_is_factored))
    text = str(jax.make_jaxpr(run)(lazy, jnp.zeros((1, 4), jnp.int32)))
    assert text.count("scan[") == 1


def _is_factored(x):
    return isinstance(x, Factored)


@pytest.mark.parametrize("kind", ["normal", "signs", "table"])
def test_the_sum_over_members_is_that_of_their_noise(kind):
    params = {
        "w": jnp.zeros((5, 4)),
        "b": jnp.zeros(3),
        "layers": {"*": {"w": jnp.zeros((2, 3, 2))}},
    }
    weights = jax.random.normal(KEY, (7,))
    for cls in (LowRank, Seeded):
        population = cls(params, KEY, 0.5, 7, noise=Noise(kind))
        members = [jax.jit(member)(population, i) for i in range(7)]
        plain = jax.tree.map(lambda *x: sum(w * m for w, m in zip(weights, x)) / 0.5, *members)
        total = population.contract(weights)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), total, plain
        )


@pytest.mark.parametrize(("cls", "module"), [(LowRank, "low_rank"), (Seeded, "seeded")])
def test_a_sum_in_groups_is_the_same(monkeypatch, cls, module):
    params, weights = {"w": jnp.zeros((50, 40))}, jax.random.normal(KEY, (9,))
    population = cls(params, KEY, 0.5, 9)
    whole = population.contract(weights)
    for drawn in (0, 400, 6000):  # one or several at a time, and a last group that is not full
        monkeypatch.setattr(f"jaxgfo.population.{module}.DRAWN", drawn)
        found = population.contract(weights)["w"]
        np.testing.assert_allclose(found, whole["w"], rtol=1e-4, atol=1e-5)


GENERATORS = ["threefry2x32", "threefry4x32", "rbg", "unsafe_rbg"]


@pytest.mark.parametrize(
    ("cls", "kind", "generator"),
    [
        (Seeded, "normal", "threefry2x32"),
        (Seeded, "signs", "threefry4x32"),
        (Seeded, "table", "rbg"),
        (Seeded, "signs", "unsafe_rbg"),
        (LowRank, "signs", "threefry2x32"),
        (LowRank, "table", "threefry4x32"),
        (LowRank, "normal", "rbg"),
        (LowRank, "table", "unsafe_rbg"),
    ],
)
def test_members_are_scored_with_any_noise(cls, kind, generator):
    params = {"layers": {"*": {"w": jnp.ones((2, 3, 3))}}, "b": jnp.ones(3)}
    population = cls(params, KEY, 0.1, 5, noise=Noise(kind, generator))

    def loss(params, x):
        x = jax.lax.scan(lambda x, w: (x @ w, None), x, params["layers"]["*"]["w"])[0]
        return jnp.mean(x + params["b"])

    x = jnp.ones((2, 3))
    found = jaxgfo.evaluate(loss, params, population, x, chunk_size=4)
    scored = jax.jit(lambda index: loss(member(population, index), x))
    np.testing.assert_allclose(found, [scored(jnp.asarray(i)) for i in range(5)], rtol=1e-5)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("kind", ["normal", "signs", "table"])
def test_noise_is_standard_and_the_same_wherever_it_is_drawn(kind, generator):
    noise = Noise(kind, generator)
    table, keys = noise.table(KEY), jax.random.split(KEY, 6)
    alone = jnp.stack([noise.draw(k, (3, 5000), table) for k in keys])
    mapped = jax.jit(jax.vmap(lambda k: noise.draw(k, (3, 5000), table)))(keys)
    twice = jax.vmap(jax.vmap(lambda k: noise.draw(k, (3, 5000), table)))(keys.reshape(2, 3))
    np.testing.assert_array_equal(alone, mapped)
    np.testing.assert_array_equal(alone, twice.reshape(alone.shape))
    # 90,000 numbers: five standard errors of their mean and variance.
    assert abs(alone.mean()) < 5 / 300
    assert abs(alone.var() - 1) < 5 * np.sqrt(2) / 300
    if kind == "signs":
        assert set(np.unique(alone)) == {-1.0, 1.0}


@pytest.mark.parametrize("kind", ["normal", "signs", "table"])
def test_noise_of_leaves_members_and_generations_is_independent(kind):
    params = {
        "a": jnp.zeros(8000),
        "b": jnp.zeros(8000),
        "layers": {"*": {"n": jnp.zeros((2, 8000))}},
    }

    @jax.jit
    def every(key):
        population = Seeded(params, key, 1.0, 6, Noise(kind, "threefry4x32"))
        return {index: member(population, index) for index in (1, 2, 3, 5)}

    rows = []
    for generation in range(3):
        members = every(jax.random.fold_in(KEY, generation))
        for index in (1, 3, 5):
            rows += [x.reshape(-1, 8000) for x in jax.tree.leaves(members[index])]
        np.testing.assert_array_equal(members[2]["a"], -members[3]["a"])
    rows = np.concatenate(rows)
    assert len(rows) == 36
    correlation = rows @ rows.T / 8000
    # 630 pairs of independent rows: none beyond five standard errors.
    assert np.abs(correlation - np.diag(np.diag(correlation))).max() < 5 / np.sqrt(8000)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="noise: kind is 'pink'; choose one of 'normal', 'signs'"):
        unchecked_noise("pink")
    with pytest.raises(ValueError, match="LowRankES: rank is 0; expected at least 1"):
        jaxgfo.LowRankES(rank=0)
    with pytest.raises(ValueError, match="optimizer is 'adan!'; expected a name in optax"):
        jaxgfo.init(jaxgfo.OpenES(optimizer="adan!"), KEY, jnp.zeros(3))
    with pytest.raises(ValueError, match=r"OpenES moves real numbers; the array has dtype int32"):
        jaxgfo.init(jaxgfo.OpenES(), KEY, jnp.zeros(3, jnp.int32))


def unchecked_noise(kind):
    with unchecked():
        return Noise(kind)


@pytest.mark.parametrize("optimizer", ["sgd", "factory", "ready"])
@pytest.mark.parametrize("shaping", ["ranks", "z-scores"])
def test_a_generation_in_plain_numpy(shaping, optimizer):
    import optax

    given = {"sgd": "sgd", "factory": lambda rate: optax.sgd(rate), "ready": optax.sgd(0.3)}[
        optimizer
    ]
    params = {"w": jnp.ones((4, 3)), "b": jnp.zeros(5)}
    for cls in (jaxgfo.OpenES, jaxgfo.LowRankES):
        search = cls(scale=0.1, learning_rate=0.3, optimizer=given, shaping=shaping, pop_size=6)
        state = jaxgfo.init(search, KEY, params)
        population, state = jaxgfo.ask(search, KEY, state)
        fitness = np.array([3.0, 1.0, 2.0, 2.0, 7.0, np.inf])
        members = [tree.flat_paths(member(population, i)) for i in range(6)]
        state, info = jaxgfo.tell(search, KEY, state, population, fitness)
        if shaping == "ranks":
            shaped = np.array([3, 0, 1.5, 1.5, 4, 5]) / 5 - 0.5
        else:
            capped = np.minimum(fitness, 7.0)
            shaped = (capped - capped.mean()) / capped.std()
        for path, start in tree.flat_paths(params).items():
            noise = [(np.asarray(m[path]) - np.asarray(start)) / 0.1 for m in members]
            slope = sum(u * e for u, e in zip(shaped, noise)) / 6 / 0.1
            expected = np.asarray(start) - 0.3 * slope
            np.testing.assert_allclose(
                tree.flat_paths(state.center)[path], expected, rtol=1e-4, atol=1e-5
            )
        assert info.center == 3.0
