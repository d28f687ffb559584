"""Seconds and memory of loading a checkpoint."""

from ..records import Record
from . import Table, latest


def tables(records: list[Record]) -> list[Table]:
    """One table."""
    found = latest(records, "stored", "wanted", "files")
    columns = ["on disk", "in memory", "files", "seconds", "MB", "peak, in sizes of the parameters"]
    rows = [
        [
            r["stored"],
            r["wanted"],
            str(r["files"]),
            f"{r['seconds']:.1f}",
            f"{r['bytes'] / 1e6:.0f}",
            f"{r['figure']:.2f}",
        ]
        for r in found
    ]
    return [Table("Loading a Llama of 110 million parameters", columns, rows, found)]
