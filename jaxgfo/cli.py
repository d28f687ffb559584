"""The command line: arguments in, a report out. The work is in `jaxgfo.tune`."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import jax
import tyro
from rich.console import Console
from rich.table import Table

from . import __version__, choices, describe, evosax
from .algorithms import REGISTRY
from .bounds import Bounds
from .planning import Plan
from .tune import Data, Options, prepare, prepare_scoring

EXPECTED = (ValueError, OSError, MemoryError)  # what wrong input raises, with the way out


@dataclass(frozen=True, kw_only=True)
class Search(Options):
    """Lower a language model's perplexity without gradients, and write the tuned model.

    With no options at all the small model that comes with the package is tuned on its text.
    The options of the chosen algorithm stand at the end: jaxgfo tune --algorithm de --help.

    Attributes:
        algorithm: Which search, or evosax:NAME for one of evosax; `jaxgfo algorithms` tells more.
        bounds: Lowest and highest value of every coordinate of a candidate.
        bounds_mode: What happens at the bounds.
        dry_run: Check everything, print what a generation needs, and stop there.
        json: Print one line of JSON at the end, and nothing else on standard output.
    """

    algorithm: str = choices.DEFAULT
    bounds: tuple[float, float] | None = None
    bounds_mode: Literal["clip", "reflect", "wrap"] = "clip"
    dry_run: bool = False
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class Evaluate(Data):
    """Perplexity of a checkpoint on a text.

    Attributes:
        dry_run: Check everything, print what it needs, and stop there.
        json: Print one line of JSON.
    """

    dry_run: bool = False
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class Algorithms:
    """List the algorithms with their hyperparameters and papers."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `jaxgfo`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv == ["--version"]:
        print(f"jaxgfo {__version__}")
        return 0
    try:
        search = _search_of(choices.chosen(argv))
    except (ImportError, ValueError) as error:
        return _refuse(error)
    commands: Any = Union[  # noqa: UP007 (pyright refuses | between Annotated)
        Annotated[search, tyro.conf.subcommand("tune", description=describe.prose(Search))],
        Annotated[Evaluate, tyro.conf.subcommand("evaluate")],
        Annotated[Algorithms, tyro.conf.subcommand("algorithms")],
    ]
    command = tyro.cli(
        commands,
        prog="jaxgfo",
        description=f"Gradient-free optimisation for language models in JAX ({__version__}).",
        args=argv,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )
    if isinstance(command, Search):
        return _tune(command)
    return _evaluate(command) if isinstance(command, Evaluate) else _algorithms()


def _tune(command: Search) -> int:
    console = Console(stderr=True)
    try:
        with console.status("loading the model and the text"):
            draft = prepare(command.algorithm, _algorithm(command), command)
        first = jax.process_index() == 0
        console.quiet = not first
        if command.dry_run:
            return _show(draft.plan, command.json) if first else 0
        _print(console, str(draft.plan))
        with console.status("scoring the model as it is"):
            job = draft.begin()
    except EXPECTED as error:
        return _refuse(error)
    _print(
        console,
        f"{command.algorithm}, pop_size {job.algorithm.pop_size}, {job.tokens_each} tokens: "
        f"perplexity {job.train_before:.4f} (validation {job.perplexity_before:.4f})",
    )
    from .io.log import Progress, summary

    each = {"tokens": job.tokens_each, "evaluations": job.evaluations_each}
    try:
        with Progress(console, job.budget(), **each) as progress:
            report = job.execute(progress)
    except (MemoryError, OSError) as error:
        return _refuse(error)
    if not first:
        return 0
    if command.json:
        print(json.dumps(report))
    else:
        for part in summary(report):
            Console().print(part, soft_wrap=True)
    return 0


def _evaluate(command: Evaluate) -> int:
    try:
        scoring = prepare_scoring(command)
        if command.dry_run:
            return _show(scoring.plan, command.json)
        _print(Console(stderr=True), str(scoring.plan))
        report = scoring.execute()
    except EXPECTED as error:
        return _refuse(error)
    if command.json:
        print(json.dumps(report))
    else:
        print(f"perplexity {report['perplexity']:.4f} over {report['tokens']} tokens")
    return 0


def _algorithms() -> int:
    console = Console()
    for name, cls in REGISTRY.items():
        table = Table(
            title=f"{name}  {cls.__name__}: {describe.headline(cls)}",
            caption=describe.reference(cls),
            title_justify="left",
            caption_justify="left",
            show_header=False,
            title_style="bold",
        )
        for field in dataclasses.fields(cls):
            default = repr(field.default) if field.default is not None else "none"
            table.add_row(field.name, default, describe.hyperparameters(cls)[field.name])
        console.print(table)
    console.print(_of_evosax(), soft_wrap=True, markup=False, highlight=False)
    return 0


def _of_evosax() -> str:
    try:
        return f"{choices.EVOSAX}NAME  of evosax: {', '.join(evosax.names())}"
    except ImportError as error:
        return f"{choices.EVOSAX}NAME  {error}"


def _show(plan: Plan, as_json: bool) -> int:
    print(json.dumps(dataclasses.asdict(plan)) if as_json else plan)
    return 0


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def _refuse(error: BaseException) -> int:
    print(f"jaxgfo: {error}", file=sys.stderr)
    return 2


def _search_of(name: str) -> Any:
    """`Search` with the hyperparameters of one algorithm as further options."""
    group = choices.options(name)
    which = Annotated[
        Literal[choices.names(name)],  # type: ignore[valid-type]
        tyro.conf.arg(help=describe.hyperparameters(Search)["algorithm"]),
    ]
    return dataclasses.make_dataclass(
        "Search",
        [
            ("algorithm", which, dataclasses.field(default=choices.DEFAULT)),
            ("hyperparameters", group, dataclasses.field(default_factory=group)),
        ],
        bases=(Search,),
        frozen=True,
        kw_only=True,
    )


def _algorithm(command: Search) -> Any:
    values = dataclasses.asdict(command.hyperparameters)  # type: ignore[attr-defined]
    bounds = None
    if command.bounds is not None:
        low, high = command.bounds
        if not low < high:
            raise ValueError(f"bounds are {low} and {high}; expected the lower one first")
        bounds = Bounds(low, high, command.bounds_mode)
    return choices.algorithm(command.algorithm, values, bounds)


if __name__ == "__main__":
    sys.exit(main())
