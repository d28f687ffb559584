"""Tokens per second over devices, processes, members and models, beside the smallest of each.

Every point is a process of its own (two where processes are counted), which compiles and then
waits; they take turns, so what slows the machine down slows all of them. A generation is ask,
evaluation and tell of `lowrank-es`. On a CPU devices are made by XLA's host platform and share the
cores: what one device reaches there uses all of them, so that two can show what spreading costs,
and no gain.
"""

import argparse
import contextlib
import json as json_module
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from subprocess import DEVNULL, PIPE, Popen, run
from typing import Any

from rich.console import Console
from rich.table import Table

from . import records
from .shapes import SHAPES

KINDS = ("strong", "weak", "processes", "population", "model")
QUICK = ("strong", "processes", "population")
CAPTION = (
    "efficiency: tokens/s beside the first row of its kind, per device or process (strong: as many "
    "members in all; weak: as many on each device), for models in parameters times tokens/s. On a "
    "CPU devices and processes share its {cores} cores, all of which one device uses already."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="by default all")
    parser.add_argument("--devices", type=int, nargs="+", help="by default 1, 2, 4, ... of those")
    parser.add_argument("--pop-sizes", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--models", nargs="+", choices=SHAPES, help="by default 4M and 25M")
    parser.add_argument("--model", default="4M", choices=SHAPES, help="where models do not vary")
    parser.add_argument("--pop-size", type=int, default=16, help="where members do not vary")
    parser.add_argument("--tokens", type=int, default=128, help="of each member")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--rounds", type=int, help="by default 7, or 2 with --quick")


def main(quick: bool, json: str | None, **options: Any) -> None:
    """One table; `--quick`: fewer points and rounds."""
    backend, there = _machine()
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= (4 if backend == "cpu" else there)]
    devices = options["devices"] or (counts[:2] if quick else counts)
    models = options["models"] or (["4M"] if quick else ["4M", "25M"])
    pops = options["pop_sizes"][:2] if quick else options["pop_sizes"]
    point = {
        "backend": backend,
        "devices": 1,
        "processes": 1,
        **{name: options[name] for name in ("model", "pop_size", "tokens", "dtype")},
    }
    of_kind = {
        "strong": [{"devices": n} for n in devices],
        "weak": [{"devices": n, "pop_size": options["pop_size"] // 2 * n} for n in devices],
        "processes": [{}, {"processes": 2}],
        "population": [{"pop_size": n} for n in pops],
        "model": [{"model": name} for name in models],
    }
    results: list[dict[str, Any]] = []
    for kind in options["kinds"] or (QUICK if quick else KINDS):
        if kind == "processes" and backend != "cpu":
            print("processes: left out; two of one machine would share its accelerators")
            continue
        try:
            found = _compared(kind, [point | more for more in of_kind[kind]], quick, options)
        except RuntimeError as error:  # the other kinds are still worth having
            print(f"{kind}: {error}")
            continue
        records.append(json, found)
        results += found
    _show(results)


def _compared(
    kind: str, points: list[dict[str, Any]], quick: bool, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """A record for each point and phase."""
    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(_started(point)) for point in points]
        facts = [[_read(process) for process in processes] for processes in runners]
        rounds: list[list[list[float]]] = []
        for _ in range(options["rounds"] or (2 if quick else 7)):
            rounds.append([_turn(processes) for processes in runners])
    found = []
    for index, phase in enumerate(("evaluation", "generation")):
        for place, (point, fact) in enumerate(zip(points, (of_first for of_first, *_ in facts))):
            seconds = [turn[place][index] for turn in rounds]
            rates = [_rate(point, fact, s) for s in seconds]
            first = [_rate(points[0], facts[0][0], turn[0][index]) for turn in rounds]
            share = [a / b for a, b in zip(rates, first)]
            tokens = point["pop_size"] * point["tokens"]
            more = {"params": fact["params"], "tokens": tokens, "rounds": len(rounds)}
            found.append(
                records.record(
                    "scaling",
                    **{"kind": kind, "phase": phase, **point, **more},
                    seconds=statistics.median(seconds),
                    tokens_per_second=tokens / statistics.median(seconds),
                    figure=statistics.median(share),
                    spread=[min(share), max(share)],
                )
                | {"device": fact["device"], "devices": point["devices"]}
            )
    return found


def _rate(point: dict[str, Any], fact: dict[str, Any], seconds: float) -> float:
    """Parameters times tokens per second, of each device or process."""
    work = fact["params"] * point["pop_size"] * point["tokens"]
    return work / seconds / (point["devices"] * point["processes"])


@contextlib.contextmanager
def _started(point: dict[str, Any]) -> Iterator[list[Any]]:
    """The processes of a point, which end with the context."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    more = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if point["backend"] == "cpu":
        flag = f"--xla_force_host_platform_device_count={point['devices']}"
        more["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    processes = []
    try:
        for rank in range(point["processes"]):
            given = json_module.dumps(point | {"rank": rank, "address": address})
            command = [sys.executable, "-m", "benchmarks.scaling", given]
            pipes: Any = {"stdin": PIPE, "stdout": PIPE, "stderr": DEVNULL}
            processes.append(Popen(command, text=True, env=os.environ | more, **pipes))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _turn(processes: list[Any]) -> list[float]:
    """Seconds of an evaluation and of a generation: those of the slowest process."""
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [_read(process)["seconds"] for process in processes]
    return [max(seconds) for seconds in zip(*said)]


def _read(process: Any) -> Any:
    while line := process.stdout.readline():
        if line.startswith('{"'):  # anything else is a remark of a library's
            return json_module.loads(line)
    raise RuntimeError(f"a process ended with exit code {process.wait()}")


def _machine() -> tuple[str, int]:
    """Backend and number of devices, asked of a process, which gives the devices back."""
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    said = run([sys.executable, "-c", code], text=True, stdout=PIPE, check=True).stdout.split()
    return said[-2], int(said[-1])


def _serve(point: dict[str, Any]) -> None:
    """Compile, say so, and time an evaluation and a generation for every line that comes."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxgfo
    from jaxgfo import mesh

    if point["processes"] > 1:
        jax.distributed.initialize(point["address"], point["processes"], point["rank"])
    model = jaxgfo.random_model(
        dict(SHAPES[point["model"]]), key=jax.random.key(0), dtype=point["dtype"]
    )
    objective = jaxgfo.MeanNLL(model)
    draw = np.random.default_rng(0).integers
    rows = draw(0, model.vocab_size, (1, point["tokens"]), dtype=np.int32)
    batch = jaxgfo.Batch(jnp.asarray(rows), jnp.ones(rows.shape, bool))
    search = jaxgfo.REGISTRY["lowrank-es"](pop_size=point["pop_size"])
    devices = point["devices"] * point["processes"]
    over = mesh.over(devices) if devices > 1 else None
    with mesh.use(over):
        params, batch, key = mesh.place((model.params, batch, jax.random.key(1)))
        state = jaxgfo.init(search, key, params)
        population, state = jaxgfo.ask(search, key, state)

        def evaluation() -> None:
            jax.block_until_ready(jaxgfo.evaluate(objective, params, population, batch))

        def generation() -> None:
            nonlocal state
            asked, state = jaxgfo.ask(search, key, state)
            fitness = jaxgfo.evaluate(objective, params, asked, batch)
            state, _ = jaxgfo.tell(search, key, state, asked, fitness)
            jax.block_until_ready(state)

        evaluation()
        generation()
        generation()
        params_of = sum(x.size for x in jax.tree.leaves(params))
        device = jax.devices()[0].device_kind
        print(json_module.dumps({"params": params_of, "device": device}), flush=True)
        for _ in sys.stdin:
            seconds = []
            for call in (evaluation, generation):
                begun = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - begun)
            print(json_module.dumps({"seconds": seconds}), flush=True)


def _show(results: list[dict[str, Any]]) -> None:
    table = Table(title="lowrank-es", caption=CAPTION.format(cores=os.cpu_count()))
    columns = "kind phase devices processes members model tokens/s efficiency range".split()
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for r in results:
        low, high = r["spread"]
        numbers = [str(r[name]) for name in ("devices", "processes", "pop_size")]
        cells = [f"{r['tokens_per_second']:.0f}", f"{r['figure']:.2f}", f"{low:.2f} to {high:.2f}"]
        table.add_row(r["kind"], r["phase"], *numbers, r["model"], *cells)
    Console(width=max(Console().width, 110)).print(table)


if __name__ == "__main__":
    _serve(json_module.loads(sys.argv[1]))
