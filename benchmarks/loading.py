"""Seconds and host memory of loading a Llama of 110 million parameters, each in a fresh process.

Memory is what the process holds at its peak beyond what it held before (with everything imported
and a small model loaded), relative to the parameters' size in the dtype that is asked for.
"""

import json as json_module
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

import jaxgfo
from jaxgfo import embedded

from . import records, resident
from .decoder import LLAMA

CASES = [("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")]


def main(quick: bool, json: str | None) -> None:
    """Dtypes on disk and in memory; one file and shards."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for stored, wanted in CASES[:1] if quick else CASES:
            for shard in ("5GB",) if quick else ("5GB", "50MB"):
                source = Path(folder) / f"{stored}-{shard}"
                if not source.exists():
                    model = jaxgfo.random_model(LLAMA, key=jax.random.key(0), dtype=stored)
                    jaxgfo.save_model(model, model.params, source, max_shard_size=shard)
                    del model
                command = [sys.executable, "-m", "benchmarks.loading", str(source), wanted]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                measured = json_module.loads(done.stdout)
                files = len(list(source.glob("*.safetensors")))
                what = {"stored": stored, "wanted": wanted, "files": files}
                figure = measured["peak_ratio"]
                results.append(records.record("loading", **what, **measured, figure=figure))
    records.append(json, results)
    table = Table(title="loading 110 million parameters")
    for column in ("on disk", "in memory", "files", "seconds", "MB", "peak / parameters"):
        table.add_column(column, justify="right")
    for r in results:
        table.add_row(
            r["stored"],
            r["wanted"],
            str(r["files"]),
            f"{r['seconds']:.1f}",
            f"{r['bytes'] / 1e6:.0f}",
            f"{r['peak_ratio']:.2f}",
        )
    Console().print(table)


def measure(source: str, dtype: str) -> dict[str, Any]:
    """Load once, in this process."""
    jaxgfo.load_model(embedded.MODEL)
    resident.begin_anew()
    before = resident.now()
    begun = time.perf_counter()
    model = jaxgfo.load_model(source, dtype=dtype)
    jax.block_until_ready(model.params)
    seconds = time.perf_counter() - begun
    size = sum(x.nbytes for x in jax.tree.leaves(model.params))
    peak = resident.peak() - before
    return {"seconds": seconds, "bytes": size, "peak_bytes": peak, "peak_ratio": peak / size}


if __name__ == "__main__":
    print(json_module.dumps(measure(*sys.argv[1:])))
