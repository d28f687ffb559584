"""When a run ends: what it may cost, and Ctrl-C."""

import contextlib
import signal
import threading
from typing import Any, NamedTuple


class Budget(NamedTuple):
    """What a run may cost; None: as much as it takes."""

    generations: int | None
    evaluations: int | None
    seconds: float | int | None

    def spent(self, generations: int, evaluations: int) -> str | None:
        """What does not allow so many, if anything."""
        if self.generations is not None and generations > self.generations:
            return "generations"
        if self.evaluations is not None and evaluations > self.evaluations:
            return "evaluations"
        return None

    def late(self, seconds: float | int) -> bool:
        """Whether so many seconds are all there were."""
        return self.seconds is not None and seconds >= self.seconds


def check_budget(
    pop_size: int,
    num_generations: int | None,
    num_evaluations: int | None,
    num_seconds: float | int | None,
) -> None:
    """Refuse what `run` refuses.

    Raises:
        ValueError: no budget, or one that allows no generation at all.
    """
    budgets = {"generations": (num_generations, 1), "evaluations": (num_evaluations, pop_size)}
    if num_generations is None and num_evaluations is None and num_seconds is None:
        raise ValueError("run needs num_generations, num_evaluations or num_seconds")
    for name, (budget, least) in budgets.items():
        if budget is not None and budget < least:
            raise ValueError(f"num_{name} is {budget}; one generation needs {least}")
    if num_seconds is not None and not num_seconds > 0:
        raise ValueError(f"num_seconds is {num_seconds}; expected more than 0")


@contextlib.contextmanager
def interruptible():
    """Within it, the first Ctrl-C is only noted; a second one interrupts as usual."""
    noted = False

    def note(*_: Any) -> None:
        nonlocal noted
        noted = True
        signal.signal(signal.SIGINT, previous)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, previous)
