"""Is it faster to compute several members side by side? Interleaved, in one process.

For every chunk size the same population is evaluated; the ratio is to a chunk of one, round by
round, so that a machine whose speed drifts does not matter.
"""

import statistics
from functools import partial

from rich.console import Console
from rich.table import Table

from jaxgfo import MeanNLL
from jaxgfo.evaluation import compiled
from jaxgfo.options import Options
from jaxgfo.population import repeat

from . import records
from .timing import interleaved

POP_SIZE = 32


def main(quick: bool, json: str | None) -> None:
    """Full parameters of the embedded model, at two sizes of batch."""
    model, results = Options().load_model(), []
    for rows in (4, 32):
        train, _ = Options(rows=rows).texts(model)
        population = repeat(model.params, POP_SIZE)
        arguments = (model.params, population, train)
        programs = {
            size: compiled(MeanNLL(model), *arguments, chunk_size=size)
            for size in ((1, 4) if quick else (1, 2, 4, 8, 32))
        }
        calls = {size: partial(program, *arguments) for size, program in programs.items()}
        seconds = interleaved(calls, 3 if quick else 8)
        for size, times in seconds.items():
            ratios = [t / one for t, one in zip(times, seconds[1])]
            results.append(
                records.record(
                    "chunks",
                    chunk_size=size,
                    tokens_per_member=train.tokens.size,
                    milliseconds_per_member=1000 * statistics.median(times) / POP_SIZE,
                    ratio=statistics.median(ratios),
                    lowest_ratio=min(ratios),
                    highest_ratio=max(ratios),
                    evaluations=POP_SIZE,
                    forward_tokens=POP_SIZE * train.tokens.size,
                    seconds=statistics.median(times),
                    figure=statistics.median(ratios),
                    spread=(min(ratios), max(ratios)),
                )
            )
    records.append(json, results)
    table = Table(title="time per member, relative to one at a time")
    for column in ("tokens per member", "chunk", "ms per member", "ratio", "lowest", "highest"):
        table.add_column(column, justify="right")
    for r in results:
        table.add_row(
            str(r["tokens_per_member"]),
            str(r["chunk_size"]),
            f"{r['milliseconds_per_member']:.1f}",
            f"{r['ratio']:.2f}",
            f"{r['lowest_ratio']:.2f}",
            f"{r['highest_ratio']:.2f}",
        )
    Console().print(table)
