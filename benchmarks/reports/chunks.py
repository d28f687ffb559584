"""Time per member against members side by side."""

from ..records import Record
from . import Table, between, groups, latest


def tables(records: list[Record]) -> list[Table]:
    """One table for each number of tokens."""
    newest = latest(records, "tokens_per_member", "chunk_size")
    columns = ["members side by side", "ms per member", "relative to one", "range"]
    return [
        Table(f"Time per member of {tokens:,} tokens", columns, [_row(r) for r in found], found)
        for (tokens,), found in groups(newest, "tokens_per_member").items()
    ]


def _row(r: Record) -> list[str]:
    time = f"{r['milliseconds_per_member']:.1f}"
    return [str(r["chunk_size"]), time, f"{r['figure']:.2f}", between(r["spread"])]
