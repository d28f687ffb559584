"""Evaluations to the optimum of test functions."""

from ..records import Record
from . import Table, groups, latest


def tables(records: list[Record]) -> list[Table]:
    """One table for each budget and dimension."""
    newest = latest(records, "algorithm", "function", "dim", "budget", "seeds")
    return [
        _table(found, dim, budget, seeds)
        for (dim, budget, seeds), found in groups(newest, "dim", "budget", "seeds").items()
    ]


def _table(records: list[Record], dim: int, budget: int, seeds: int) -> Table:
    functions = list(dict.fromkeys(r["function"] for r in records))
    title = (
        f"Median evaluations to {records[0]['target']:g} in {dim} dimensions, {seeds} seeds, at "
        f"most {budget:,}; where fewer than half got there, how many did"
    )
    rows = []
    for (algorithm,), found in groups(records, "algorithm").items():
        cells = {r["function"]: _cell(r) for r in found}
        rows.append([algorithm, *(cells.get(name, "") for name in functions)])
    return Table(title, ["algorithm", *functions], rows, records)


def _cell(r: Record) -> str:
    middle = r["median_evaluations"]
    return f"{r['solved']} of {r['seeds']}" if middle is None else f"{middle:,}"
