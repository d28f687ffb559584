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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxgfo/jaxgfo/blob/main/notebooks/evolution_strategies.ipynb)
#
# # Evolution strategies at scale
#
# A population of models as a center and a key: members are drawn where they are used, with moves
# of low rank that are never materialised. What that costs beside plain inference is measured
# here, what it needs is planned before it runs, and members are spread over devices. A CPU takes
# a small model, a GPU or TPU a larger one.

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
import functools
import os
import statistics
import time
import warnings

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")  # before JAX starts; a GPU or TPU ignores it

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgfo
from jaxgfo import embedded
from jaxgfo.io.text import read_batch, spread
from jaxgfo.population import member

warnings.filterwarnings("ignore", message="IProgress not found")
on_cpu = jax.default_backend() == "cpu"
print(f"{jax.device_count()} x {jax.default_backend()}")

# %%
if on_cpu:
    hidden, layers, vocab, dtype = 256, 2, 2048, "float32"
    pop_size, length = 16, 128
else:
    hidden, layers, vocab, dtype = 768, 12, 8192, "bfloat16"
    pop_size, length = 32, 1024
config = {
    "model_type": "llama",
    "vocab_size": vocab,
    "hidden_size": hidden,
    "intermediate_size": 8 * hidden // 3,
    "num_hidden_layers": layers,
    "num_attention_heads": hidden // 32,
    "num_key_value_heads": hidden // 32,
}
model = jaxgfo.random_model(config, key=jax.random.key(0), dtype=dtype)
objective = jaxgfo.MeanNLL(model)
rows = jax.random.randint(jax.random.key(1), (pop_size, length), 0, vocab)
batch = jaxgfo.Batch(rows[:1], jnp.ones((1, length), bool))


def num_bytes(values):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(values))


print(f"{sum(leaf.size for leaf in jax.tree.leaves(model.params)):,} parameters")

# %% [markdown]
# ## Members that are never held
#
# Member i has W + σ A Bᵀ for every matrix W, with A and B drawn from the key. `evaluate` keeps
# the two parts apart: (x W) once for all members side by side, and x A Bᵀ for each. Made in full,
# for comparison, a member differs from the center by rank 1, and has the same fitness.

# %%
strategy = jaxgfo.LowRankES(pop_size=pop_size, scale=0.01)
state = jaxgfo.init(strategy, jax.random.key(2), model.params)
population, state = jaxgfo.ask(strategy, jax.random.key(3), state)

dense = jax.jit(jax.vmap(member, (None, 0)))(population, jnp.arange(pop_size))
center = population.center
print(f"this population: {num_bytes(population) / 2**20:.1f} MiB, the center's own")
print(f"made in full:    {num_bytes(dense) / 2**20:.1f} MiB")

path = ("layers", "*", "mlp", "up", "kernel")
moves = functools.reduce(lambda values, name: values[name], path, dense)[:, 0].astype(float)
moves = moves - functools.reduce(lambda values, name: values[name], path, center)[0]
ranks = [int(np.linalg.matrix_rank(move, tol=0.05)) for move in np.asarray(moves[:3], float)]
print("ranks of the first members' moves:", ranks)

fitness = jaxgfo.evaluate(objective, model.params, population, batch)
in_full = jaxgfo.evaluate(objective, model.params, dense, batch)
print(f"largest difference in fitness: {float(jnp.max(jnp.abs(fitness - in_full))):.0e}")
assert ranks == [0, 1, 1]  # member 0 is the center
assert jnp.allclose(fitness, in_full, rtol=1e-4 if on_cpu else 2e-2)

# %% [markdown]
# ## Beside plain inference
#
# All members together read as many tokens as there are in `rows`. Inference reads as many with
# one set of weights, a few or all of the sequences side by side, whichever is faster. What is
# compared is called in turn, round by round, because a machine's speed drifts. On shared machines
# such as Colab's or a CI's the ratios move by a tenth and more; the README has those of a quiet
# one.


# %%
@functools.partial(jax.jit, static_argnums=0)
def inference(side, params, rows):
    def score(tokens):
        return objective(params, jaxgfo.Batch(tokens, jnp.ones(tokens.shape, bool)))

    return jax.lax.map(score, rows.reshape(-1, side, rows.shape[1]))


def generation():
    global state
    asked, state = jaxgfo.ask(strategy, jax.random.key(4), state)
    scores = jaxgfo.evaluate(objective, model.params, asked, batch)
    state, info = jaxgfo.tell(strategy, jax.random.key(5), state, asked, scores)
    return info


