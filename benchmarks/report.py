"""Tables and plots from the records in `results/`."""

import json as json_module
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
WHOLE = 32  # rows of the batch, where all are scored in every generation
TITLES = {"select:norms": "the norms, 320 parameters", "full": "all 125,248 parameters"}


def main(quick: bool, json: str | None) -> None:
    """Write `tuning.svg` and print the tables behind it, in Markdown."""
    every = _read(RESULTS / "tuning.jsonl")
    records = [r for r in every if r["batch_rows"] == WHOLE]
    spaces = [space for space in TITLES if any(r["space"] == space for r in records)]
    for space in spaces:
        print(f"\nValidation perplexity, {TITLES[space]}\n")
        print(_table([r for r in records if r["space"] == space]))
    for rows in sorted({r["batch_rows"] for r in every} - {WHOLE}):
        print(f"\nThe norms, with batches of {rows} rows\n")
        print(_table([r for r in every if r["batch_rows"] == rows]))
    _plot(records, spaces)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json_module.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _medians(records: list[dict[str, Any]]) -> dict[str, list[tuple[float, float, float, float]]]:
    """For each algorithm, at each number of forward tokens: median, lowest and highest."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(r["algorithm"] for r in records):
        curves = [r["curve"] for r in records if r["algorithm"] == name]
        found[name] = [
            (points[0][0], statistics.median(after), min(after), max(after))
            for points in zip(*curves)
            for after in [[value for _, value in points]]
        ]
    return dict(sorted(found.items(), key=lambda item: item[1][-1][1]))


def _table(records: list[dict[str, Any]]) -> str:
    curves = _medians(records)
    columns = sorted({point[0] for curve in curves.values() for point in curve if point[0]})
    heads = [f"{tokens / 1e6:.2g}M" for tokens in columns]
    lines = [f"| forward tokens | {' | '.join(heads)} (range) |", "|---" * (len(heads) + 1) + "|"]
    for name, curve in curves.items():
        at = {tokens: rest for tokens, *rest in curve}
        cells = [f"{at[t][0]:.3f}" if t in at else "" for t in columns]
        if at[columns[-1]][1] != at[columns[-1]][2]:
            cells[-1] += " ({1:.3f} to {2:.3f})".format(*at[columns[-1]])
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plot(records: list[dict[str, Any]], spaces: list[str]) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "jaxgfo"  # the same file for the same records
    figure, axes = plt.subplots(
        1, len(spaces), figsize=(6 * len(spaces), 5), squeeze=False, sharey=True
    )
    for axis, space in zip(axes[0], spaces):
        curves = _medians([r for r in records if r["space"] == space])
        colors = plt.get_cmap("tab20")
        for index, (name, curve) in enumerate(curves.items()):
            tokens, middle, low, high = zip(*curve[1:])
            style = {"color": "black", "linestyle": "--"} if name == "adam" else {}
            line = axis.plot(
                tokens,
                middle,
                label=name,
                marker="o",
                markersize=3,
                **({"color": colors(index % 20)} | style),
            )[0]
            axis.fill_between(tokens, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
        axis.axhline(records[0]["perplexity_before"], color="grey", linewidth=0.8)
        axis.set(xscale="log", xlabel="forward tokens", title=TITLES[space])
        axis.legend(fontsize=7, ncol=2)
    axes[0][0].set_ylabel("validation perplexity")
    figure.tight_layout()
    figure.savefig(RESULTS / "tuning.svg", metadata={"Date": None})
    print(f"\n{RESULTS / 'tuning.svg'}")
