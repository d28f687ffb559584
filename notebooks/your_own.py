# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxgfo/jaxgfo/blob/main/notebooks/your_own.ipynb)
#
# # Your own algorithm, space and objective
#
# The three know nothing of each other but a signature, so what you write works with all that is
# there, and with each other. Here: the cross-entropy method, a space of gains, and errors counted
# instead of nats.

# %%
import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec("jaxgfo") is None:  # install this clone, or what is on GitHub
    clone = pathlib.Path("../jaxgfo/__init__.py").is_file()
    source = ".." if clone else "jaxgfo @ git+https://github.com/jaxgfo/jaxgfo"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)

# %%
import itertools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgfo
from jaxgfo import embedded
from jaxgfo.io.text import read_batch, spread
from jaxgfo.spaces.base import space

warnings.filterwarnings("ignore", message="IProgress not found")
on_cpu = jax.default_backend() == "cpu"
print(f"{jax.device_count()} x {jax.default_backend()}")

# %% [markdown]
# ## An algorithm
#
# The cross-entropy method (Rubinstein, 1999, doi:10.1023/A:1010091220143) draws from a normal
# distribution and fits it to the best members. Plain fields of an algorithm are traced; what
# decides a shape is `static`. A candidate is any tree, so every step maps over leaves. A failed
# evaluation has the fitness +inf, which must not poison the state.


# %%
class CrossEntropyState(NamedTuple):
    mean: Any  # a candidate
    deviation: Any  # of every coordinate


class CrossEntropyInfo(NamedTuple):
    deviation: Any  # mean over all coordinates


@jaxgfo.algorithm
class CrossEntropy:
    init_scale: float = jaxgfo.within(0.05, 0)
    rate: float = jaxgfo.within(0.5, 0, 1)  # 1: the distribution is that of the elite
    elites: int = jaxgfo.static(8)
    pop_size: int = jaxgfo.static(32)

    def init(self, key, start):
        return CrossEntropyState(start, jax.tree.map(lambda x: 0 * x + self.init_scale, start))

    def ask(self, key, state):
        def draw(key, mean, deviation):
            noise = jax.random.normal(key, (self.pop_size, *mean.shape), mean.dtype)
            return (mean + deviation * noise).at[0].set(mean)  # row 0 is where the search stands

        return jaxgfo.tree.map_keys(draw, key, *state), state

    def tell(self, key, state, population, fitness):
        best = jnp.argsort(fitness)[: self.elites]
        rate = jnp.where(jnp.isinf(fitness[best]).any(), 0, self.rate)

        def fit(old, rows, statistic):
            return old + (rate * (statistic(rows[best], axis=0) - old)).astype(old.dtype)

        mean = jax.tree.map(lambda x, rows: fit(x, rows, jnp.mean), state.mean, population)
        deviation = jax.tree.map(lambda x, rows: fit(x, rows, jnp.std), state.deviation, population)
        average = jnp.mean(jnp.concatenate([x.ravel() for x in jax.tree.leaves(deviation)]))
        return CrossEntropyState(mean, deviation), CrossEntropyInfo(average)


# %% [markdown]
# It is an algorithm like the others now. On a function of four coordinates:

# %%
target = jnp.array([0.3, -0.2, 0.5, 0.1])
result = jaxgfo.run(
    CrossEntropy(init_scale=0.5),
    jnp.zeros(4),
    lambda x, batch: jnp.sum((x - target) ** 2),
    None,
    key=jax.random.key(0),
    num_generations=30,
)
print(f"from {float(jnp.sum(target**2)):.2f} to {result.best_fitness:.1e}")
assert result.best_fitness < 1e-4

# %% [markdown]
# ## A space
#
# `start` gives the candidate that is the unchanged model, `decode` the parameters of any
# candidate. Here one number scales the output of every attention head, and one that of every
# hidden unit of an MLP: 360 gains for the embedded Llama of 125 thousand parameters, by the rows
# of two matrices. With bits instead of real numbers the same space masks heads.


# %%
@space(static=("groups", "dtype"))
class Gains:
    params: Any
    groups: tuple[tuple[str, int], ...]  # path of a stacked matrix, gains in each layer
    dtype: str = "float32"

    def start(self):
        leaves = jaxgfo.tree.flat_paths(self.params)
        return {p: jnp.ones((leaves[p].shape[0], count), self.dtype) for p, count in self.groups}

    def decode(self, z):
        def scaled(path, x):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            if name not in z:
                return x
            gains = z[name].astype(x.dtype)  # (layers, gains)
            rows = x.reshape(
                *gains.shape, -1, x.shape[-1]
            )  # (layers, gains, rows of each, outputs)
            return (rows * gains[..., None, None]).reshape(x.shape)

        return jax.tree_util.tree_map_with_path(scaled, self.params)


model = jaxgfo.load_model(embedded.MODEL)
heads, mlp = "layers.*.attention.out.kernel", "layers.*.mlp.down.kernel"
num_heads, inner = model.config.num_attention_heads, model.config.intermediate_size
gains = Gains(model.params, ((heads, num_heads), (mlp, inner)))
print({path: leaf.shape for path, leaf in gains.start().items()})
unchanged = gains.decode(gains.start())
assert all(map(np.array_equal, jax.tree.leaves(unchanged), jax.tree.leaves(model.params)))

