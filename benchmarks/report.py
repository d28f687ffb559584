"""Tables and plots of all records in `results/`: NAME.md and NAME.svg for each benchmark."""

import argparse
import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from . import records as recorded
from .records import Record
from .reports import Table, groups

RESULTS = Path(__file__).parent / "results"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of .jsonl files")


def main(quick: bool, json: str | None, results: Path) -> None:
    """One page for each benchmark that has records; `--quick` leaves out the plots."""
    found = [r for path in sorted(results.glob("*.jsonl")) for r in recorded.read(path)]
    for (name,), records in sorted(groups(found, "benchmark").items()):
        if find_spec(f"{__package__}.reports.{name}") is None:
            print(f"{name} is left out: benchmarks/reports/{name}.py would make its tables")
            continue
        renderer = importlib.import_module(f".reports.{name}", __package__)
        drawn = hasattr(renderer, "plot") and not quick
        if drawn and not recorded.installed("matplotlib"):
            print("matplotlib is not installed: no plots; pip install 'jaxgfo[benchmarks]' has it")
        elif drawn:
            _draw(renderer, records, results / f"{name}.svg")
        page = results / f"{name}.md"
        page.write_text(_page(name, renderer, records, results), encoding="utf-8")
        print(page)


def _page(name: str, renderer: ModuleType, records: list[Record], results: Path) -> str:
    parts = [f"# {name}", (renderer.__doc__ or "").strip()]
    if hasattr(renderer, "plot") and (results / f"{name}.svg").exists():
        parts.append(f"![{name}]({name}.svg)")
    for (device,), on_it in groups(records, "device").items():
        for table in renderer.tables(on_it):
            if table.rows:
                parts += [f"## {table.title}", _markdown(table), _source(table, device)]
    if missing := sorted({r["skipped"] for r in records if "skipped" in r}):
        parts.append(f"Not installed in some of the runs, and left out: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _source(table: Table, device: str) -> str:
    """Command, commit, device, cores and version, of all records of the table."""

    def all_of(key: str) -> list[str]:
        return list(dict.fromkeys(str(r[key]) for r in table.records if r.get(key)))

    commands = ", ".join(f"`{command}`" for command in all_of("command"))
    versions = ", ".join(f"JAX {version}" for version in all_of("jax"))
    if cores := all_of("cores"):
        device += f" with {' or '.join(sorted(cores))} core{'' if cores == ['1'] else 's'}"
    return f"{commands}; commit {', '.join(all_of('commit'))}; {device}; {versions}."


def _draw(renderer: ModuleType, records: list[Record], path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    # The same file for the same records.
    with matplotlib.rc_context({"svg.hashsalt": "jaxgfo"}):
        figure = Figure(layout="constrained")
        renderer.plot(records, figure)
        figure.savefig(path, format="svg", metadata={"Date": None})
    print(path)
