"""Seconds of ask and tell, compile seconds and peak memory beside evosax's namesakes.

Both sides of a case run in one process, interleaved, with the same hyperparameters
(`namesakes.py`) and a fitness that is known before, so that nothing but ask and tell is timed;
`duel.py` does it. All
cases of an algorithm share a process; where it ends early, the case is named and a new process goes
on with the next. Ratios are evosax's over ours: above 1 ours is the lower.
"""

import argparse
import json as json_module
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen, run
from typing import Any

from rich.console import Console
from rich.table import Table

from . import records

DIMS, POP_SIZES = (1_000, 100_000, 1_000_000, 10_000_000), (16, 1024)
NUMBERS = 1.6e8  # of a population, at most, where sizes are not chosen
MEMORY = 1_000_000, 16  # coordinates and members of the processes whose memory is compared
SECONDS = 2.0  # for a comparison; rounds follow from it
PHASES = ("generation", "loop", "compile", "memory")
WIDTH = 130  # of the table
Case = tuple[str, int, int]  # algorithm, coordinates, members
SEEDED = ("openes", "openes seeded", "openes signs", "openes signs seeded")
NAMES = (
    *("ga", "de", "pso", "sa", "cma", "sepcma", "snes", "xnes", "pgpe", "lmma", "random"),
    *SEEDED,
)
CAPTION = (
    "evosax's over ours, median and range. openes draws its members from keys: here they are made "
    "as evosax's are, and `seeded` are those that no one makes; signs: +1 or -1 instead of normal "
    "noise. loop: generations inside one jit. No namesake in evosax: shade, pt, gsa, lowrank-es, "
    "spsa, int8-es."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--algorithms", nargs="+", default=NAMES, choices=NAMES, metavar="NAME")
    parser.add_argument("--dims", type=int, nargs="+", help=f"by default {DIMS}")
    parser.add_argument("--pop-sizes", type=int, nargs="+", help=f"by default {POP_SIZES}")
    parser.add_argument("--seconds", type=float, help=f"of a comparison, by default {SECONDS}")
    parser.add_argument("--no-memory", action="store_true", help="leave memory out")


def main(
    quick: bool,
    json: str | None,
    algorithms: list[str],
    dims: list[int] | None,
    pop_sizes: list[int] | None,
    seconds: float | None,
    no_memory: bool,
) -> None:
    """Run what FILE does not hold yet of this commit; `--quick`: two sizes, without memory."""
    cases = [
        (name, n, pop_size)
        for name in algorithms
        for n in dims or (DIMS[:2] if quick else DIMS)
        for pop_size in pop_sizes or (POP_SIZES[:1] if quick else POP_SIZES)
        if dims or pop_sizes or n * pop_size <= NUMBERS
    ]
    seconds = seconds or (0.2 if quick else SECONDS)
    results = _there(json, cases)
    seen = {(_case(r), r["phase"] == "memory") for r in results}
    for name in algorithms:
        todo = [case for case in cases if case[0] == name and (case, False) not in seen]
        found = list(_noted(_timed(todo, seconds), json))
        results += found
        case = (name, *MEMORY)
        if case in cases and not (no_memory or quick or (case, True) in seen):
            results += _noted(_resident(case), json)
    _show(results)


def _timed(todo: list[Case], seconds: float) -> Iterator[dict[str, Any]]:
    """What a process says of every case; another process after one that ended early."""
    while todo:
        given = json_module.dumps({"cases": todo, "seconds": seconds})
        at, said = 0, ""
        command = [sys.executable, "-m", "benchmarks.duel", "time", given]
        with Popen(command, text=True, stdout=PIPE, stderr=STDOUT) as process:
            for line in process.stdout or []:
                if not line.startswith("{"):
                    said = line.strip() or said
                elif "phase" in (result := json_module.loads(line)):
                    yield result
                else:
                    at = result["begins"]
        if not process.returncode:
            return
        reason = said[:300] or f"exit code {process.returncode}"
        yield {**_named(todo[at]), "phase": "failed", "reason": reason}
        todo = todo[at + 1 :]


def _resident(case: Case) -> Iterator[dict[str, Any]]:
    """Bytes that either side adds to a process of its own."""
    found, reason = {}, None
    for who in ("jaxgfo", "evosax"):
        given = json_module.dumps([who, *case])
        command = [sys.executable, "-m", "benchmarks.duel", "memory", given]
        done = run(command, text=True, capture_output=True)
        if done.returncode:
            reason = f"{who}: {(done.stderr.strip().splitlines() or [done.returncode])[-1]}"
        else:
            found[who] = json_module.loads(done.stdout.splitlines()[-1])
    if reason:
        yield {**_named(case), "phase": "failed", "reason": reason[:300]}
        return
    figure = found["evosax"] / found["jaxgfo"]
    numbers = {"bytes": found["jaxgfo"], "peer_bytes": found["evosax"], "figure": figure}
    yield {**_named(case), "phase": "memory", **numbers, "spread": [figure, figure]}


def _named(case: Case) -> dict[str, Any]:
    return dict(zip(("algorithm", "dims", "pop_size"), case))


def _case(result: dict[str, Any]) -> Case:
    return result["algorithm"], result["dims"], result["pop_size"]


def _noted(found: Iterator[dict[str, Any]], path: str | None) -> Iterator[dict[str, Any]]:
    """Records of what is found, each written at once."""
    for result in found:
        line = records.record("ask_tell", **result)
        records.append(path, [line])
        yield line


def _there(path: str | None, cases: list[Case]) -> list[dict[str, Any]]:
    """Records of these cases and of this commit in the file, where no process ended early."""
    if path is None or not Path(path).exists():
        return []
    commit, lines = records.record("ask_tell")["commit"], Path(path).read_text().splitlines()
    every = [r for r in map(json_module.loads, lines) if r["benchmark"] == "ask_tell"]
    mine = [r for r in every if r["commit"] == commit and _case(r) in cases]
    whole = {_case(r) for r in mine if r["phase"] in ("done", "skipped")}
    return [r for r in mine if _case(r) in whole or r["phase"] == "memory"]


def _show(results: list[dict[str, Any]]) -> None:
    """A row for each case; what was left out, and why, below."""
    table = Table(title="beside evosax", caption=CAPTION)
    for name in ("algorithm", "coordinates", "members", "ms", *PHASES):
        table.add_column(name, justify="left" if name == "algorithm" else "right", no_wrap=True)
    for case in dict.fromkeys(map(_case, results)):
        mine = {r["phase"]: r for r in results if _case(r) == case}
        if "generation" in mine:
            ms = f"{1000 * mine['generation']['seconds']:.3g}"
            cells = [_ratio(mine[phase]) if phase in mine else "" for phase in PHASES]
            table.add_row(case[0], f"{case[1]:,}", f"{case[2]:,}", ms, *cells)
    Console(width=max(Console().width, WIDTH)).print(table)
    for r in results:
        if "reason" in r:
            print(f"{r['phase']}: {' x '.join(map(str, _case(r)))}: {r['reason']}")


def _ratio(result: dict[str, Any]) -> str:
    low, high = result["spread"]
    there = f"{result['figure']:.3g}"
    return there if low == high else f"{there} ({low:.2g} to {high:.2g})"