calls = {
    "inference, some": lambda: inference(4, model.params, rows),
    "inference, all": lambda: inference(pop_size, model.params, rows),
    "low rank, evaluation": lambda: jaxgfo.evaluate(objective, model.params, population, batch),
    "low rank, generation": generation,
    "dense, evaluation": lambda: jaxgfo.evaluate(objective, model.params, dense, batch),
}
seconds = {name: [] for name in calls}
for number in range(6):
    for name, call in calls.items():
        begun = time.perf_counter()
        jax.block_until_ready(call())
        if number:  # the first call compiles
            seconds[name].append(time.perf_counter() - begun)

fastest = min(("inference, some", "inference, all"), key=lambda n: statistics.median(seconds[n]))
names = [name for name in calls if not name.startswith("inference")]
ratios = {n: [a / b for a, b in zip(seconds[fastest], seconds[n])] for n in names}
for name, values in ratios.items():
    print(f"{name}: {statistics.median(values):.2f} of the throughput of inference")
plt.figure(figsize=(5.5, 1.8), dpi=72)
plt.boxplot([ratios[name] for name in names], orientation="horizontal", tick_labels=names)
plt.axvline(1, color="gray", linewidth=1)
plt.xlim(0, None)
plt.xlabel("tokens per second, beside inference")
plt.tight_layout()
plt.show()
assert statistics.median(ratios["low rank, evaluation"]) > 0.3

# %% [markdown]
# ## What it needs, before it runs
#
# `plan` asks the compiler, from shapes alone: nothing is drawn or scored. The strategy's
# population is one center, however many members there are; a dense one grows with every member.
# Where `available` is less than the peak, a MemoryError names the largest population that fits.

# %%
plans = []
for search in (
    jaxgfo.LowRankES(pop_size=64 * pop_size),
    jaxgfo.RandomSearch(pop_size=pop_size),
):
    plan = jaxgfo.plan(search, model.params, objective, batch, chunk_size=2, available=2**40)
    plans.append(plan)
    print(
        f"{type(search).__name__:>12}, {plan.pop_size:4} members: population "
        f"{plan.population_bytes / 2**20:4,.0f} MiB, peak {plan.peak_bytes / 2**20:4,.0f} MiB"
    )
center_alone, in_rows = plans
assert center_alone.population_bytes < 1.01 * num_bytes(model.params)
assert in_rows.population_bytes == pop_size * num_bytes(model.params)
assert center_alone.peak_bytes < in_rows.peak_bytes  # with 64 times as many members

# %% [markdown]
# ## Over devices
#
# A mesh with an axis `pop` is all it takes. Along it travel fitness values and, in `tell`, one
# array of the parameters' size. The number of devices changes nothing but rounding. Here they are
# the two that a CPU pretends to have, or all GPUs or TPU cores there are.

# %%
mesh = jax.make_mesh((jax.device_count(),), ("pop",))
over_devices = jaxgfo.evaluate(objective, model.params, population, batch, mesh=mesh)
print(f"{len(over_devices.sharding.device_set)} devices")
assert jnp.allclose(over_devices, fitness, rtol=1e-5 if on_cpu else 2e-2)

# %% [markdown]
# ## All weights of a language model
#
# The embedded Llama on stories of a new domain: every weight moves, nothing is differentiated. On
# a GPU or TPU there are 32 times as many members.

# %%
llama = jaxgfo.load_model(embedded.MODEL)
train = spread(read_batch(embedded.TRAIN, llama.tokenizer, length=128), 8)
held_out = spread(read_batch(embedded.VALIDATION, llama.tokenizer, length=128), 32)
members, generations = (32, 24) if on_cpu else (1024, 100)
result = jaxgfo.run(
    jaxgfo.LowRankES(pop_size=members, scale=0.005, learning_rate=0.002),
    llama.params,
    jaxgfo.MeanNLL(llama),
    train,
    key=jax.random.key(0),
    num_generations=generations,
    mesh=mesh,
)
plt.figure(figsize=(5, 2.5), dpi=72)
plt.plot([g.index for g in result.history], np.exp([g.mean for g in result.history]), label="mean")
plt.plot([g.index for g in result.history], np.exp([g.best for g in result.history]), label="best")
plt.xlabel("generation")
plt.ylabel("training perplexity")
plt.legend()
plt.tight_layout()
plt.show()
before = jaxgfo.perplexity(llama, llama.params, held_out)
after = jaxgfo.perplexity(llama, result.params, held_out)
print(f"held-out perplexity {before:.3f} -> {after:.3f}")
assert after < before

# %% [markdown]
# Which optimiser, schedule, rank and noise are arguments of the strategy: `jaxgfo algorithms`
# lists them. `SPSA(rank=1)` is MeZO with members as cheap as these; `Int8ES` moves int8 weights.
