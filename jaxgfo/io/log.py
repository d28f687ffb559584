"""What a person sees while a run goes on, and when it ends."""

import math
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..loop import Generation


class Progress:
    """One live line on a terminal; elsewhere a line now and then. Use it as a context."""

    EVERY = 10.0  # seconds between lines where there is no terminal

    def __init__(self, console: Console, budget: dict[str, Any], *, tokens: int, evaluations: int):
        """Of one evaluation the tokens, and of a generation after the first the evaluations."""
        self.console, self.budget = console, budget
        self.tokens, self.evaluations, self.counted = tokens, evaluations, 0
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self.printed = time.monotonic()

    def __enter__(self) -> "Progress":
        """Take over the line."""
        if self.console.is_terminal:
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Give it back."""
        if self.console.is_terminal:
            self.live.__exit__(*error)

    def __call__(self, generation: Generation) -> None:
        """Show a generation."""
        line = self.line(generation)
        if self.console.is_terminal:
            self.live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif time.monotonic() - self.printed >= self.EVERY:
            self.printed = time.monotonic()
            self.console.print(line, soft_wrap=True, highlight=False)

    def line(self, generation: Generation) -> str:
        """Generation, best and mean perplexity, tokens/s and time left."""
        g, running = generation, generation.seconds - generation.compile_seconds
        if g.index:  # a search that was restarted may have other members
            self.evaluations = g.evaluations - self.counted
        self.counted = g.evaluations
        speed = g.evaluations * self.tokens / max(running, 1e-9)
        done = max(self._shares(g), default=0.0)
        total = self.budget["num_generations"] or "?"
        if self.budget["num_evaluations"]:
            rest = max(self.budget["num_evaluations"] - g.evaluations, 0)
            whole = g.index + 1 + rest // self.evaluations
            total = whole if total == "?" else min(whole, total)
        left = running * (1 - done) / done if done else math.nan
        failed = f"  failed {g.failed}" if g.failed else ""
        return (
            f"generation {g.index + 1}/{total}  best {_exp(g.best):.4g}  mean {_exp(g.mean):.4g}"
            f"{failed}  {_thousands(speed)} tokens/s  {_clock(left)} left"
        )

    def _shares(self, g: Generation) -> list[float]:
        spent = {
            "num_generations": g.index + 1,
            "num_evaluations": g.evaluations + self.evaluations - 1,
            "num_seconds": g.seconds,
        }
        return [min(1.0, spent[k] / self.budget[k]) for k in spent if self.budget[k]]


def summary(report: dict[str, Any]) -> list[Table | Text]:
    """The table a run ends with, and what it cost."""
    table = Table(title=f"{report['algorithm']} in {report['space']}", title_justify="left")
    for column in ("perplexity", "before", "after", "change"):
        table.add_column(column, justify="left" if column == "perplexity" else "right")
    for name, key in [("validation", "perplexity"), ("training", "train")]:
        before, after = report[f"{key}_before"], report[f"{key}_after"]
        change = f"{100 * (after / before - 1):+.1f} %"
        table.add_row(name, f"{before:.4f}", f"{after:.4f}", change)
    more = f" and {report['final_evaluations']} at the end" if report["final_evaluations"] else ""
    cost = (
        f"{report['generations']} generations, {report['evaluations']} evaluations{more}, "
        f"{_thousands(report['forward_tokens'])} forward tokens in {report['seconds']:.1f} s "
        f"({report['compile_seconds']:.1f} s compiling)"
    )
    lines = [cost, f"tuned model: {report['out']}"]
    if report["unlearnt"]:
        lines.append(
            f"{report['unlearnt']} generations taught nothing: all members failed or scored alike"
        )
    return [table, *map(Text, lines)]


def _exp(nats: int | float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


def _thousands(number: int | float) -> str:
    for unit in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


def _clock(seconds: int | float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
