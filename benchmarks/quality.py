"""COCO's bbob functions: targets reached against evaluations, ours beside other libraries.

24 functions, d = 2, 5, 10, 20, 40, 15 instances of each, box [-5, 5]^d, 1,000 d evaluations but
20,000 at most. Ours and evosax's run on a mirror of the functions in JAX (`bbob/`) that equals
COCO's own point by point (`tests/test_bbob.py`), in double precision; other libraries call COCO's
own. Nobody knows f_opt. Ours are set up by `jaxgfo.for_box`, the others as their documentation has
it; what ends early starts again (`box_peers.py`). A point outside the box counts as the nearest
inside. What is in FILE of `--json` with the same settings is not run again.
"""

import argparse
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxgfo

from . import bbob, bbob_runs, box_peers, ecdf, records
from .timing import stopwatch
from .tuning import plain

DIMS = (2, 5, 10, 20, 40)
FAMILIES = {  # ours, and evosax's of the same family
    "ga": (["ga"], ["SimpleGA", "SAMR_GA"]),
    "de": (["shade", "de"], ["DifferentialEvolution"]),
    "pso": (["pso"], ["PSO"]),
    "sa": (["dual", "sa", "gsa"], ["SimulatedAnnealing"]),
    "cma": (["cma"], ["CMA_ES"]),
}
OURS = {name: family for family, (names, _) in FAMILIES.items() for name in names}
EVOSAX = {f"evosax {n}": family for family, (_, names) in FAMILIES.items() for n in names}
CASE = ("search", "settings", "dim", "function", "budget", "instances", "first")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    every = [*OURS, *EVOSAX, *box_peers.PEERS]
    parser.add_argument("--searches", nargs="+", default=every, choices=every, metavar="NAME")
    parser.add_argument("--dims", nargs="+", type=int, default=None, metavar="D", help="from 2")
    parser.add_argument("--functions", nargs="+", type=int, default=[*range(1, 25)], metavar="F")
    parser.add_argument("--instances", type=int, help="how many of each; by default 15")
    parser.add_argument("--first", type=int, default=1, help="instance; tuning began at 101")


def main(
    quick: bool,
    json: str | None,
    searches: list[str],
    dims: list[int] | None,
    functions: list[int],
    instances: int | None,
    first: int,
) -> None:
    """All dimensions; `--quick`: d = 2, two instances, a tenth of the budget."""
    known = {_identity(r): r for r in records.kept(json)}
    numbers = list(range(first, first + (instances or (2 if quick else 15))))
    results = []
    for dim in dims or ((2,) if quick else DIMS):
        budget = min(1000 * dim, 20_000) // (10 if quick else 1)
        for search in searches:
            made = _made(search, dim)
            for function in functions:
                settings = plain(made) if made is not None else {}
                values = (search, settings, dim, function, budget, len(numbers), first)
                case: dict[str, Any] = dict(zip(CASE, values))
                if _identity(case) not in known:
                    known[_identity(case)] = _measured(case, made, numbers)
                    records.append(json, [known[_identity(case)]])
                results.append(known[_identity(case)])
                if "skipped" in results[-1]:
                    break
    _show(results)


def _identity(record: dict[str, Any]) -> str:
    return repr([record.get(n) for n in CASE])


def _made(search: str, dim: int) -> Any:
    """One of ours, or of evosax's that is installed; None: another library's."""
    box = jaxgfo.Bounds(bbob.LOW, bbob.HIGH)
    if search in OURS:
        return jaxgfo.for_box(search, dim, box)
    if search not in EVOSAX or not records.installed("evosax"):
        return None
    family = EVOSAX[search]
    ours = FAMILIES[family][0][0]
    size = 16 if family == "sa" else jaxgfo.for_box(ours, dim, box).pop_size
    # evosax takes a standard deviation: a uniform law's on the box, or a first step as pycma's.
    scale = 2.0 if family == "cma" else (bbob.HIGH - bbob.LOW) / 12**0.5
    return jaxgfo.Evosax(search.split()[1], pop_size=size, init_scale=scale)


def _measured(case: dict[str, Any], made: Any, numbers: list[int]) -> records.Record:
    search, dim, budget, function = (case[n] for n in ("search", "dim", "budget", "function"))
    library = box_peers.PEERS[search][1] if search in box_peers.PEERS else None
    if search in EVOSAX:
        library = "evosax"
    needed = [n for n in (library, "cocoex" if search in box_peers.PEERS else None) if n]
    if missing := [n for n in needed if not records.installed(n)]:
        return records.skipped("quality", missing[0], **case)
    with stopwatch() as watch, jax.enable_x64(True):
        if made is not None:
            hits = bbob_runs.hits(made, function, dim, numbers, budget)
        else:
            hits = np.stack([box_peers.hits(search, function, dim, i, budget) for i in numbers])
    areas = ecdf.area(hits, dim, budget)
    family = (OURS | EVOSAX).get(search) or box_peers.PEERS[search][0]
    return records.record(
        "quality",
        libraries=needed,
        **case,
        family=family,
        name=bbob.NAMES[function - 1],
        curve=[round(float(x), 4) for x in ecdf.curve(hits, dim, budget)],
        areas=[round(float(x), 4) for x in areas],
        evaluations=budget * len(numbers),
        **watch,
        figure=float(areas.mean()),
        spread=[float(areas.min()), float(areas.max())],
    )


def _show(results: list[records.Record]) -> None:
    dims = list(dict.fromkeys(r["dim"] for r in results))
    table = Table(title="mean area under the runtime distribution")
    for column in ("search", *(f"d = {d}" for d in dims)):
        table.add_column(column, justify="left" if column == "search" else "right")
    for search in dict.fromkeys(r["search"] for r in results):
        own = [r for r in results if r["search"] == search]
        cells = []
        for dim in dims:
            found = [r["figure"] for r in own if r["dim"] == dim and "skipped" not in r]
            cells.append(f"{np.mean(found):.3f}" if found else "not installed")
        table.add_row(search, *cells)
    Console().print(table)
