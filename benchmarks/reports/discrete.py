"""Problems of bits: which searches reach the optimum, after how many evaluations."""

from ..records import Record
from . import Table, groups, latest


def tables(records: list[Record]) -> list[Table]:
    """For each budget: who reached the optimum and when, and what was left of the way there."""
    newest = latest(records, "search", "problem", "size", "budget", "runs")
    found = []
    for (budget, runs), some in groups(newest, "budget", "runs").items():
        cases = groups(some, "problem", "size")
        columns = ["search", *(f"{problem} {size}" for problem, size in cases)]
        for title, cell in {
            f"Median evaluations to the optimum, {runs} runs of at most {budget:,}; in brackets, "
            "how many got there": _reached,
            "Mean share left of the way from a random candidate to the optimum": _left,
        }.items():
            rows = []
            for (search,), own in groups(some, "search").items():
                cells = {(r["problem"], r["size"]): cell(r) for r in own}
                rows.append([search, *(cells.get(case, "") for case in cases)])
            found.append(Table(title, columns, rows, some))
    return found


def _reached(r: Record) -> str:
    if "skipped" in r:
        return "not installed"
    middle = r["median_evaluations"]
    return f"({r['solved']})" if middle is None else f"{middle:,.0f} ({r['solved']})"


def _left(r: Record) -> str:
    return "not installed" if "skipped" in r else f"{r['left']:.3f}"
