"""Seconds of calls that are compared."""

import time
from collections.abc import Callable
from typing import Any

import jax


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
