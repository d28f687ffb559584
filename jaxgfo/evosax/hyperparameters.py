"""The hyperparameters of an algorithm of evosax as the fields of one of this package's classes."""

import dataclasses
import functools
import inspect
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..core import Scalar, static, within
from ..operators.evolution import Optimizer, transformation
from . import library

LENGTHS = ("std_init", "scale_factor")  # of Params: in units of the parameters
POPULATIONS = 4  # where an algorithm has several populations
# Two of everything: what differs follows from the numbers of members and coordinates.
SIZES = ((8, 4), (16, 9))
LARGE = 2**20  # coordinates, where only the number of members is checked


class Field(NamedTuple):
    """A field of a class of hyperparameters."""

    hint: Any
    default: Any  # a dataclass field
    description: str


def fields(inner: type) -> dict[str, Field]:
    """The hyperparameters of an algorithm of evosax by name."""
    given = library.constructor(inner)
    own, traced = {}, _params(inner)
    for name, (hint, default) in given.items():
        if name == "optimizer":
            own[name] = Field(
                Optimizer | None,
                static(None),
                "name of an optimiser in optax, with learning_rate; or, in Python, a function of "
                "the learning rate, or a ready transformation; None: evosax's choice.",
            )
            own["learning_rate"] = Field(
                Scalar | None, within(None, 0), "of an optimizer that is named or a function."
            )
        elif name == "fitness_shaping_fn":
            own[name] = Field(
                str | Callable | None,
                static(None),
                "centered_rank, standardize or another of evosax's; or, in Python, a function; "
                "None: evosax's choice.",
            )
        elif name == "num_populations":
            own[name] = Field(int, static(POPULATIONS), "that share the members.")
        else:
            own[name] = Field(hint, static(default), "as in evosax's constructor.")
    scale = Field(
        Scalar,
        within(0.05, 0),
        "standard deviation of the first members around the start, in units of the parameters.",
    )
    members = Field(int, static(32), "members; in all, where they are in several populations.")
    return {"init_scale": scale} | traced | own | {"pop_size": members}


def _params(inner: type) -> dict[str, Field]:
    """Those in evosax's `Params`: traced, with their defaults where these are the same always."""
    first, second = (_defaults(inner, *size) for size in SIZES)
    found = {}
    for name, value in first.items():
        plain = isinstance(value, int | float)
        if name in LENGTHS:
            hint, default = Scalar | None, within(None, 0)
            text = "in units of the parameters; None: init_scale."
        elif plain and value == second[name]:
            hint = bool if isinstance(value, bool) else Scalar
            default, text = within(value, -math.inf), "as in evosax's Params."
        else:
            # Arrays and trees are for Python only.
            hint = Scalar | None if plain or getattr(value, "shape", None) == () else Any
            default = within(None, -math.inf)
            text = "as in evosax's Params; None: computed by it."
        found[name] = Field(hint, default, text)
    return found


def _defaults(inner: type, members: int, size: int) -> dict[str, Any]:
    """evosax's `Params`; only plain numbers have values, as nothing is computed."""
    given, found = _needed(inner, size), {}

    def look():
        params = library.build(inner, members, size, **given)[1]
        found.update({f.name: getattr(params, f.name) for f in dataclasses.fields(params)})

    jax.eval_shape(look)
    return found


def _needed(inner: type, size: int) -> dict[str, Any]:
    """What a constructor cannot do without."""
    there = library.constructor(inner)
    given: dict[str, Any] = {"num_populations": 2} if "num_populations" in there else {}
    if "sampling_fn" in there:
        given["sampling_fn"] = sampling(size, jnp.float32, 1.0)
    return given


def inside(self: Any, inner: type, size: int) -> tuple[Any, Any]:
    """The algorithm of evosax that these hyperparameters stand for, and its `Params`.

    Raises:
        ValueError: what evosax refuses.
    """
    given = _given(self, inner, size)
    members = self.pop_size // given.get("num_populations", 1)
    algorithm, defaults = library.build(inner, members, size, **given)
    changed = {}
    for f in dataclasses.fields(defaults):
        value = getattr(self, f.name)
        value = self.init_scale if value is None and f.name in LENGTHS else value
        if value is not None:
            changed[f.name] = _like(value, getattr(defaults, f.name))
    return algorithm, dataclasses.replace(defaults, **changed)