# %% [markdown]
# ## An objective
#
# Any function of parameters and a batch that returns a number. Accuracy has no usable gradient:
# here the share of tokens that are not the model's first guess, and for the report the share of
# rows whose last four tokens are all guessed (exact match).


# %%
def guessed(params, batch):
    return jnp.argmax(model.apply(params, batch.tokens)[:, :-1], axis=-1) == batch.tokens[:, 1:]


def errors(params, batch):
    return 1 - jnp.mean(guessed(params, batch))


def exact_match(params, batch):
    return jnp.mean(jnp.all(guessed(params, batch)[:, -4:], axis=1))


def texts(path, rows):
    return spread(read_batch(path, model.tokenizer, length=64), rows)


train, held_out = texts(embedded.TRAIN, 16), texts(embedded.VALIDATION, 256)
result = jaxgfo.run(
    CrossEntropy(init_scale=0.15), gains, errors, train, key=jax.random.key(0), num_evaluations=1024
)
print(
    f"errors on the text it was tuned on: {result.history[0].best:.3f} -> {result.best_fitness:.3f}"
)
report = jax.jit(lambda params: (errors(params, held_out), exact_match(params, held_out)))
for name, params in {"before": model.params, "after": result.params}.items():
    wrong, exact = report(params)
    print(f"held out, {name}: {wrong:.3f} errors, {exact:.3f} exact match")
assert result.best_fitness < result.history[0].best
assert report(result.params)[0] < report(model.params)[0]

# %% [markdown]
# ## A sweep is a vmap
#
# `evaluate` may be called under `jit`, so whole searches, language model included, run side by
# side. On a GPU or TPU there are more of them, with larger populations.

# %%
scales = jnp.geomspace(0.01, 0.5, 4 if on_cpu else 16)
pop_size, generations = (32, 8) if on_cpu else (256, 60)


@jax.jit
def sweep(scales, space, batch, key):
    def search(scale):
        algorithm = CrossEntropy(init_scale=scale, pop_size=pop_size, elites=pop_size // 4)

        def generation(state, key):
            population, state = algorithm.ask(key, state)
            fitness = jaxgfo.evaluate(errors, space, population, batch)
            state, _ = algorithm.tell(key, state, population, fitness)
            return state, fitness.min()

        keys = jax.random.split(key, generations + 1)
        return jax.lax.scan(generation, algorithm.init(keys[0], space.start()), keys[1:])[1]

    return jax.vmap(search)(scales)


lowest = np.minimum.accumulate(sweep(scales, gains, train, jax.random.key(1)), axis=1)
plt.figure(figsize=(5, 2.5), dpi=72)
for scale, curve in zip(scales, lowest):
    plt.plot(curve, label=f"{scale:.2g}")
plt.xlabel("generation")
plt.ylabel("errors")
plt.legend(title="init_scale", fontsize=8, loc="lower left")
plt.tight_layout()
plt.show()
print(f"best init_scale: {scales[lowest[:, -1].argmin()]:.2g}")
assert np.ptp(lowest[:, -1]) > 0

# %% [markdown]
# ## The same space with bits
#
# Which attention heads are worth a price? A mask has 8 bits, so all 256 can be scored in one
# call, and what a genetic algorithm finds with half as many evaluations can be compared with the
# best of them.

# %%
masks = Gains(model.params, ((heads, num_heads),), "bool")
nats = jaxgfo.MeanNLL(model)


def priced(params, batch):
    outputs = jaxgfo.tree.flat_paths(params)[heads]
    used = jnp.any(outputs.reshape(outputs.shape[0] * num_heads, -1) != 0, axis=1)
    return nats(params, batch) + 0.1 * jnp.sum(used)


every = np.array([*itertools.product([False, True], repeat=masks.start()[heads].size)])
every = {heads: jnp.asarray(every.reshape(-1, *masks.start()[heads].shape))}
scores = jaxgfo.evaluate(priced, masks, every, train)
found = jaxgfo.run(
    jaxgfo.GeneticAlgorithm(pop_size=16),
    masks,
    priced,
    train,
    key=jax.random.key(0),
    num_evaluations=128,
)
start = float(scores[-1])
rank = int(jnp.sum(scores < found.best_fitness - 1e-5))
print(f"all heads: {start:.3f}; best mask: {scores.min():.3f}; found: {found.best_fitness:.3f}")
print(f"masks that are better than the one found: {rank} of {len(scores)}")
print("heads kept, layer by layer:", found.best[heads].astype(int).tolist())
assert found.best_fitness < start
assert rank < 8

# %% [markdown]
# An algorithm that is to stay goes into a file of its own with one line in the registry;
# [CONTRIBUTING](https://github.com/jaxgfo/jaxgfo/blob/main/CONTRIBUTING.md) has the rules that
# the contract tests hold it to, and `jaxgfo tune --algorithm NAME` knows it from then on.
