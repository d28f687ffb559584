"""COCO's bbob functions: the area under the runtime distribution, ours beside other libraries.

The area is the share of all pairs of a target (51 of f - f_opt, from 100 to 1e-8) and a logarithmic
number of evaluations (d to 1,000 d, 20,000 at most) at which the target has been hit: 1 would be
all targets at once, 0 none ever. Searches of a family stand together, the largest area in bold;
ours have no library's name.
"""

from statistics import mean
from typing import Any

from ..records import Record
from . import Table, groups, latest


def tables(records: list[Record]) -> list[Table]:
    """Mean areas for every search and dimension; then function by function for each dimension."""
    newest = latest(
        [r for r in records if "skipped" not in r], "search", "dim", "function", "budget", "first"
    )
    found = []
    for (first,), some in groups(newest, "first").items():
        whole = [r for group in groups(some, "search", "dim", "budget").values() for r in group]
        found.append(_areas(whole, first))
        found += [_functions(own, dim) for (dim,), own in sorted(groups(whole, "dim").items())]
    return found


def _areas(records: list[Record], first: int) -> Table:
    dims = sorted({r["dim"] for r in records})
    rows = []
    for (family,), some in sorted(groups(records, "family").items()):
        areas = {
            key: (mean(r["figure"] for r in own), own[0]["instances"], len(own))
            for key, own in groups(some, "search", "dim").items()
        }
        whole = [(dim, a) for (_, dim), (a, _, functions) in areas.items() if functions == 24]
        best = {d: max(a for dim, a in whole if dim == d) for d in {dim for dim, _ in whole}}
        for (search,), _ in groups(some, "search").items():
            cells = [_cell(areas.get((search, d)), best.get(d)) for d in dims]
            rows.append([family, search, *cells])
    title = f"Mean area over 24 functions, instances from {first}; in brackets, how many instances"
    return Table(title, ["family", "search", *(f"d = {d}" for d in dims)], rows, records)


def _cell(found: Any, best: float | None) -> str:
    if found is None:
        return ""
    area, instances, functions = found
    shown = f"**{area:.3f}**" if area == best else f"{area:.3f}"
    less = "" if functions == 24 else f", {functions} functions"
    return f"{shown} ({instances}{less})"


def _functions(records: list[Record], dim: int) -> Table:
    numbers = sorted({r["function"] for r in records})
    rows = []
    for (_, search), own in sorted(groups(records, "family", "search").items()):
        cells = {r["function"]: f"{r['figure']:.2f}".removeprefix("0") for r in own}
        rows.append([search, *(cells.get(n, "") for n in numbers)])
    return Table(f"Area by function, d = {dim}", ["search", *map(str, numbers)], rows, records)


def plot(records: list[Record], figure: Any) -> None:
    """Share of targets hit against evaluations, one panel for a family and dimension."""
    newest = latest([r for r in records if "skipped" not in r], "search", "dim", "function")
    dims = sorted({r["dim"] for r in newest})
    families = sorted({r["family"] for r in newest})
    figure.set_size_inches(3.2 * len(dims), 2.6 * len(families))
    axes = figure.subplots(len(families), len(dims), squeeze=False, sharey=True)
    for row, family in zip(axes, families):
        for axis, dim in zip(row, dims):
            own = [r for r in newest if r["family"] == family and r["dim"] == dim]
            for (search,), some in groups(own, "search").items():
                curve = [mean(points) for points in zip(*(r["curve"] for r in some))]
                spent = [
                    (some[0]["budget"] / dim) ** (i / (len(curve) - 1)) for i in range(len(curve))
                ]
                style = "--" if " " in search or search == "pycma" else "-"
                axis.plot(spent, curve, style, label=search, linewidth=1.2)
            axis.set(xscale="log", title=f"{family}, d = {dim}")
            if own:
                axis.legend(fontsize=5)
    for axis in axes[-1]:
        axis.set_xlabel("evaluations / d")
    for row in axes:
        row[0].set_ylabel("share of targets")
