"""Validation perplexity of the embedded model: every algorithm, random search, and Adam.

All see the same training sequences the same number of times: an evaluation is one forward pass, a
step of Adam one forward and one backward pass. Each is judged by its best candidate on the training
text, scored on the held-out text.
"""

import argparse
import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

from jaxgfo import REGISTRY, MeanNLL, run
from jaxgfo.options import EVALUATIONS, Options
from jaxgfo.spaces.spec import parse
from jaxgfo.tune import held_out_perplexity

from . import records

OPTIONS = Options()
LEARNING_RATE = 0.01


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    every = [*(name for name in REGISTRY if name != "int8-es"), "adam"]  # on real numbers
    parser.add_argument("--algorithms", nargs="+", default=every, choices=every, metavar="NAME")


def main(quick: bool, json: str | None, algorithms: list[str]) -> None:
    """Three seeds with the command line's defaults, or one seed and an eighth of the budget."""
    model = OPTIONS.load_model()
    train, held_out = OPTIONS.texts(model)
    space, objective = parse(OPTIONS.spec, model.params, jax.random.key(0)), MeanNLL(model)
    score = functools.partial(held_out_perplexity, model, batch=held_out)
    budget = EVALUATIONS // 8 if quick else EVALUATIONS
    before, results, console = score(model.params), [], Console()
    for name in algorithms:
        for seed in range(1 if quick else 3):
            key = jax.random.key(seed)
            if name == "adam":
                params, nats = _adam(space, objective, train, budget)
            else:
                found = run(
                    REGISTRY[name](), space, objective, train, key=key, num_evaluations=budget
                )
                params, nats = found.params, found.best_fitness
            results.append(
                records.record(
                    "tuning",
                    algorithm=name,
                    space=OPTIONS.spec,
                    seed=seed,
                    forward_tokens=budget * train.tokens.size,
                    perplexity_before=before,
                    perplexity_after=score(params),
                    train_after=float(jnp.exp(nats)),
                )
            )
            console.print(f"{name} {seed}: {results[-1]['perplexity_after']:.4f}", highlight=False)
            if name == "adam":
                break  # it draws nothing
    records.append(json, results)
    console.print(_table(results, before))


def _adam(space: Any, objective: Any, batch: Any, steps: int) -> tuple[Any, float]:
    adam = optax.adam(LEARNING_RATE)

    @jax.jit
    def step(z, state, space, batch):
        loss = lambda z: objective(space.decode(z), batch)  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(z)
        update, state = adam.update(gradient, state, z)
        return optax.apply_updates(z, update), state, value

    z, lowest = space.start(), float("inf")
    best, state = z, adam.init(z)
    for _ in range(steps):
        after, state, value = step(z, state, space, batch)
        if value < lowest:
            best, lowest = z, float(value)
        z = after
    return space.decode(best), lowest


def _table(results: list[dict[str, Any]], before: float) -> Table:
    table = Table(title=f"validation perplexity, {before:.3f} before")
    for column in ("algorithm", "after (median)", "lowest", "highest", "change"):
        table.add_column(column, justify="left" if column == "algorithm" else "right")
    for name in dict.fromkeys(r["algorithm"] for r in results):
        after = [r["perplexity_after"] for r in results if r["algorithm"] == name]
        middle = statistics.median(after)
        change = f"{100 * (middle / before - 1):+.1f} %"
        table.add_row(name, f"{middle:.3f}", f"{min(after):.3f}", f"{max(after):.3f}", change)
    return table
