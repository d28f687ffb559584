"""Host memory of a generation over all weights."""

from ..records import Record
from . import Table, groups, latest


def tables(records: list[Record]) -> list[Table]:
    """One table for each model and size of population."""
    measured = [r for r in records if "skipped" not in r]
    newest = latest(measured, "case", "model", "pop_size", "tokens_per_member")
    columns = ["what", "peak, MB", "copies of the model", "seconds"]
    return [
        Table(
            f"A generation of {pop_size} members of {tokens} tokens, {model} parameters",
            columns,
            [_row(r) for r in sorted(found, key=lambda r: r["figure"])],
            found,
        )
        for (model, pop_size, tokens), found in groups(
            newest, "model", "pop_size", "tokens_per_member"
        ).items()
    ]


def _row(r: Record) -> list[str]:
    more = "" if r["finished"] else "more than "
    peak = f"{more}{r['peak_bytes'] / 1e6:,.0f}"
    return [r["case"], peak, f"{more}{r['figure']:.2f}", f"{r['seconds']:.0f}"]
