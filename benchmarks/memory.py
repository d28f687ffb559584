"""Host memory of one generation of 32 members over all 110 million parameters of a Llama.

Each in a fresh process: what it holds at its peak, beyond what an idle process with JAX holds, in
copies of the model, whose weights are one. A process that takes too much is stopped; what it
held then, and what it had just asked for in vain, is a lower bound.
"""

import argparse
import json as json_module
import re
import subprocess
import sys
import time
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from . import records, resident
from .shapes import SHAPES

CASES = ["inference", "lowrank-es sgd", "spsa sgd", "lowrank-es adam", "evosax Open_ES"]
LEFT = 3e9  # bytes of the machine's memory that are not touched


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, metavar="CASE")
    parser.add_argument("--model", default=None, choices=SHAPES, help="by default 110M")
    parser.add_argument("--pop-size", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128, help="of each member")


def main(
    quick: bool, json: str | None, cases: list[str], model: str | None, pop_size: int, tokens: int
) -> None:
    """One generation each; `--quick` takes the smallest model."""
    model = model or ("4M" if quick else "110M")
    idle, results = _measured("idle", model, pop_size, tokens), []
    for case in cases:
        how = {"model": model, "pop_size": pop_size, "tokens_per_member": tokens}
        if case.startswith("evosax") and not records.installed("evosax"):
            results.append(records.skipped("memory", "evosax", case=case, **how))
            records.append(json, results[-1:])
            continue
        found = _measured(case, model, pop_size, tokens)
        found["peak_bytes"] -= idle["peak_bytes"]
        found["copies"] = found["peak_bytes"] / found["bytes"]
        how |= {"evaluations": pop_size, "forward_tokens": pop_size * tokens}
        how |= {"libraries": ["evosax"] if case.startswith("evosax") else []}
        results.append(records.record("memory", case=case, **how, **found, figure=found["copies"]))
        records.append(json, results[-1:])
    table = Table(title=f"a generation of {pop_size} members x {tokens} tokens, {model}")
    for column in ("what", "peak, MB", "copies of the model", "seconds"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for r in results:
        if "skipped" in r:
            table.add_row(r["case"], "", "not installed", "")
            continue
        more = "" if r["finished"] else "more than "
        table.add_row(
            r["case"],
            f"{more}{r['peak_bytes'] / 1e6:.0f}",
            f"{more}{r['copies']:.2f}",
            f"{r['seconds']:.0f}",
        )
    Console().print(table)


def _measured(case: str, model: str, pop_size: int, tokens: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", case, model, str(pop_size), str(tokens)]
    begun, most, stopped = time.perf_counter(), 0, False
    size = 4 * _parameters(model)
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        while process.poll() is None:
            try:
                most = max(most, resident.now(process.pid))
            except (FileNotFoundError, StopIteration):
                break
            if psutil.virtual_memory().available < LEFT:
                process.kill()
                stopped = True
            time.sleep(0.02)
        out, err = process.communicate()
    seconds = time.perf_counter() - begun
    refused = re.search(r"Out of memory allocating (\d+) bytes", err)
    if stopped or refused or process.returncode == -9:  # by us, by JAX, or by the machine
        most += int(refused[1]) if refused else 0
        return {"peak_bytes": most, "bytes": size, "seconds": seconds, "finished": False}
    if process.returncode:
        raise RuntimeError(f"{case} failed: {err}")
    return json_module.loads(out) | {"bytes": size, "seconds": seconds, "finished": True}


def _parameters(model: str) -> int:
    shape = SHAPES[model]
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    keys = shape["num_key_value_heads"] * hidden // shape["num_attention_heads"]
    biases = hidden + 2 * keys if shape["model_type"] == "qwen2" else 0
    layer = 2 * hidden * (hidden + keys) + 3 * hidden * inner + 2 * hidden + biases
    vocabularies = 1 if shape["tie_word_embeddings"] else 2
    tables = vocabularies * shape["vocab_size"] * hidden
    return tables + shape["num_hidden_layers"] * layer + hidden


def generation(case: str, model: str, pop_size: int, tokens: int) -> dict[str, Any]:
    """Load nothing but what is needed, run one generation in this process, and tell its peak."""
    import jax
    import jax.numpy as jnp

    if case == "idle":
        jax.block_until_ready(jnp.ones(3) + 1)
        return {"peak_bytes": resident.peak()}
    import jaxgfo

    key = jax.random.key(0)
    llama = jaxgfo.random_model(dict(SHAPES[model]), key=key)
    assert sum(x.size for x in jax.tree.leaves(llama.params)) == _parameters(model)
    vocab = SHAPES[model]["vocab_size"]
    batch = jaxgfo.Batch(jax.random.randint(key, (1, tokens), 1, vocab), jnp.ones((1, tokens)))
    objective, params = jaxgfo.MeanNLL(llama), llama.params
    del llama
    jax.block_until_ready(params)
    resident.begin_anew()
    if case == "inference":
        jax.block_until_ready(jax.jit(objective)(params, batch))
    elif case.startswith("evosax"):
        _evosax(case.split()[1], params, objective, batch, key, pop_size)
    else:
        name, optimizer = case.split()
        more = {"rank": 1} if name == "spsa" else {}
        search = jaxgfo.REGISTRY[name](
            pop_size=pop_size, optimizer=optimizer, learning_rate=1e-3, scale=1e-3, **more
        )
        state = jaxgfo.init(search, key, params)
        population, state = jaxgfo.ask(search, key, state)
        del params
        fitness = jaxgfo.evaluate(objective, population.center, population, batch)
        state, _ = jaxgfo.tell(search, key, state, population, fitness, donate_population=True)
        jax.block_until_ready(state)
    return {"peak_bytes": resident.peak()}


def _evosax(name: str, params: Any, objective: Any, batch: Any, key: Any, pop_size: int) -> None:
    """The same generation as the peer's documentation has it, one member at a time."""
    import evosax.algorithms
    import jax

    search = getattr(evosax.algorithms, name)(population_size=pop_size, solution=params)
    defaults = search.default_params
    state = search.init(key, params, defaults)
    population, state = search.ask(key, state, defaults)

    @jax.jit
    def scored(population, batch):
        return jax.lax.map(lambda member: objective(member, batch), population)

    fitness = scored(population, batch)
    state, _ = search.tell(key, population, fitness, state, defaults)
    jax.block_until_ready(state)


if __name__ == "__main__":
    case, model, pop_size, tokens = sys.argv[1:]
    print(json_module.dumps(generation(case, model, int(pop_size), int(tokens))))
