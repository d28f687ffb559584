"""Seconds spent compiling, as JAX itself reports them."""

import functools

import jax


@functools.cache
def _total() -> list[float]:
    """Seconds of tracing, lowering and compiling since the first call, in a list of one."""
    total = [0.0]

    def add(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            total[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(add)
    return total


class CompileClock:
    """Seconds that JAX spent tracing, lowering and compiling since the clock was made."""

    def __init__(self) -> None:
        self._total = _total()
        self._begun = self._total[0]

    @property
    def seconds(self) -> float:
        """So far."""
        return self._total[0] - self._begun
