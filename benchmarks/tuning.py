"""Validation perplexity against forward tokens and seconds: every algorithm, space by space.

All see the same training sequences the same number of times: an evaluation is one forward pass, a
step of Adam one forward and one backward pass. Each is judged by its best candidate on the training
text, scored on the held-out text, after a sixteenth, an eighth, ... and the whole of the budget.
A run whose record is in FILE of `--json` is not repeated, so a long table may be made in parts.
"""

import argparse
import dataclasses
import functools
import statistics
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

from jaxgfo import REGISTRY, MeanNLL, batches, minibatches, run
from jaxgfo.options import EMBEDDED, EVALUATIONS, INT8, Options
from jaxgfo.spaces.spec import parse
from jaxgfo.tune import held_out_perplexity

from . import records
from .timing import stopwatch

SHARES = (16, 8, 4, 2, 1)  # of the budget, at which the best candidate is scored
LARGER = Path(__file__).parent.parent / "runs" / "larger" / "model"
MODELS = {"embedded": EMBEDDED, "larger": str(LARGER)}  # 0.1 and 1.0 million parameters
# Defaults are for the norms, which are near 1; weights are near 0.1, and so are the steps.
STEPS = ("scale", "init_scale", "mutation_scale", "learning_rate")
SETTINGS: dict[str, dict[str, Any]] = {  # of single algorithms, where it is not that tenth
    "openes": {"scale": 0.005, "learning_rate": 0.002},
    "lowrank-es": {"scale": 0.005, "learning_rate": 0.002},
    "spsa": {"rank": 1, "scale": 0.005, "learning_rate": 0.002},
}
# What is for as many coordinates as a model has.
LARGE = ("openes", "lowrank-es", "spsa", "snes", "pgpe", "sepcma", "lmma", "random", "adam")
# What a record is of; one that agrees in all of it is not measured again.
CASE = ("model", "space", "dtype", "batch_rows", "length", "forward_tokens")
RUN = (*CASE, "algorithm", "settings", "seed")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    every = [*REGISTRY, "adam"]
    parser.add_argument("--algorithms", nargs="+", default=every, choices=every, metavar="NAME")
    parser.add_argument("--model", default="embedded", choices=MODELS)
    parser.add_argument("--dtype", default="float32", choices=("float32", INT8))
    parser.add_argument("--space", default=None, help="as for `jaxgfo tune`")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help="of a run")
    parser.add_argument("--batch-rows", type=int, help="of every generation; by default all 32")


