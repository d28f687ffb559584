"""Seconds of ask and tell, compile seconds and peak memory: evosax's over ours.

Above 1 ours is the lower. Both sides run in one process in turn, with the same hyperparameters and
without a fitness function; a cell is the median of the rounds and their range. `loop`: generations
inside one jit. `compile`: seconds of tracing, lowering and compiling in the first two generations,
as JAX reports them, three times anew. `memory`: what two generations add to a process. openes draws
its members from keys: here they are made as evosax's are, `seeded` are those that no one makes,
`signs` are +1 or -1 instead of normal numbers, which evosax does not have.
"""

from ..ask_tell import PHASES
from ..records import Record
from . import Table, groups, latest


def tables(records: list[Record]) -> list[Table]:
    """The ratios, and what has none."""
    newest = latest(records, "algorithm", "dims", "pop_size", "phase")
    measured = [r for r in newest if r["phase"] in PHASES]
    cases = groups(measured, "algorithm", "dims", "pop_size")
    rows = [_row(case, {r["phase"]: r for r in found}) for case, found in cases.items()]
    columns = ["algorithm", "coordinates", "members", "ours, ms", *PHASES]
    without = [r for r in newest if r.get("reason")]
    reasons = [
        [r["algorithm"], f"{r['dims']:,}", f"{r['pop_size']:,}", r["phase"], r["reason"]]
        for r in without
    ]
    title = "Left out, or failed"
    return [
        Table("evosax's over ours", columns, rows, measured),
        Table(title, ["algorithm", "coordinates", "members", "", "why"], reasons, without),
    ]


def _row(case: tuple, found: dict[str, Record]) -> list[str]:
    ms = f"{1000 * found['generation']['seconds']:.3g}" if "generation" in found else ""
    cells = [_ratio(found[phase]) if phase in found else "" for phase in PHASES]
    return [case[0], f"{case[1]:,}", f"{case[2]:,}", ms, *cells]


def _ratio(r: Record) -> str:
    low, high = r["spread"]
    return f"{r['figure']:.2f}" + ("" if low == high else f" ({low:.2g} to {high:.2g})")
