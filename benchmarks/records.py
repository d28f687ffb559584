"""One result, one JSON line: what was measured, by which command, on what, with which versions."""

import functools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

Record = dict[str, Any]
STACK = ("jax", "jaxlib", "numpy", "flax", "jaxgfo")  # whose versions every record has
DISTRIBUTIONS = {"cocoex": "coco-experiment"}  # where a module is called otherwise
# Of records from before there were `figure` and `spread`.
FIGURES = ("ratio_to_inference", "ratio", "copies", "peak_ratio", "perplexity_after")


def record(
    benchmark: str,
    *,
    libraries: Iterable[str] = (),
    seed: int | None = None,
    evaluations: int | None = None,
    forward_tokens: int | None = None,
    seconds: float | None = None,
    compile_seconds: float | None = None,
    figure: float | None = None,
    spread: Sequence[float] | None = None,
    **values: Any,
) -> Record:
    """`values` with where they come from.

    Args:
        libraries: modules compared with, whose versions are kept too.
        evaluations: candidates scored.
        seconds: without those of compilation.
        figure: what the benchmark is about, the median where there are several.
        spread: the lowest and the highest of them.
    """
    device = jax.devices()[0]
    return {
        "benchmark": benchmark,
        **values,
        "seed": seed,
        "evaluations": evaluations,
        "forward_tokens": forward_tokens,
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "figure": figure,
        "spread": None if spread is None else list(spread),
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        **{name: _version(name) for name in (*STACK, *libraries)},
        "commit": _commit(),
        "command": command(),
    }


def skipped(benchmark: str, library: str, **values: Any) -> Record:
    """Say that a library to compare with is not installed, and make a record of that."""
    package = DISTRIBUTIONS.get(library, library)
    print(f"{package} is not installed: skipped; pip install 'jaxgfo[benchmarks]' has it")
    return record(benchmark, **values, skipped=package)


def installed(library: str) -> bool:
    """Whether a module can be imported."""
    return find_spec(library) is not None


def append(path: str | None, records: list[Record]) -> None:
    """Add lines to a file, if there is one."""
    if path is None:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in records)


def read(path: str | Path) -> list[Record]:
    """The records of a file, those of older versions with `figure`, `spread` and `command`.

    Raises:
        ValueError: a line that is no record; the message has its number.
    """
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(_upgraded(json.loads(line)))
        except (json.JSONDecodeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: expected one JSON record a line") from error
    return found


def kept(path: str | None) -> list[Record]:
    """What the file of `--json` has already, but for what was skipped; none where there is none."""
    there = read(path) if path and Path(path).exists() else []
    return [record for record in there if "skipped" not in record]


def command() -> str:
    """The command line that this process runs, but for where its records go."""
    words = iter(sys.argv[1:])
    kept = []
    for word in words:
        if word == "--json":
            next(words, None)
        elif not word.startswith("--json="):
            kept.append(word)
    return shlex.join(["python", "-m", "benchmarks", *kept])


def _upgraded(line: Record) -> Record:
    line.setdefault("figure", next((line[name] for name in FIGURES if name in line), None))
    low = line.get("lowest_ratio")
    line.setdefault("spread", None if low is None else [low, line["highest_ratio"]])
    line.setdefault("command", f"python -m benchmarks {line['benchmark']}")
    return line


def _version(name: str) -> str | None:
    try:
        return version(DISTRIBUTIONS.get(name, name))
    except PackageNotFoundError:
        return None


@functools.cache  # that of the code which runs, however long it does
def _commit() -> str | None:
    found = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!*/results")
    return f"{found}-dirty" if found and changed else found


def _git(*words: str) -> str | None:
    root = Path(__file__).parent.parent
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None
