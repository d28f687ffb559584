"""How fast is a population beside plain inference on as many tokens? Interleaved, in one process.

Inference is the same objective with shared weights, on as many sequences as all members read
together, and with as many of them side by side as is fastest. A generation is ask, evaluation and
tell. Compilation is timed apart; every ratio is of one round. Memory and compile time are compared
with inference on as many sequences side by side as the kind has members.
"""

import argparse
import itertools
import statistics
import sys
import time
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxgfo
from jaxgfo import (
    Batch,
    LowRankES,
    MeanNLL,
    OpenES,
    core,
    evaluation,
    memory,
    noise,
    random_model,
    tree,
)
from jaxgfo.flops import flops
from jaxgfo.needs import num_bytes
from jaxgfo.options import EMBEDDED, Data
from jaxgfo.planning import plan
from jaxgfo.population import repeat

from . import records
from .peaks import peak
from .shapes import SHAPES
from .timing import interleaved

SIDE_BY_SIDE = (1, 2, 4, 8, 16, 32, 64, 128)  # sequences that inference is tried with
TOKENS_SIDE_BY_SIDE = {"cpu": 4096}  # more would only be slower there
KINDS = ("dense", "seeded", "low_rank")
GENERATORS = get_args(noise.Generator)  # of the noise
WIDTH = 150  # of the table


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--model", default="4M", help=f"{', '.join(SHAPES)}, embedded or a folder")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--pop-size", type=int, nargs="+", default=[64, 16])
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 256], help="of each member")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--noise", nargs="+", default=["signs"], metavar="signs|normal|table")
    parser.add_argument("--generators", nargs="+", default=["threefry2x32"], choices=GENERATORS)
    parser.add_argument("--chunk-size", type=int, help="of every kind; by default evaluate's own")
    parser.add_argument("--layers", type=int, help="instead of the model's own number")
    parser.add_argument("--rounds", type=int, help="by default 9, or 3 with --quick")


def main(quick: bool, json: str | None, **options: Any) -> None:
    """One table for each pair of a population's size and its members' tokens."""
    if len(options["pop_size"]) != len(options["tokens"]):
        raise SystemExit("--pop-size and --tokens go in pairs: give as many of both")
    if unknown := {*options["noise"]} - {"signs", "normal", "table"}:
        raise SystemExit(f"--noise: {', '.join(unknown)}; choose of signs, normal and table")
    model = _model(options)
    sizes = list(zip(options["pop_size"], options["tokens"]))
    for pop_size, tokens in sizes[:1] if quick else sizes:
        race = Race(model, pop_size, tokens, options)
        results = race.results(options["rounds"] or (3 if quick else 9))
        records.append(json, results)
        _show(results, pop_size, tokens)


def _model(options: dict[str, Any]) -> Any:
    name = options["model"]
    if name not in SHAPES:
        if options["layers"]:
            raise SystemExit("--layers is for random models, not for one that is read")
        dtype = None if name == EMBEDDED else options["dtype"]
        return Data(model=name, dtype=dtype).load_model()
    config = dict(SHAPES[name])
    if options["layers"]:
        config["num_hidden_layers"] = options["layers"]
    return random_model(config, key=jax.random.key(0), dtype=options["dtype"])


