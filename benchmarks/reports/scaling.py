"""A generation of a low-rank population over more devices, processes, members and parameters.

The share is parameters times tokens per second, of each device or process, beside the first row of
its table: 1 is perfect. Devices and processes of one CPU share its cores, so there 1 / number is
what to expect of `strong`, `weak` and `processes`.
"""

from ..records import Record
from . import Table, between, groups, latest

POINT = ("devices", "processes", "pop_size", "params", "tokens")


def tables(records: list[Record]) -> list[Table]:
    """One for each kind of scaling and phase."""
    newest = latest(records, "kind", "phase", *POINT)
    columns = ["devices", "processes", "members", "parameters", "ms", "tokens/s", "share", "range"]
    return [
        Table(f"{kind}: {phase}", columns, [_row(r) for r in found], found)
        for (kind, phase), found in groups(newest, "kind", "phase").items()
    ]


def _row(r: Record) -> list[str]:
    numbers = [f"{r[name]:,}" for name in ("devices", "processes", "pop_size", "params")]
    rate = f"{r['tokens_per_second']:,.0f}"
    share = f"{r['figure']:.2f}"
    return [*numbers, f"{1000 * r['seconds']:.0f}", rate, share, between(r["spread"])]
