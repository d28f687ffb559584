"""Forward tokens per second beside another library or form."""

from ..records import Record
from . import Table, between, latest


def tables(records: list[Record]) -> list[Table]:
    """One table."""
    found = latest([r for r in records if "skipped" not in r], "what", "beside", "dtype")
    columns = ["what", "dtype", "tokens per second", "beside", "ratio of speeds", "range"]
    rows = [
        [
            r["what"],
            r["dtype"],
            f"{r['tokens_per_second']:,.0f}",
            r["beside"],
            f"{r['figure']:.2f}",
            between(r["spread"]),
        ]
        for r in found
    ]
    return [Table("Forward tokens per second", columns, rows, found)]
