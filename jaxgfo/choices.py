"""From the name of an algorithm on the command line to its options, and from those to itself."""

import dataclasses
from typing import Annotated, Any, get_args, get_type_hints

import tyro

from . import describe, evosax
from .algorithms import REGISTRY
from .bounds import Bounds
from .core import Scalar

DEFAULT = "sa"
EVOSAX = "evosax:"  # what stands before a name of evosax
OMITTED = ("bounds",)  # given by two options of their own


def chosen(argv: list[str]) -> str:
    """The algorithm on the command line: its hyperparameters become options.

    A name that is not known is left to the parser, which lists those there are; but evosax's are
    looked up here.

    Raises:
        ImportError, ValueError: evosax, or an algorithm of it, that is not there.
    """
    for index, word in enumerate(argv):
        option, _, value = word.partition("=")
        if option == "--algorithm":
            value = value or (argv[index + 1] if index + 1 < len(argv) else "")
            if value.startswith(EVOSAX):
                named(value)
                return value
            return value if value in REGISTRY else DEFAULT
    return DEFAULT


def named(name: str) -> Any:
    """The class of an algorithm.

    Raises:
        ImportError, ValueError: evosax, or an algorithm of it, that is not there.
    """
    if name.startswith(EVOSAX):
        return evosax.adapted(name.removeprefix(EVOSAX))
    return REGISTRY[name]


def names(name: str) -> tuple[str, ...]:
    """What may be chosen where `name` is: the registry, and an algorithm of evosax."""
    return (*REGISTRY, name) if name.startswith(EVOSAX) else tuple(REGISTRY)


def options(name: str) -> Any:
    """A dataclass whose fields are the options for an algorithm's hyperparameters."""
    cls = named(name)
    hints, help_of = get_type_hints(cls), describe.hyperparameters(cls)
    own = [
        (f.name, Annotated[_plain(hints[f.name]), tyro.conf.arg(help=help_of[f.name])], f.default)
        for f in dataclasses.fields(cls)
        # What may be anything at all is for Python only.
        if f.name not in OMITTED and hints[f.name] is not Any
    ]
    group = dataclasses.make_dataclass(
        cls.__name__, [(n, kind, dataclasses.field(default=d)) for n, kind, d in own], frozen=True
    )
    group.__doc__ = f"{name}: {describe.headline(cls)}"
    return group


def algorithm(name: str, values: dict[str, Any], bounds: Bounds | None) -> Any:
    """The algorithm that the options stand for.

    Raises:
        ValueError: what it refuses, or bounds for one that has none.
    """
    cls = named(name)
    if bounds is None:
        return cls(**values)
    if "bounds" not in {f.name for f in dataclasses.fields(cls)}:
        raise ValueError(f"{name} has no bounds: leave --bounds out, or choose another algorithm")
    return cls(**values, bounds=bounds)


def _plain(hint: Any) -> Any:
    """The type of an option: a traced number is a float, and what may be a name is a name."""
    parts = get_args(hint)
    if str in parts:
        return str | None if type(None) in parts else str
    return {Scalar: float, Scalar | None: float | None}.get(hint, hint)