class Race:
    """Inference and populations on as many tokens: what is called, and what is known before."""

    def __init__(self, model: Any, pop_size: int, length: int, options: dict[str, Any]):
        self.params, self.objective = model.params, MeanNLL(model)
        self.pop_size, self.length, self.options = pop_size, length, options
        draw = np.random.default_rng(0).integers
        self.rows = jnp.asarray(draw(0, model.vocab_size, (pop_size, length)), jnp.int32)
        self.batch = Batch(self.rows[:1], jnp.ones((1, length), bool))
        self.calls: dict[Any, Any] = {}
        self.facts: dict[Any, dict[str, Any]] = {}
        self.plain: dict[int, Any] = {}  # sequences side by side -> calls and facts of inference
        self._choose_inference()
        for kind in options["kinds"]:
            for rank in options["ranks"] if kind == "low_rank" else [None]:
                for made in self._noises() if kind != "dense" else [None]:
                    self._add(kind, rank, made)

    def _noises(self) -> list[Any]:
        return list(itertools.product(self.options["noise"], self.options["generators"]))

    def results(self, rounds: int) -> list[dict[str, Any]]:
        """A record of every call."""
        device, dtype = jax.devices()[0], jax.tree.leaves(self.params)[0].dtype.name
        work = self.pop_size * flops(self.objective, self.params, self.batch)
        promised = peak(device.device_kind, dtype)
        seconds, found = interleaved(self.calls, rounds), []
        inference = next(iter(self.calls))
        for name, times in seconds.items():
            kind, rank, made, phase = name
            numbers, generator = made or (None, None)
            ratios = [a / b for a, b in zip(seconds[inference], times)]
            median = statistics.median(times)
            found.append(
                records.record(
                    "throughput",
                    model=self.options["model"],
                    dtype=dtype,
                    layers=self.options["layers"],
                    kind=kind,
                    phase=phase,
                    rank=rank,
                    noise=numbers,
                    generator=generator,
                    pop_size=self.pop_size,
                    tokens_per_member=self.length,
                    params=tree.size(self.params),
                    median_seconds=median,
                    lowest_seconds=min(times),
                    highest_seconds=max(times),
                    tokens_per_second=self.pop_size * self.length / median,
                    ratio_to_inference=statistics.median(ratios),
                    lowest_ratio=min(ratios),
                    highest_ratio=max(ratios),
                    evaluations=self.pop_size,
                    forward_tokens=self.pop_size * self.length,
                    seconds=median,
                    figure=statistics.median(ratios),
                    spread=(min(ratios), max(ratios)),
                    flops=work,
                    flops_utilisation=work / median / promised if promised else None,
                    **self.facts[name],
                )
            )
        return found

    def _choose_inference(self) -> None:
        """The fastest number of sequences side by side, by three rounds of all."""
        most = TOKENS_SIDE_BY_SIDE.get(jax.default_backend(), sys.maxsize) // self.length
        sides = [n for n in SIDE_BY_SIDE if n <= max(1, most) and self.pop_size % n == 0]
        calls = {side: self._inference(side)[0] for side in sides}
        seconds = interleaved(calls, 3)
        best = min(sides, key=lambda side: statistics.median(seconds[side]))
        name = ("inference", None, None, "evaluation")
        self.calls[name], self.facts[name] = self._inference(best)

    def _inference(self, side: int) -> tuple[Any, dict[str, Any]]:
        """Mean loss of so many sequences at a time: the call, and what is known of it."""
        if side in self.plain:
            return self.plain[side]

        def score(params, rows):
            def some(tokens):
                return self.objective(params, Batch(tokens, jnp.ones(tokens.shape, bool)))

            groups = -(-rows.shape[0] // side)
            rows = jnp.pad(rows, ((0, groups * side - rows.shape[0]), (0, 0)))
            return jax.lax.map(some, rows.reshape(groups, side, -1))

        program, seconds = _timed(lambda: jax.jit(score).lower(self.params, self.rows).compile())
        facts = {
            "compile_seconds": seconds,
            "compile_ratio": 1.0,
            "peak_bytes": _peak(program),
            "memory_ratio": 1.0,
            "chunk_size": side,
        }
        self.plain[side] = partial(program, self.params, self.rows), facts
        return self.plain[side]

    def _add(self, kind: str, rank: int | None, made: Any) -> None:
        key, pop_size = jax.random.key(1), self.pop_size
        if kind == "dense":
            if (needed := pop_size * num_bytes(self.params)) > memory.free() * 0.9:
                there = memory.readable(memory.free())
                needs = memory.readable(needed)
                print(f"dense is left out: {pop_size} members need {needs}, {there} are free")
                return
            algorithm, population = None, jax.jit(partial(repeat, pop_size=pop_size))(self.params)
        else:
            shared = {"pop_size": pop_size, "noise": made[0], "generator": made[1]}
            algorithm = OpenES(**shared) if rank is None else LowRankES(rank=rank, **shared)
            state = [core.init(algorithm, key, self.params)]
            population, state[0] = core.ask(algorithm, key, state[0])
        arguments = (self.objective, self.params, population, self.batch)
        chunk = self.options["chunk_size"] or evaluation.largest_chunk(*arguments)
        program, seconds = _timed(lambda: evaluation.compiled(*arguments, chunk_size=chunk))
        like = self._inference(chunk)[1]
        name = (kind, rank, made, "evaluation")
        self.calls[name] = partial(jaxgfo.evaluate, *arguments, chunk_size=chunk)
        self.facts[name] = {
            "compile_seconds": seconds,
            "compile_ratio": seconds / like["compile_seconds"],
            "peak_bytes": _peak(program),
            "memory_ratio": _peak(program) / like["peak_bytes"],
            "chunk_size": chunk,
        }
        if algorithm is None:
            return

        def generation():
            asked, state[0] = core.ask(algorithm, key, state[0])
            fitness = jaxgfo.evaluate(
                self.objective, self.params, asked, self.batch, chunk_size=chunk
            )
            state[0], _ = core.tell(algorithm, key, state[0], asked, fitness)
            return state[0]

        _, seconds = _timed(lambda: jax.block_until_ready(generation()))
        needs = plan(algorithm, self.params, self.objective, self.batch, chunk_size=chunk)
        name = (kind, rank, made, "generation")
        self.calls[name] = generation
        self.facts[name] = {
            "compile_seconds": seconds,
            "compile_ratio": None,
            "peak_bytes": needs.peak_bytes,
            "memory_ratio": None,
            "chunk_size": chunk,
        }


def _timed(make: Any) -> tuple[Any, float]:
    """What make() compiles, and the seconds it takes where nothing of it is kept from before."""
    jax.clear_caches()
    evaluation._executable.cache_clear()
    begun = time.perf_counter()
    return make(), time.perf_counter() - begun


def _peak(program: Any) -> int:
    """Bytes of arguments, results and temporaries together."""
    report = program.memory_analysis()
    there = report.argument_size_in_bytes + report.output_size_in_bytes
    return there + report.temp_size_in_bytes - report.alias_size_in_bytes


COLUMNS = {
    "kind": lambda r: r["kind"],
    "rank": lambda r: str(r["rank"] or ""),
    "noise": lambda r: f"{r['noise']} {r['generator']}" if r["noise"] else "",
    "phase": lambda r: r["phase"],
    "chunk": lambda r: str(r["chunk_size"]),
    "ms": lambda r: f"{1000 * r['median_seconds']:.1f}",
    "tokens/s": lambda r: f"{r['tokens_per_second']:.0f}",
    "of inference": lambda r: f"{r['ratio_to_inference']:.2f}",
    "range": lambda r: f"{r['lowest_ratio']:.2f} to {r['highest_ratio']:.2f}",
    "peak": lambda r: memory.readable(r["peak_bytes"]) + _times(r["memory_ratio"]),
    "compile": lambda r: f"{r['compile_seconds']:.1f} s" + _times(r["compile_ratio"]),
    "utilisation": lambda r: f"{r['flops_utilisation']:.3f}" if r["flops_utilisation"] else "",
}


def _show(results: list[dict[str, Any]], pop_size: int, tokens: int) -> None:
    params = results[0]["params"]
    table = Table(
        title=f"{pop_size} members x {tokens} tokens, {params:,} parameters",
        caption="in brackets: beside inference with as many sequences side by side",
    )
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        table.add_row(*(cell(result) for cell in COLUMNS.values()))
    Console(width=max(Console().width, WIDTH)).print(table)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f" ({ratio:.2f})"
