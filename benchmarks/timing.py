"""Seconds of calls that are compared, and of compilation apart."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxgfo.clock import CompileClock


@contextlib.contextmanager
def stopwatch() -> Iterator[dict[str, Any]]:
    """`seconds` and `compile_seconds` of what is within, once it is over."""
    found: dict[str, Any] = {}
    clock, begun = CompileClock(), time.perf_counter()
    yield found
    found["compile_seconds"] = clock.seconds
    found["seconds"] = time.perf_counter() - begun - clock.seconds


def interleaved(calls: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[float]]:
    """Seconds of every call, round by round; each is called once before."""
    seconds: dict[Any, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            begun = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - begun)
    return seconds
