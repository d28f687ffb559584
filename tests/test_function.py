"""Any Flax module as a function of its parameters."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen, nnx
from problems import assert_close, assert_equal

from jaxgfo import Flat, functional, population, tree
from jaxgfo.models.config import DecoderConfig
from jaxgfo.models.transformer import Transformer

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (2, 5, 6))
TOKENS = jnp.arange(10).reshape(2, 5)
TINY = DecoderConfig(
    vocab_size=10,
    hidden_size=6,
    num_layers=2,
    num_heads=2,
    num_groups=1,
    head_dim=4,
    mlp_size=8,
    max_length=16,
    activation="silu",
    scale=0.5,
    tied=True,
)
GRU = nnx.GRUCell(6, 4, rngs=nnx.Rngs(0))


class LinenMLP(linen.Module):
    training: bool = False

    def setup(self):
        self.up, self.down = (
            linen.Dense(8, dtype=jnp.float32, param_dtype=jnp.bfloat16),
            linen.Dense(3),
        )
        self.norm = linen.BatchNorm(use_running_average=not self.training)

    def __call__(self, x):
        return self.down(self.hidden(x))

    def hidden(self, x, *, scale=1.0):
        return scale * self.norm(self.up(x))


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(6, 8, dtype=jnp.float32, param_dtype=jnp.bfloat16, rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.down = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.down(self.hidden(x))

    def hidden(self, x, *, scale=1.0):
        return scale * self.dropout(self.norm(self.up(x)))


def stirred(variables):
    """Variables with statistics that are not those of initialisation."""
    return jax.tree.map(lambda x: x + jnp.full_like(x, 0.5), variables)


def linen_case(module, x):
    variables = stirred(module.init(KEY, x))
    return functional(module, variables), x, lambda: module.apply(variables, x)


def nnx_case(module, x):
    module.eval()
    nnx.update(module, stirred(nnx.state(module, nnx.Param)))
    nnx.update(module, stirred(nnx.state(module, nnx.BatchStat)))
    return functional(module), x, lambda: module(x)


CASES = {
    "linen batch norm": lambda: linen_case(LinenMLP(), X),
    "linen conv": lambda: linen_case(linen.Conv(3, (2,)), X),
    "linen recurrent": lambda: linen_case(linen.RNN(linen.GRUCell(4)), X),
    "linen attention": lambda: linen_case(linen.MultiHeadDotProductAttention(2), X),
    "nnx batch norm": lambda: nnx_case(MLP(nnx.Rngs(0)), X),
    "nnx conv": lambda: nnx_case(nnx.Conv(6, 3, (2,), rngs=nnx.Rngs(0)), X),
    "nnx recurrent": lambda: nnx_case(nnx.RNN(GRU, rngs=nnx.Rngs(0)), X),
    "nnx attention": lambda: nnx_case(
        nnx.MultiHeadAttention(2, 6, decode=False, rngs=nnx.Rngs(0)), X
    ),
    "nnx language model": lambda: nnx_case(Transformer(TINY, rngs=nnx.Rngs(0)), TOKENS),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def test_it_computes_what_the_module_computes(case):
    (params, apply), x, call = case
    expected = call()
    assert_close(apply(params, x), expected, rtol=1e-6, atol=1e-6)
    assert_close(jax.jit(apply)(params, x), expected)
    doubled = jax.tree.map(lambda p: 2 * p, params)
    assert jnp.max(jnp.abs(apply(doubled, x) - expected)) > 1e-2
    assert_close(apply(params, x), expected, rtol=1e-6, atol=1e-6)  # nothing stuck to the module


def test_members_under_vmap_are_members_one_by_one(case):
    (params, apply), x, _ = case
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p, jnp.zeros_like(p)]), params)
    together = jax.jit(jax.vmap(apply, (0, None)))(many, x)
    for i in range(3):
        assert_close(together[i], apply(population.member(many, i), x), rtol=1e-3, atol=1e-3)


def test_it_has_gradients(case):
    (params, apply), x, _ = case

    def loss(p):
        return jnp.sum(jnp.square(apply(p, x)))

    gradient = jax.grad(loss)(params)
    along = sum(float(jnp.sum(jnp.square(g))) for g in jax.tree.leaves(gradient))
    assert 0 < along < jnp.inf


def test_parameters_are_a_plain_tree_that_a_vector_restores(case):
    (params, apply), x, _ = case
    assert all(isinstance(p, jax.Array) for p in jax.tree.leaves(params))
    assert isinstance(params, dict)
    space = Flat(params)
    back = space.decode(space.start())
    assert_equal(back, params)
    assert_equal(apply(back, x), apply(params, x))


def test_only_parameters_are_searched():
    for name in ("linen batch norm", "nnx batch norm"):
        (params, _), _, _ = CASES[name]()
        paths = tree.flat_paths(params)
        assert set(paths) == {
            *(f"{layer}.{p}" for layer in ("up", "down") for p in ("kernel", "bias")),
            *("norm.scale", "norm.bias"),
        }
        assert paths["up.kernel"].dtype == jnp.bfloat16


@pytest.mark.parametrize("flavour", ["linen", "nnx"])
def test_another_method(flavour):
    (params, apply), x, _ = CASES[f"{flavour} batch norm"]()
    hidden = apply(params, x, method="hidden", scale=2.0)
    assert hidden.shape == (2, 5, 8)
    expected = hidden / 2 @ params["down"]["kernel"] + params["down"]["bias"]
    assert_close(apply(params, x), expected, rtol=1e-5)


def test_linen_statistics_that_a_call_writes_are_dropped():
    module = LinenMLP(training=True)
    variables = module.init(KEY, X)
    params, apply = functional(module, variables)
    expected, _ = module.apply(variables, X, mutable=["batch_stats"])
    for _ in range(2):
        assert_equal(apply(params, X), expected)


def test_nnx_statistics_that_a_call_writes_are_dropped():
    module = MLP(nnx.Rngs(0))
    module.norm.train()
    module.dropout.eval()
    params, apply = functional(module)
    before = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)))
    first = jax.jit(apply)(params, X)
    assert_close(apply(params, X), first)
    assert_equal(nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)), before)
    assert_close(module(X), first)


def test_a_later_change_of_the_module_changes_nothing():
    module = MLP(nnx.Rngs(0))
    module.eval()
    params, apply = functional(module)
    before = apply(params, X)
    nnx.update(module, stirred(nnx.state(module, nnx.Param)))
    assert_equal(apply(params, X), before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((linen.Dense(2),), ValueError, r"needs its variables.*module\.init"),
        ((linen.Dense(2), {"kernel": X}), ValueError, 'a mapping with "params"'),
        ((GRU, {"params": {}}), ValueError, "holds its own arrays"),
        ((lambda x: x,), TypeError, "expected a flax.nnx or flax.linen module, got function"),
    ],
)
def test_what_is_not_a_module_with_parameters_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        functional(*arguments)
