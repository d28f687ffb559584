"""Populations beside plain inference."""

from ..records import Record
from . import Table, between, groups, latest

SIZE = ("model", "dtype", "params", "pop_size", "tokens_per_member")
KIND = ("kind", "phase", "rank", "noise", "generator")


def tables(records: list[Record]) -> list[Table]:
    """One table for each model, size of population and number of tokens."""
    newest = latest(records, *SIZE, *KIND)
    columns = ["kind", "rank", "noise", "phase", "tokens per second", "of inference", "range"]
    return [
        Table(
            f"{pop} members of {tokens} tokens, {params:,} parameters in {dtype}",
            columns,
            [_row(r) for r in found],
            found,
        )
        for (_, dtype, params, pop, tokens), found in groups(newest, *SIZE).items()
    ]


def _row(r: Record) -> list[str]:
    return [
        r["kind"],
        str(r["rank"] or ""),
        " ".join(filter(None, (r["noise"], r.get("generator")))),
        r["phase"],
        f"{r['tokens_per_second']:,.0f}",
        f"{r['figure']:.2f}",
        between(r["spread"]),
    ]
