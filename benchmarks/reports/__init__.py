"""What `python -m benchmarks report` makes of a benchmark's records: NAME.py here, for NAME.

`tables(records)` returns what goes into `results/NAME.md`; `plot(records, figure)`, where there is
one, draws `results/NAME.svg` on a Matplotlib figure. Tables are made of the records of one device,
the plot of all, oldest first.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from ..records import Record


class Table(NamedTuple):
    """A table, and what it is made of."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    records: list[Record]  # whose command, commit and versions are named below it


def latest(records: Iterable[Record], *keys: str) -> list[Record]:
    """Of the records that agree in all of `keys`, the last; in the order of the first."""
    found: dict[Any, Record] = {}
    for record in records:
        found[tuple(str(record.get(key)) for key in keys)] = record
    return list(found.values())


def groups(records: Iterable[Record], *keys: str) -> dict[tuple[Any, ...], list[Record]]:
    """Records by the values of `keys`, in the order of the first of each."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        found.setdefault(tuple(record.get(key) for key in keys), []).append(record)
    return found


def between(spread: Any, digits: int = 2) -> str:
    """A range in words."""
    return "" if spread is None else f"{spread[0]:.{digits}f} to {spread[1]:.{digits}f}"
