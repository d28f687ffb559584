"""evosax itself: its algorithms by name, what they can be given, and how they are called."""

import contextlib
import difflib
import functools
import inspect
import warnings
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp

PLAIN = (int, float, bool, str, int | None, float | None)
# What is set here, has a field of Params, or runs code from a file (`params_path` is a pickle).
OURS = {"self", "population_size", "solution", "metrics_fn", "params", "params_path"}


def registry() -> dict[str, type]:
    """evosax's algorithms, by the names it gives them.

    Raises:
        ImportError: evosax is not installed.
    """
    try:
        from evosax.algorithms import algorithms
    except ImportError as error:
        raise ImportError(
            f"evosax cannot be imported ({error}): pip install 'jaxgfo[evosax]'"
        ) from error
    return algorithms


def names() -> list[str]:
    """What evosax offers, in alphabetical order.

    Raises:
        ImportError: evosax is not installed.
    """
    return sorted(registry(), key=str.lower)


def find(name: str) -> type:
    """The class of this name.

    Raises:
        ImportError: evosax is not installed.
        ValueError: a name it does not have; the message has those it has, the closest first.
    """
    there = registry()
    if name in there:
        return there[name]
    lower = {n.lower(): n for n in there}
    near = [lower[n] for n in difflib.get_close_matches(name.lower(), lower, cutoff=0.5)]
    closest = f"closest: {', '.join(near)}; " if near else ""
    raise ValueError(f"evosax has no {name!r}; {closest}there are {', '.join(names())}")


@functools.cache
def constructor(cls: type) -> dict[str, tuple[Any, Any]]:
    """What the constructor can be given: name -> (type, default); `Any` where it is no plain value.

    What is neither a plain value nor can be part of a compile key is left out.
    """
    hints, found = get_type_hints(cls.__init__), {}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        default = None if parameter.default is parameter.empty else parameter.default
        if name not in OURS and not isinstance(default, dict):
            plain = hints.get(name) in PLAIN
            found[name] = (hints[name] if plain else Any, default if plain else None)
    return found


@functools.cache
def begins_with(cls: type) -> str:
    """The argument that `init` begins with: `mean`, `means` or `population` (with its fitness)."""
    return list(inspect.signature(cls.init).parameters)[2]  # type: ignore[attr-defined]


def build(cls: type, population_size: int, size: int, **given: Any) -> tuple[Any, Any]:
    """An evosax algorithm for flat candidates (size,), and its own `Params`.

    Raises:
        ValueError: what evosax refuses.
    """

    def made():
        inner = cls(population_size, solution=jnp.zeros(size), metrics_fn=_no_metrics, **given)
        return inner, inner.default_params

    try:
        with lenient():
            try:
                return made()
            except AssertionError:
                raise
            except Exception:
                # Some look at numbers that they compute: those must be there while others are
                # traced, which takes a compilation for each.
                with jax.ensure_compile_time_eval():
                    return made()
    except AssertionError as error:
        raise ValueError(
            f"evosax's {cls.__name__} with {population_size} members: {error}"
        ) from error


def call(inner: Any, method: str, *args: Any) -> Any:
    """A method of an evosax algorithm, as a part of what is being traced.

    evosax's own jit has the algorithm as a static argument: it would compile for every object, and
    keep each of them.
    """
    function = getattr(type(inner), method)
    with lenient():
        return getattr(function, "__wrapped__", function)(inner, *args)


@contextlib.contextmanager
def lenient():
    """Within it dtypes are promoted: evosax and optax mix integers and floats.

    And evosax's use of what optax deprecates is not the user's to mend.
    """
    with jax.numpy_dtype_promotion("standard"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def shaping(chosen: Any, weighted: bool) -> Any:
    """A fitness shaping of evosax by its name, without its ending `_fitness_shaping_fn`.

    Args:
        chosen: a name; a function is returned as it is.
        weighted: whether the algorithm has weights, which one of them needs.

    Raises:
        ValueError: a name it does not have.
    """
    from evosax.core import fitness_shaping

    if not isinstance(chosen, str):
        return chosen
    ending = "_fitness_shaping_fn"
    there = [n.removesuffix(ending) for n in vars(fitness_shaping) if n.endswith(ending)]
    there = [n for n in there if weighted or n != "weights"]
    if chosen not in there:
        raise ValueError(
            f"fitness_shaping_fn is {chosen!r}; choose a function or one of {', '.join(there)}"
        )
    return getattr(fitness_shaping, chosen + ending)


def _no_metrics(*_: Any) -> dict[str, Any]:
    return {}