def _like(value: Any, default: Any) -> Any:
    """A number in the type of evosax's own: whole ones and truths are traced as real ones."""
    if not hasattr(default, "dtype") and not isinstance(default, int | float):
        return value  # a tree
    return jnp.asarray(value).astype(jnp.asarray(default).dtype)


def _given(self: Any, inner: type, size: int) -> dict[str, Any]:
    """What its constructor is given."""
    there = library.constructor(inner)
    given = {n: getattr(self, n) for n in there if getattr(self, n) is not None}
    scale = jnp.asarray(self.init_scale, jnp.result_type(float))
    if "std_schedule" in there:
        given.setdefault("std_schedule", lambda count: scale)
    if "sampling_fn" in there:
        given.setdefault("sampling_fn", sampling(size, scale.dtype, scale))
    if "optimizer" in given:
        with library.lenient():
            given["optimizer"] = transformation(self.optimizer, self.learning_rate)
    if "fitness_shaping_fn" in given:
        given["fitness_shaping_fn"] = _shaping(self)
    return given


def _shaping(self: Any) -> Any:
    return library.shaping(self.fitness_shaping_fn, hasattr(self, "weights"))


def sampling(size: int, dtype: Any, scale: Any) -> Callable[[Any], Any]:
    """Normal numbers around the start, for evosax's random search."""
    return lambda key: scale * jax.random.normal(key, (size,), dtype)


def check(self: Any, inner: type) -> None:
    """Refuse what evosax refuses whatever the candidate.

    Raises:
        ValueError: that; or an optimizer without its learning rate, or the other way round.
    """
    there = library.constructor(inner)
    if "optimizer" in there:
        ready = self.optimizer is None or isinstance(self.optimizer, tuple)
        if ready != (self.learning_rate is None):
            raise ValueError(
                f"{type(self).__name__}: optimizer is {self.optimizer!r} and learning_rate "
                f"{self.learning_rate}; the optimizer's name, like 'adam', and its learning_rate "
                "go together"
            )
    populations = getattr(self, "num_populations", 1)
    if self.pop_size % populations:
        raise ValueError(
            f"{type(self).__name__}: pop_size is {self.pop_size}; expected a multiple of "
            f"num_populations, {populations}"
        )
    chosen = tuple((n, getattr(self, n)) for n in there if n != "fitness_shaping_fn")
    _shaping(self)
    try:
        hash(chosen)
    except TypeError as error:
        raise ValueError(f"{type(self).__name__}: {error}, in {dict(chosen)}") from error
    _accepted(inner, self.pop_size // populations, chosen)


@functools.lru_cache(maxsize=1024)
def _accepted(inner: type, members: int, chosen: tuple[tuple[str, Any], ...]) -> None:
    given = {n: value for n, value in chosen if value is not None and n != "optimizer"}
    jax.eval_shape(
        lambda: library.build(inner, members, LARGE, **_needed(inner, LARGE) | given)[:0]
    )


def docstring(name: str, inner: type, there: dict[str, Field]) -> str:
    """Of the class: as those of this package's algorithms are written."""
    module = inspect.getdoc(sys.modules[inner.__module__]) or ""
    title, *rest = module.splitlines()
    links = re.findall(r"https?://\S+", " ".join(rest))
    lines = [f"    {n}: {field.description}" for n, field in there.items()]
    return "\n".join(
        [
            f"{(inspect.getdoc(inner) or name).splitlines()[0].rstrip('.')}, of evosax.",
            "",
            "Attributes:",
            *lines,
            "",
            f"Reference: {title.rstrip('.')}{', ' if links else ''}{', '.join(links)}; "
            "Lange (2022), arXiv:2212.04180.",
        ]
    )
