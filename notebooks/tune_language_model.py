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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxgfo/jaxgfo/blob/main/notebooks/tune_language_model.ipynb)
#
# # Tune a language model and watch its perplexity
#
# Several algorithms search the same space with the same budget; each is judged on text that it
# was not tuned on, beside random search. The last cells save the model as safetensors, read it
# again, and do the same with a larger model where there is a GPU or TPU.

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
import math
import tempfile
import warnings

import jax
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

import jaxgfo
from jaxgfo import embedded
from jaxgfo.io.text import read_batch, spread

warnings.filterwarnings("ignore", message="IProgress not found")
on_cpu = jax.default_backend() == "cpu"
print(f"{jax.device_count()} x {jax.default_backend()}")

# %% [markdown]
# ## The model and two texts
#
# The package brings a Llama of 125 thousand parameters and stories of a domain that it has hardly
# seen. Candidates are scored on a few sequences of one text; another text is held out.

# %%
model = jaxgfo.load_model(embedded.MODEL)  # or a folder, or a hub id
train = spread(read_batch(embedded.TRAIN, model.tokenizer, length=128), 8)
held_out = spread(read_batch(embedded.VALIDATION, model.tokenizer, length=128), 32)
before = jaxgfo.perplexity(model, model.params, held_out)
print(f"{train.tokens.size} tokens to tune on, {held_out.tokens.size} held out")
print(f"held-out perplexity {before:.3f}")

# %% [markdown]
# ## What a candidate is
#
# A space says it. All of these start at the unchanged model; the smaller ones leave less to
# search.

# %%
params = model.params
spaces = {
    "norms": jaxgfo.Select(params, "norms"),
    "the last layer's attention": jaxgfo.Select(params, "attention&last-1"),
    "64 random directions": jaxgfo.Subspace(params, 64, jax.random.key(1)),
    "everything, as one vector": jaxgfo.Flat(params),
}
for name, space in spaces.items():
    size = sum(leaf.size for leaf in jax.tree.leaves(space.start()))
    print(f"{name:>26}: {size:7,} coordinates")

# %% [markdown]
# ## Several algorithms, one budget
#
# A run is resumed in stages, so that its best candidate can be scored on the held-out text in
# between: the curve is drawn while the search goes on. The result is that of the run that was
# never interrupted.

# %%
objective = jaxgfo.MeanNLL(model)  # nats per token; its exp is the perplexity
searches = {
    "SNES": jaxgfo.SNES(),
    "SPSA": jaxgfo.SPSA(),
    "annealing": jaxgfo.SimulatedAnnealing(),
    "random": jaxgfo.RandomSearch(pop_size=16),
}
stages = (64, 192, 384)  # evaluations

figure, axes = plt.subplots(1, 2, figsize=(8, 3), dpi=72, sharey=True)
for axis, title in zip(axes, ("tuned on", "held out")):
    axis.set(title=title, xlabel="evaluations")
axes[0].set_ylabel("perplexity")
lines = {name: [axis.plot([], [], ".-", label=name)[0] for axis in axes] for name in searches}
axes[1].legend()
figure.tight_layout()
shown = display(figure, display_id=True)

results, curves = {}, {}
for name, search in searches.items():
    result, curve = None, [(0, jaxgfo.perplexity(model, params, train), before)]
    for evaluations in stages:
        result = jaxgfo.run(
            search,
            spaces["norms"],
            objective,
            train,
            key=jax.random.key(0),
            num_evaluations=evaluations,
            resume=result,
        )
        perplexity = jaxgfo.perplexity(model, result.params, held_out)
        curve.append((evaluations, math.exp(result.best_fitness), perplexity))
    evaluations, *perplexities = zip(*curve)
    for line, values in zip(lines[name], perplexities):
        line.set_data(evaluations, values)
    for axis in axes:
        axis.relim()
        axis.autoscale_view()
    shown.update(figure)
    results[name], curves[name] = result, curve
plt.close(figure)

# %%
for name, curve in curves.items():
    print(f"{name:>10}: held-out perplexity {before:.3f} -> {curve[-1][2]:.3f}")
after = {name: curve[-1][2] for name, curve in curves.items()}
winner = min(after, key=after.get)
assert winner != "random"
assert after[winner] < before - 0.1
assert all(curve[-1][1] < curve[0][1] for curve in curves.values())

# %% [markdown]
# What the left side gains more than the right one was learnt by heart. Which spaces suit which
# budgets is the subject of [parameters](parameters.ipynb).

# %% [markdown]
# ## Save and open again
#
# What is written is a folder in Hugging Face layout: config, tokenizer, weights as safetensors
# under the checkpoint's own names. `transformers` opens it, and so does `load_model`, bit for
# bit.

# %%
tuned = results[winner].params
with tempfile.TemporaryDirectory() as folder:
    written = jaxgfo.save_model(model, tuned, pathlib.Path(folder) / "tuned")
    print(sorted(file.name for file in written.iterdir()))
    again = jaxgfo.load_model(written)
assert all(map(np.array_equal, jax.tree.leaves(again.params), jax.tree.leaves(tuned)))
reopened = jaxgfo.perplexity(again, again.params, held_out)
print(f"held-out perplexity of what was read: {reopened:.3f}")
assert math.isclose(reopened, after[winner], rel_tol=1e-5)

# %%
prompt = "The old baker"
tokens = model.tokenizer([prompt])["input_ids"]
for name, weights in {"before": params, "after": tuned}.items():
    drawn = jaxgfo.generate(model, weights, tokens, max_new_tokens=24)
    print(f"{name}: {prompt}{model.tokenizer.decode(drawn.tokens[0].tolist())}")

# %% [markdown]
# ## A larger model
#
# On a GPU or TPU this cell fetches SmolLM2 (135 million parameters) from the hub and moves all
# its weights with a low-rank evolution strategy, 64 members a generation. On a CPU it does the
# same with the embedded model and 32 members.

# %%
if on_cpu:
    large, rows, pop_size, generations, scale = model, 8, 32, 16, 0.005
else:
    large = jaxgfo.load_model("HuggingFaceTB/SmolLM2-135M", dtype="bfloat16")
    rows, pop_size, generations, scale = 32, 64, 100, 0.001
text = spread(read_batch(embedded.TRAIN, large.tokenizer, length=128), rows)
strategy = jaxgfo.LowRankES(scale=scale, learning_rate=scale / 2, pop_size=pop_size)
print(f"{sum(leaf.size for leaf in jax.tree.leaves(large.params)):,} parameters")
found = jaxgfo.run(
    strategy,
    large.params,
    jaxgfo.MeanNLL(large),
    text,
    key=jax.random.key(0),
    num_generations=generations,
)
first = found.history[0].best
print(f"training perplexity {math.exp(first):.3f} -> {math.exp(found.best_fitness):.3f}")
assert found.best_fitness < first

# %% [markdown]
# The command line does the same with your own files, and writes the curve beside the model:
#
# ```
# jaxgfo tune --model FOLDER_OR_HUB_ID --data corpus.txt --algorithm snes --space select:norms
# ```
