"""Validation perplexity under every algorithm: median of the seeds, lowest and highest."""

import statistics
from typing import Any

from ..records import Record
from ..tuning import CASE
from . import Table, groups, latest


def tables(records: list[Record]) -> list[Table]:
    """One table for each model, space, size of batch and budget."""
    return [_table(found, *case) for case, found in groups(_runs(records), *CASE).items()]


def plot(records: list[Record], figure: Any) -> None:
    """Against forward tokens, and against seconds where they are known, with whole batches."""
    runs = _runs(records)
    most = max(r["batch_rows"] for r in runs)
    largest: dict[Any, Any] = {}
    for (model, space, budget), found in groups(
        [r for r in runs if r["batch_rows"] == most], "model", "space", "forward_tokens"
    ).items():
        if (model, space) not in largest or budget > largest[model, space][0]:
            largest[model, space] = budget, found
    timed = any("curve_seconds" in r for r in runs)
    figure.set_size_inches(6 * len(largest), 9 if timed else 4.5)
    axes = figure.subplots(1 + timed, len(largest), squeeze=False, sharey="row")
    names = list(dict.fromkeys(r["algorithm"] for r in runs))
    for column, ((model, space), (_, found)) in enumerate(largest.items()):
        _axis(axes[0][column], found, names, "forward tokens")
        axes[0][column].set_title(f"{space}, {model} model")
        if timed:
            _axis(axes[1][column], _timed(found)[1], names, "seconds")
    for row in axes:
        row[0].set_ylabel("validation perplexity")


def _runs(records: list[Record]) -> list[Record]:
    """The newest of each seed, as far as they have the settings of the newest of all.

    What older records do not say is what there was then.
    """
    size = {"model": "embedded", "dtype": "float32", "length": 128}
    newest = latest([size | r for r in records], *CASE, "algorithm", "seed")
    settings = {
        key: found[-1]["settings"] for key, found in groups(newest, *CASE, "algorithm").items()
    }
    return [
        r
        for r in newest
        if r["settings"] == settings[tuple(r[key] for key in (*CASE, "algorithm"))]
    ]


def _table(records: list[Record], model: str, space: str, dtype: str, rows: int, *_: Any) -> Table:
    curves = {name: _medians(r) for (name,), r in groups(records, "algorithm").items()}
    columns = sorted({tokens for curve in curves.values() for tokens, *_ in curve if tokens})
    cores, timed = _timed(records)
    lines = []
    for name, curve in sorted(curves.items(), key=lambda item: item[1][-1][1]):
        own = [r for r in records if r["algorithm"] == name]
        at = {tokens: f"{middle:.3f}" for tokens, middle, _, _ in curve}
        low, high = curve[-1][2:]
        seconds = [r["seconds"] for r in timed if r["algorithm"] == name]
        lines.append(
            [
                name,
                *(at.get(tokens, "") for tokens in columns),
                f"{low:.3f} to {high:.3f}",
                str(len(own)),
                f"{min(seconds):.0f}" if seconds else "",
            ]
        )
    heads = [f"{tokens / 1e6:.2g}M" for tokens in columns]
    title = f"{space} of the {model} model{'' if dtype == 'float32' else f' in {dtype}'}"
    title += f", {rows} rows a batch: perplexity after forward tokens"
    before = records[0]["perplexity_before"]
    title += f" (before: {before:.3f})"
    # The least: what else a machine had to do only adds to it.
    last = "least seconds"
    last += "" if cores is None else f" on {cores} core{'s' if cores > 1 else ''}"
    return Table(title, ["algorithm", *heads, "range", "seeds", last], lines, records)


def _timed(records: list[Record]) -> tuple[int | None, list[Record]]:
    """Those whose seconds compare: of the number of cores that most of them had."""
    found = groups([r for r in records if "curve_seconds" in r], "cores")
    return max(((k, f) for (k,), f in found.items()), key=lambda x: len(x[1]), default=(None, []))


def _medians(records: list[Record], horizontal: str | None = None) -> list[tuple[float, ...]]:
    """At each point: tokens (or median seconds), median perplexity, lowest and highest."""
    found = []
    for points in zip(*(r["curve"] for r in records)):
        after = [value for _, value in points]
        found.append((points[0][0], statistics.median(after), min(after), max(after)))
    if horizontal is None:
        return found
    places = [statistics.median(at) for at in zip(*(r[horizontal] for r in records))]
    return [(place, *point[1:]) for place, point in zip(places, found)]


def _axis(axis: Any, records: list[Record], names: list[str], label: str) -> None:
    import matplotlib

    colors = matplotlib.colormaps["tab20"]
    for (name,), runs in groups(records, "algorithm").items():
        points = _medians(runs, "curve_seconds" if label == "seconds" else None)[1:]
        place, middle, low, high = zip(*points)
        color = "black" if name == "adam" else colors(names.index(name) % 20)
        style: Any = {"color": color, "linestyle": "--" if name in ("adam", "random") else "-"}
        axis.plot(place, middle, label=name, marker="o", markersize=3, **style)
        axis.fill_between(place, low, high, color=color, alpha=0.12, linewidth=0)
    if records:
        axis.axhline(records[0]["perplexity_before"], color="grey", linewidth=0.8)
        axis.legend(fontsize=7, ncol=2)
    axis.set(xscale="log", xlabel=label)
