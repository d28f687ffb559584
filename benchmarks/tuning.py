"""Validation perplexity of the embedded model against forward tokens: every algorithm, and Adam.

All see the same training sequences the same number of times: an evaluation is one forward pass, a
step of Adam one forward and one backward pass. Each is judged by its best candidate on the training
text, scored on the held-out text, after a sixteenth, an eighth, ... and the whole of the budget.
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

from jaxgfo import REGISTRY, MeanNLL, minibatches, run
from jaxgfo.options import EVALUATIONS, Options
from jaxgfo.spaces.spec import parse
from jaxgfo.tune import held_out_perplexity

from . import records

OPTIONS = Options()
SHARES = (16, 8, 4, 2, 1)  # of the budget, at which the best candidate is scored
ADAM = {"select:norms": 0.01, "full": 0.001}  # learning rates
# Where the defaults are for few coordinates; all weights want smaller steps.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "full": {
        "openes": {"scale": 0.005, "learning_rate": 0.002},
        "lowrank-es": {"scale": 0.005, "learning_rate": 0.002},
        "spsa": {"rank": 1, "scale": 0.005, "learning_rate": 0.002},
    }
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    every = [*REGISTRY, "adam"]
    parser.add_argument("--algorithms", nargs="+", default=None, choices=every, metavar="NAME")
    parser.add_argument("--space", default=OPTIONS.spec, help="as for `jaxgfo tune`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-rows", type=int, help="of every generation; by default all 32")


def main(
    quick: bool,
    json: str | None,
    algorithms: list[str] | None,
    space: str,
    seeds: int,
    batch_rows: int | None,
) -> None:
    """The command line's defaults; `--quick`: one seed and an eighth of the budget."""
    model = OPTIONS.load_model()
    train, held_out = OPTIONS.texts(model)
    names = algorithms or [n for n in (*REGISTRY, "adam") if _moves(n, space, model)]
    searched, objective = parse(space, model.params, jax.random.key(0)), MeanNLL(model)
    score = functools.partial(held_out_perplexity, model, batch=held_out)
    budget = EVALUATIONS // 8 if quick else EVALUATIONS
    before, results, console = score(model.params), [], Console()
    for seed in range(1 if quick else seeds):  # what is whole so far is of use
        for name in names:
            if name == "adam" and (seed or batch_rows):
                continue  # it draws nothing, and takes the whole batch
            following = _adam if name == "adam" else functools.partial(_search, name, seed)
            batch, share = train, 1
            if batch_rows:  # as many tokens, in more evaluations
                batch = minibatches(train, batch_rows, jax.random.key(seed))
                share = train.tokens.shape[0] // batch_rows
            curve, lowest = [], float("inf")
            for spent, params, nats in following(space, searched, objective, batch, budget * share):
                curve.append([spent * train.tokens.size // share, score(params)])
                lowest = nats
            results.append(
                records.record(
                    "tuning",
                    algorithm=name,
                    settings=SETTINGS.get(space, {}).get(name, {}),
                    space=space,
                    batch_rows=batch_rows or train.tokens.shape[0],
                    seed=seed,
                    forward_tokens=budget * train.tokens.size,
                    perplexity_before=before,
                    perplexity_after=curve[-1][1],
                    train_after=float(jnp.exp(lowest)),
                    curve=[[0, before], *curve],
                )
            )
            records.append(json, results[-1:])
            console.print(f"{name} {seed}: {results[-1]['perplexity_after']:.4f}", highlight=False)
    console.print(_table(results, before))


def _moves(name: str, spec: str, model: Any) -> bool:
    """Whether an algorithm can move this space's candidates, and has settings for all weights."""
    if spec == "full":
        return name in (*SETTINGS["full"], "adam")
    if name == "adam":
        return True
    start = parse(spec, model.params, jax.random.key(0)).start()
    try:
        jax.eval_shape(REGISTRY[name]().init, jax.random.key(0), start)
    except ValueError:
        return False
    return True


def _search(name: str, seed: int, spec: str, space: Any, objective: Any, batch: Any, budget: int):
    """After each share of the budget: evaluations, the best parameters, their fitness."""
    search, found = REGISTRY[name](**SETTINGS.get(spec, {}).get(name, {})), None
    for share in SHARES:
        if budget // share < search.pop_size:
            continue
        found = run(
            search,
            space,
            objective,
            batch,
            key=jax.random.key(seed),
            num_evaluations=budget // share,
            resume=found,
        )
        yield budget // share, found.params, found.best_fitness


def _adam(spec: str, space: Any, objective: Any, batch: Any, steps: int):
    adam = optax.adam(ADAM.get(spec, 0.001))

    @jax.jit
    def step(z, state, space, batch):
        loss = lambda z: objective(space.decode(z), batch)  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(z)
        update, state = adam.update(gradient, state, z)
        return optax.apply_updates(z, update), state, value

    z, lowest = space.start(), float("inf")
    best, state = z, adam.init(z)
    for number in range(1, steps + 1):
        after, state, value = step(z, state, space, batch)
        if value < lowest:
            best, lowest = z, float(value)
        z = after
        if number in [steps // share for share in SHARES]:
            yield number, space.decode(best), lowest


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
