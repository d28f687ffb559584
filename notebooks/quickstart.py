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
# # jaxgfo: quickstart
#
# Search without gradients, first on a function, then on a language model. Everything runs on a CPU
# in about a minute; on a GPU or TPU nothing changes.

# %%
try:
    import jaxgfo
except ImportError:  # on Colab: a clone of the project lies beside this notebook's folder
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", ".."], check=True)
    import jaxgfo

import warnings

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

warnings.filterwarnings("ignore", message="IProgress not found")

# %% [markdown]
# ## ask and tell
#
# An algorithm is a frozen object of hyperparameters. `ask` gives a population, one row a candidate;
# you score it however you like; `tell` learns from the scores. Lower is better.


# %%
def rastrigin(x):
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10, axis=-1)


algorithm = jaxgfo.DifferentialEvolution(pop_size=64, init_scale=1.0)
key = jax.random.key(0)
state = jaxgfo.init(algorithm, key, jnp.full(10, 2.5))
curve = []
for generation in range(600):
    ask_key, tell_key = jax.random.split(jax.random.fold_in(key, generation))
    population, state = jaxgfo.ask(algorithm, ask_key, state)
    fitness = rastrigin(population)
    state, info = jaxgfo.tell(algorithm, tell_key, state, population, fitness)
    curve.append(float(state.fitness.min()))
print(f"from {float(rastrigin(jnp.full(10, 2.5))):.1f} to {curve[-1]:.3f}")

# %% [markdown]
# Hyperparameters are traced: a sweep is one `vmap`, and compiles once.


# %%
def final(weight):
    algorithm = jaxgfo.DifferentialEvolution(pop_size=64, init_scale=1.0, weight=weight)

    def step(state, key):
        population, state = algorithm.ask(key, state)
        state, _ = algorithm.tell(key, state, population, rastrigin(population))
        return state, None

    state = algorithm.init(key, jnp.full(10, 2.5))
    return jax.lax.scan(step, state, jax.random.split(key, 300))[0].fitness.min()


weights = jnp.linspace(0.2, 1.0, 9)
plt.figure(figsize=(5, 2.5))
plt.plot(weights, jax.jit(jax.vmap(final))(weights), "o-")
plt.xlabel("weight F")
plt.ylabel("Rastrigin after 300 generations")
plt.tight_layout()
plt.show()

# %% [markdown]
# ## A language model
#
# The package comes with a small Llama and with stories from a domain it has hardly seen. A space
# says what a candidate is: here, the scales of all norms. The whole population's perplexity is one
# compiled call.

# %%
from jaxgfo.options import Options

options = Options()
model = options.load_model()
train, held_out = options.texts(model)
space = jaxgfo.Select(model.params, "norms")
print({path: leaf.shape for path, leaf in space.start().items()})

# %%
result = jaxgfo.run(
    jaxgfo.SimulatedAnnealing(),
    space,
    jaxgfo.MeanNLL(model),
    train,
    key=jax.random.key(0),
    num_evaluations=1024,
)
plt.figure(figsize=(5, 2.5))
plt.plot([g.evaluations for g in result.history], [jnp.exp(g.best) for g in result.history])
plt.xlabel("evaluations")
plt.ylabel("best training perplexity")
plt.tight_layout()
plt.show()

# %%
before = jaxgfo.perplexity(model, model.params, held_out)
after = jaxgfo.perplexity(model, result.params, held_out)
print(f"held-out perplexity {before:.3f} -> {after:.3f}")
assert after < before

# %% [markdown]
# `jaxgfo.save_model(model, result.params, "tuned")` writes a folder that `transformers` opens.
