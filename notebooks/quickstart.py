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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxgfo/jaxgfo/blob/main/notebooks/quickstart.ipynb)
#
# # Quickstart: ask and tell
#
# Search without gradients, first on functions, then on a language model. Two CPU cores are enough
# for everything here; on a GPU or TPU the sweep is larger.

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
import warnings

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgfo

warnings.filterwarnings("ignore", message="IProgress not found")
on_cpu = jax.default_backend() == "cpu"
print(f"{jax.device_count()} x {jax.default_backend()}")

# %% [markdown]
# ## The loop
#
# An algorithm is a frozen object of hyperparameters. `ask` gives a population, one row a
# candidate; you score it however you like; `tell` learns from the scores. Lower is better. A
# candidate may be any tree of arrays; here it is a vector.
#
# Rastrigin's function has very many local minima. The lowest is 0, at the origin.


# %%
def rastrigin(x):
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10, axis=-1)


start = jnp.full(10, 2.5)
algorithm = jaxgfo.DifferentialEvolution(pop_size=64, init_scale=1.0, weight=0.5, crossover=0.1)
key = jax.random.key(0)
state = jaxgfo.init(algorithm, key, start)
lowest = float(rastrigin(start))
for generation in range(300):
    ask_key, tell_key = jax.random.split(jax.random.fold_in(key, generation))
    population, state = jaxgfo.ask(algorithm, ask_key, state)  # (64, 10)
    fitness = rastrigin(population)  # (64,)
    state, info = jaxgfo.tell(algorithm, tell_key, state, population, fitness)
    lowest = min(lowest, float(fitness.min()))
print(f"from {float(rastrigin(start)):.1f} to {lowest:.4f}; {info._fields[0]}: {info[0]:.2f}")
assert lowest < 1e-2

# %% [markdown]
# ## One program for many hyperparameters
#
# Numbers such as the crossover rate CR are traced: they may change between generations without
# compiling again, and a sweep is one `vmap` over whole searches. On a GPU or TPU this cell runs
# 900 times as many of them.


# %%
def lowest_of(rate, key):
    algorithm = jaxgfo.DifferentialEvolution(
        pop_size=64, init_scale=1.0, weight=0.5, crossover=rate
    )

    def generation(state, key):
        ask_key, tell_key = jax.random.split(key)
        population, state = algorithm.ask(ask_key, state)
        fitness = rastrigin(population)
        state, _ = algorithm.tell(tell_key, state, population, fitness)
        return state, fitness.min()

    first, *keys = jax.random.split(key, 301)
    return jax.lax.scan(generation, algorithm.init(first, start), jnp.stack(keys))[1].min()


rates = jnp.linspace(0.0, 1.0, 11 if on_cpu else 101)
seeds = jax.random.split(jax.random.key(1), 5 if on_cpu else 500)
sweep = jax.jit(jax.vmap(jax.vmap(lowest_of, (None, 0)), (0, None)))
found = np.asarray(sweep(rates, seeds))  # (rates, seeds)
print(f"{found.size} searches of {64 * 300} evaluations")

low, median, high = np.quantile(found, [0, 0.5, 1], axis=1)
plt.figure(figsize=(5, 2.5), dpi=72)
plt.fill_between(rates, low, high, alpha=0.2)
plt.plot(rates, median, "o-")
plt.xlabel("crossover rate CR")
plt.ylabel("lowest after 300 generations")
plt.tight_layout()
plt.show()
best = median.argmin()
assert median[best] < median[-1] / 4  # the choice matters
print(f"best at CR = {rates[best]:.1f}: {median[best]:.2g}; at CR = 1: {median[-1]:.2g}")

# %% [markdown]
# ## Any algorithm
#
# All have the same three methods. `run` is the loop with a budget, a history and the best
# candidate so far; its objective scores one candidate, on a batch of data where there is any.
# Rosenbrock's function is a bent valley, in which coordinates depend on each other.


# %%
def rosenbrock(x, batch):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


searches = {
    "CMA-ES": jaxgfo.CMAES(init_scale=0.5),
    "SHADE": jaxgfo.SHADE(init_scale=0.5),
    "random": jaxgfo.RandomSearch(init_scale=0.5),
}
plt.figure(figsize=(5, 3), dpi=72)
reached = {}
for name, search in searches.items():
    result = jaxgfo.run(
        search, jnp.full(6, -1.0), rosenbrock, None, key=jax.random.key(0), num_evaluations=3072
    )
    reached[name] = result.best_fitness
    plt.plot([g.evaluations for g in result.history], [g.best for g in result.history], label=name)
plt.yscale("log")
plt.xlabel("evaluations")
plt.ylabel("lowest so far")
plt.legend()
plt.tight_layout()
plt.show()
assert min(reached, key=reached.get) != "random"

# %% [markdown]
# ## A language model
#
# The package comes with a small Llama and with stories from a domain it has hardly seen. A space
# says what a candidate is: here, the scales of all norms. The perplexity of a whole population is
# one compiled call.

# %%
from jaxgfo import embedded
from jaxgfo.io.text import read_batch, spread

model = jaxgfo.load_model(embedded.MODEL)
train = spread(read_batch(embedded.TRAIN, model.tokenizer, length=128), 8)
held_out = spread(read_batch(embedded.VALIDATION, model.tokenizer, length=128), 64)
space = jaxgfo.Select(model.params, "norms")
print({path: leaf.shape for path, leaf in space.start().items()})

# %%
result = jaxgfo.run(
    jaxgfo.SNES(), space, jaxgfo.MeanNLL(model), train, key=jax.random.key(0), num_evaluations=512
)
before = jaxgfo.perplexity(model, model.params, held_out)
after = jaxgfo.perplexity(model, result.params, held_out)
print(f"held-out perplexity {before:.3f} -> {after:.3f}")
assert after < before

# %% [markdown]
# `jaxgfo.save_model(model, result.params, "tuned")` writes a folder that `transformers` opens.
# [tune_language_model](tune_language_model.ipynb) goes on from here.