def main(
    quick: bool,
    json: str | None,
    algorithms: list[str],
    model: str,
    dtype: str,
    space: str | None,
    seeds: int,
    evaluations: int,
    batch_rows: int | None,
) -> None:
    """The command line's defaults; `--quick`: one seed and an eighth of the budget."""
    if model == "larger" and not LARGER.exists():
        raise SystemExit(
            f"the larger model is not in {LARGER}; make it (about ten minutes of one core): "
            "python scripts/make_embedded.py --size larger"
        )
    options = Options(model=MODELS[model], dtype=INT8 if dtype == INT8 else None, space=space)
    bench = Bench(options, evaluations // 8 if quick else evaluations, batch_rows)
    train, console, results = bench.train, Console(), []
    known = {identity(r) for r in records.kept(json)}
    for seed in range(1 if quick else seeds):  # what is whole so far is of use
        searched = parse(options.spec, bench.model.params, jax.random.key(seed))
        for name in algorithms:
            search = bench.search(name, searched)
            alike = "subspace" not in options.spec and not batch_rows
            if search is None or (name == "adam" and seed and alike):
                continue  # Adam draws nothing
            case = {
                "algorithm": name,
                "settings": plain(search),
                "model": model,
                "dtype": dtype,
                "space": options.spec,
                "batch_rows": batch_rows or train.tokens.shape[0],
                "length": train.tokens.shape[1],
                "seed": seed,
                "forward_tokens": bench.budget * train.tokens.size,
            }
            if identity(case) in known:
                console.print(f"{name} {seed}: there already", highlight=False)
                continue
            results.append(
                records.record("tuning", **case, **bench.measure(search, searched, seed))
            )
            records.append(json, results[-1:])
            console.print(f"{name} {seed}: {results[-1]['figure']:.4f}", highlight=False)
    if results:
        console.print(_table(results))


def identity(record: records.Record) -> str:
    """What a run is of, whichever commit it ran at."""
    return repr([record.get(name) for name in RUN])


class Bench:
    """A model, its texts, and a budget."""

    def __init__(self, options: Options, budget: int, batch_rows: int | None):
        self.options, self.budget, self.batch_rows = options, budget, batch_rows
        self.model = options.load_model()
        self.train, held_out = options.texts(self.model)
        self.objective = MeanNLL(self.model)
        self.score = functools.partial(held_out_perplexity, self.model, batch=held_out)
        self.before = self.score(self.model.params)

    def search(self, name: str, space: Any) -> Any:
        """The algorithm with its settings for a space; None: it is not for it."""
        norms, spec = self.options.spec == "select:norms", self.options.spec
        if spec == "full" and name not in LARGE:
            return None
        if name == "adam":
            return Adam(0.01 if norms else 0.001) if self.options.dtype != INT8 else None
        cls = REGISTRY[name]
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        smaller = {n: d / 10 for n, d in defaults.items() if n in STEPS and isinstance(d, float)}
        unchanged = norms or self.options.dtype == INT8
        search = cls() if unchanged else cls(**(smaller | SETTINGS.get(name, {})))
        try:
            jax.eval_shape(search.init, jax.random.key(0), space.start())
        except ValueError:
            return None
        return search

    def measure(self, search: Any, space: Any, seed: int) -> dict[str, Any]:
        """The curve of a run, against forward tokens and seconds without those of compilation."""
        batch, share = self.train, 1
        if self.batch_rows:  # as many tokens, in more evaluations
            batch = minibatches(self.train, self.batch_rows, jax.random.key(seed))
            share = self.train.tokens.shape[0] // self.batch_rows
        budget = self.budget * share
        follow = _adam if isinstance(search, Adam) else functools.partial(_search, seed=seed)
        parts = follow(search, space, self.objective, batch, budget)
        curve, seconds, compiling, lowest = [[0, self.before]], [0.0], 0.0, float("inf")
        while True:
            with stopwatch() as watch:
                part = next(parts, None)
            if part is None:
                break
            spent, params, lowest = part
            seconds.append(seconds[-1] + watch["seconds"])
            compiling += watch["compile_seconds"]
            curve.append([spent * self.train.tokens.size // share, self.score(params)])
        return {
            "perplexity_before": self.before,
            "train_after": float(jnp.exp(lowest)),
            "curve": curve,
            "curve_seconds": seconds,
            "evaluations": budget,
            "seconds": seconds[-1],
            "compile_seconds": compiling,
            "figure": curve[-1][1],
        }


@dataclasses.dataclass(frozen=True)
class Adam:
    """The yardstick with gradients."""

    learning_rate: float


def plain(search: Any) -> dict[str, Any]:
    """All hyperparameters, as JSON has them: a run with other defaults is another run."""
    values = {f.name: getattr(search, f.name) for f in dataclasses.fields(search)}
    return {n: v if isinstance(v, int | float | str | None) else str(v) for n, v in values.items()}


def _search(search: Any, space: Any, objective: Any, batch: Any, budget: int, seed: int):
    """After each share of the budget: evaluations, the best parameters, their fitness."""
    found = None
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


def _adam(search: Adam, space: Any, objective: Any, batch: Any, steps: int):
    """As `_search`; with batches that change its latest parameters, for their losses differ."""
    adam, changes = optax.adam(search.learning_rate), batches.varies(batch)

    @jax.jit
    def step(z, state, space, batch):
        loss = lambda z: objective(space.decode(z), batch)  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(z)
        update, state = adam.update(gradient, state, z)
        return optax.apply_updates(z, update), state, value

    z, lowest = space.start(), float("inf")
    best, state = z, adam.init(z)
    for number in range(1, steps + 1):
        after, state, value = step(z, state, space, batches.at(batch, number - 1))
        if not changes and value < lowest:
            best, lowest = z, float(value)
        z = after
        if number in [steps // share for share in SHARES]:
            if changes:
                best, whole = z, batches.final(batch, None, number - 1)
                lowest = float(objective(space.decode(z), whole))
            yield number, space.decode(best), lowest


def _table(results: list[records.Record]) -> Table:
    before = results[0]["perplexity_before"]
    table = Table(title=f"validation perplexity, {before:.3f} before")
    for column in ("algorithm", "after (median)", "lowest", "highest", "change", "seconds"):
        table.add_column(column, justify="left" if column == "algorithm" else "right")
    for name in dict.fromkeys(r["algorithm"] for r in results):
        own = [r for r in results if r["algorithm"] == name]
        after = [r["figure"] for r in own]
        middle = statistics.median(after)
        table.add_row(
            name,
            f"{middle:.3f}",
            f"{min(after):.3f}",
            f"{max(after):.3f}",
            f"{100 * (middle / before - 1):+.1f} %",
            f"{statistics.median(r['seconds'] for r in own):.0f}",
        )
    return table
