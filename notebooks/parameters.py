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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxgfo/jaxgfo/blob/main/notebooks/parameters.ipynb)
#
# # Parameters: vectors, parts, random subspaces
#
# An algorithm moves a tree of arrays. Which tree that is, and what it means for a model, a space
# says: `Full`, `Flat`, `Select`, `Subspace`, or one on top of another. Any Flax module will do.

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

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxgfo
from jaxgfo import embedded

warnings.filterwarnings("ignore", message="IProgress not found")
on_cpu = jax.default_backend() == "cpu"
print(f"{jax.device_count()} x {jax.default_backend()}")

# %% [markdown]
# ## A module becomes a function of its parameters
#
# `functional` takes an NNX module as it is, and a Linen module with the variables that its `init`
# returned. What comes back is alike: nested dicts of arrays, and `apply(params, inputs)`.


# %%
class NNXNet(nnx.Module):
    def __init__(self, width, rngs):
        self.hidden = nnx.Linear(2, width, rngs=rngs, param_dtype=jnp.bfloat16)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.norm(jnp.tanh(self.hidden(x))))


class LinenNet(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(self.width, name="hidden", param_dtype=jnp.bfloat16)(x))
        return nn.Dense(2, name="head")(nn.LayerNorm(name="norm")(x))


width = 32 if on_cpu else 2048
net = jaxgfo.functional(NNXNet(width, nnx.Rngs(0)))
module = LinenNet(width)
linen_net = jaxgfo.functional(module, module.init(jax.random.key(0), jnp.ones((1, 2))))
for name, function in {"NNX": net, "Linen": linen_net}.items():
    shapes = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", function.params)
    print(name, shapes)

# %% [markdown]
# ## One vector, and back
#
# `Flat` puts all leaves into one vector, of fp32 here, the widest dtype among them. `decode` cuts
# it and gives every leaf its own shape and dtype back; what was not moved comes back bit for bit.

# %%
for function in (net, linen_net):
    flat = jaxgfo.Flat(function.params)
    vector = flat.start()
    restored = flat.decode(vector)
    print(vector.dtype, vector.shape)
    for leaf, original in zip(jax.tree.leaves(restored), jax.tree.leaves(function.params)):
        assert leaf.dtype == original.dtype
        np.testing.assert_array_equal(leaf, original)

moved = flat.decode(vector + 1e-5)  # less than half a step of bf16 near most weights
same = {
    str(original.dtype): float(jnp.mean(leaf == original))
    for leaf, original in zip(jax.tree.leaves(moved), jax.tree.leaves(function.params))
    if leaf.ndim == 2
}
print("weights that a move of 1e-5 leaves where they are:", same)
assert same["bfloat16"] > same["float32"]

# %% [markdown]
# ## Parts, and directions
#
# `Select` takes leaves by their paths and freezes the others: shell patterns, groups such as
# `norms`, `attention`, `mlp`, `head`, `last-2`, and `&` for both. `Subspace` moves everything
# along a few random directions, which are drawn from a key whenever they are needed and never
# stored. Spaces stand on each other: `Flat(Select(...))` is a part as a vector.

# %%
part = jaxgfo.Select(net.params, ["head", "norms"])
print({path: leaf.shape for path, leaf in part.start().items()})
print("as a vector:", jaxgfo.Flat(part).start().shape)

directions = jaxgfo.Subspace(net.params, 8, jax.random.key(1))
params = directions.decode(directions.start().at[3].set(0.5))
moved = jax.tree.map(lambda a, b: float(jnp.mean(a != b)), params, net.params)
print("share of each leaf that follows one of 8 coordinates:")
print({name: round(share, 2) for name, share in moved["hidden"].items()})

# %% [markdown]
# ## The same budget in each of them
#
# Two interleaved half circles, and the cross-entropy of the classes. On a GPU or TPU the net is
# 64 times as wide and the populations are larger; the spaces of few coordinates stay as small as
# they are.


# %%
def half_circles(key, count):
    turn, noise = jax.random.split(key)
    angle = jnp.pi * jax.random.uniform(turn, (count,))
    label = jnp.arange(count) % 2
    side = 1 - 2 * label
    points = jnp.stack([side * jnp.cos(angle) + label, side * jnp.sin(angle) + label / 2], axis=1)
    return points + 0.15 * jax.random.normal(noise, points.shape), label


train, test = (half_circles(jax.random.key(seed), 512) for seed in (2, 3))


def cross_entropy(params, batch):
    points, label = batch
    logits = jax.nn.log_softmax(net.apply(params, points))
    return -jnp.mean(jnp.take_along_axis(logits, label[:, None], axis=1))


def accuracy(params, batch):
    return float(jnp.mean(jnp.argmax(net.apply(params, batch[0]), axis=1) == batch[1]))


pop_size = 16 if on_cpu else 256
evaluations = 3072 if on_cpu else 2**17
spaces = {
    "all, as a vector": jaxgfo.Flat(net.params),
    "head and norm": part,
    "4 directions": jaxgfo.Subspace(net.params, 4, jax.random.key(1)),
    "64 directions": jaxgfo.Subspace(net.params, 64, jax.random.key(1)),
}
plt.figure(figsize=(5.5, 3), dpi=72)
losses = {}
for name, space in spaces.items():
    result = jaxgfo.run(
        jaxgfo.SNES(pop_size=pop_size, init_scale=0.1),
        space,
        cross_entropy,
        train,
        key=jax.random.key(0),
        num_evaluations=evaluations,
    )
    losses[name] = result.best_fitness
    size = sum(leaf.size for leaf in jax.tree.leaves(space.start()))
    print(
        f"{name:>17}: {size:3} coordinates, cross-entropy {result.best_fitness:.3f}, "
        f"accuracy on new points {accuracy(result.params, test):.3f}"
    )
    plt.plot([g.evaluations for g in result.history], [g.best for g in result.history], label=name)
plt.xlabel("evaluations")
plt.ylabel("cross-entropy")
plt.legend(fontsize=8)
plt.tight_layout()
plt.show()
start = float(cross_entropy(net.params, train))
print(f"at the start: {start:.3f}")
assert max(losses.values()) < start  # every space has something to find
assert losses["64 directions"] < losses["4 directions"]  # and few directions hold less of it

# %% [markdown]
# ## And in a language model
#
# There is nothing else to it: `model.params` is a tree like these. Layers are stacked in its
# leaves, and `Select` still takes single ones.

# %%
model = jaxgfo.load_model(embedded.MODEL)
for patterns in ("norms", "last-1&attention", "layers.0.mlp.*", "embeddings"):
    chosen = jaxgfo.Select(model.params, patterns).start()
    print(f"{patterns:>17}: {sum(leaf.size for leaf in chosen.values()):6,} in {[*chosen]}")
