"""One result, one JSON line: what was measured, on what, with which versions."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax


def record(benchmark: str, **values: Any) -> dict[str, Any]:
    """`values` with where they come from."""
    device = jax.devices()[0]
    return {
        "benchmark": benchmark,
        **values,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "jax": version("jax"),
        "jaxgfo": version("jaxgfo"),
        "commit": _commit(),
    }


def append(path: str | None, records: list[dict[str, Any]]) -> None:
    """Add lines to a file, if there is one."""
    if path is None:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in records)


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True
        )
    except OSError:
        return None
    return done.stdout.strip() or None
