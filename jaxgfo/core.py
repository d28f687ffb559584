"""The one abstraction: an algorithm is a frozen pytree of hyperparameters with init, ask and tell.

An algorithm knows candidates only as pytrees of arrays. The front doors `init`, `ask` and `tell`
are jitted with the algorithm as a *traced* argument: hyperparameters may change between calls, or
be swept with `jax.vmap`, without compiling again; fields marked `static` are part of the compile
key. Fitness is minimised.
"""

import collections
import dataclasses
import functools
import typing
from typing import Any, Literal, Protocol, TypeVar, cast, dataclass_transform, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PyTree

from . import tree

Params = PyTree[Any]  # one candidate: arrays of any shape; a flat vector is the one-leaf case
Population = PyTree[Any]  # pop_size candidates: every leaf has a leading axis of length pop_size
Fitness = Float[Array, " pop"]  # minimised; +inf marks an evaluation that failed
Scalar = float | int | np.number | np.ndarray | Array  # a traced hyperparameter
Key = Array  # a typed key (`jax.random.key`) or a raw one (`jax.random.PRNGKey`)

State = TypeVar("State")
Info = TypeVar("Info", covariant=True)


@runtime_checkable
class Algorithm(Protocol[State, Info]):
    """What every search algorithm offers; see CONTRIBUTING for a skeleton."""

    @property
    def pop_size(self) -> int:
        """Candidates in one population."""
        ...

    def init(self, key: Key, start: Params) -> State:
        """The state before the first generation; row 0 of the first population is `start`."""
        ...

    def ask(self, key: Key, state: State) -> tuple[Population, State]:
        """The candidates to evaluate next; the first call returns the initial population."""
        ...

    def tell(
        self, key: Key, state: State, population: Population, fitness: Fitness
    ) -> tuple[State, Info]:
        """Learn from the fitness (pop,) of the population that `ask` returned."""
        ...


def static(default: Any = dataclasses.MISSING) -> Any:
    """A field that shapes the compiled program (a size, a choice): part of the compile key."""
    return dataclasses.field(default=default, metadata={"static": True})


def within(default: Any, low: float | int, high: float | int = float("inf")) -> Any:
    """A traced hyperparameter with a legal range [low, high], checked when it is a plain number."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(static, within))
def algorithm(cls: type) -> Any:
    """Make `cls` a frozen, keyword-only dataclass that is a pytree of its hyperparameters.

    Plain fields are traced leaves. `static()` fields are the compile key, and a static field
    annotated `Literal[...]` accepts those values only. A class attribute `least_members`
    bounds `pop_size` from below.

    Raises (on construction):
        ValueError: a static choice, `pop_size` or a plain number outside its legal range.
    """
    own_check = cls.__dict__.get("__post_init__")

    def __post_init__(self: Any) -> None:
        _check_fields(self)
        if own_check is not None:
            own_check(self)

    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    fields = dataclasses.fields(cls)
    return tree.register(cls, [f.name for f in fields if f.metadata.get("static")])


@functools.cache
def choices(cls: type) -> dict[str, tuple[Any, ...]]:
    """The legal values of every `Literal` field of an algorithm class."""
    hints = typing.get_type_hints(cls)
    return {n: typing.get_args(h) for n, h in hints.items() if typing.get_origin(h) is Literal}


def _check_fields(self: Any) -> None:
    name = type(self).__name__
    for field, allowed in choices(type(self)).items():
        value = getattr(self, field)
        if value not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise ValueError(f"{name}: {field} is {value!r}; choose one of {listed}")
    least = getattr(type(self), "least_members", 1)
    pop_size = getattr(self, "pop_size", least)
    if not isinstance(pop_size, int | np.integer) or isinstance(pop_size, bool):
        raise ValueError(f"{name}: pop_size is {pop_size!r}; expected an integer")
    if pop_size < least:
        raise ValueError(f"{name}: pop_size is {pop_size}, but it needs at least {least} members")
    for f in dataclasses.fields(self):
        value = getattr(self, f.name)
        if "range" in f.metadata and isinstance(value, int | float | np.number):
            low, high = f.metadata["range"]
            if not low <= value <= high:
                raise ValueError(
                    f"{name}: {f.name} is {value}; expected a number in [{low}, {high}]"
                )


def init(algorithm: Algorithm[State, Any], key: Key, start: Params) -> State:
    """The state of `algorithm` before its first generation.

    Args:
        start: the candidate to begin from; leaves of any shape. Row 0 of the first population.

    Raises:
        ValueError: `start` has no coordinates, or a leaf of a dtype the algorithm cannot move.
    """
    return _init(strong(algorithm), key, start)


def ask(algorithm: Algorithm[State, Any], key: Key, state: State) -> tuple[Population, State]:
    """The next population, every leaf (pop, ...), and the state to hand to `tell`.

    What is not changed is not copied: the returned state shares arrays with the given one, and the
    population may share arrays with both.
    """
    return handed_on(asking(strong(algorithm), key, state), state)


def tell(
    algorithm: Algorithm[State, Info],
    key: Key,
    state: State,
    population: Population,
    fitness: Num[Array, " pop"] | np.ndarray | list,
    *,
    donate_population: bool = False,
) -> tuple[State, Info]:
    """The state after learning the fitness (pop,) of `population`, and what a person wants to see.

    Fitness is minimised; NaN counts as +inf, a failed evaluation. The old state is donated: its
    buffers are reused, so keep only the returned one. The population stays usable, unless it is
    donated as well: then arrays that it shares with the state, such as the center that members are
    drawn around, are not copied, and it must not be used again.

    Raises:
        ValueError: fitness not of `pop_size` members, or a population unlike the one ask returned.
    """
    shape, size = np.shape(fitness), algorithm.pop_size
    if shape != (size,):
        raise ValueError(f"fitness has shape {shape}, but pop_size is {size}")
    lent, kept = parted(state, population, donate_population)
    fitness = fitness if isinstance(fitness, jax.Array) else jnp.asarray(fitness)
    return telling(strong(algorithm), key, lent, kept, fitness)


def no_nan(fitness: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Fitness in the default float dtype, with NaN (a failed evaluation) as +inf."""
    fitness = fitness.astype(jnp.result_type(float))
    return jnp.where(jnp.isnan(fitness), jnp.inf, fitness)


@jax.jit
def _init(algorithm, key, start):
    start = strongly_typed(jax.tree.map(jnp.asarray, start))
    if not sum(leaf.size for leaf in jax.tree.leaves(start)):
        raise ValueError("start has no coordinates: there is nothing to search")
    return strongly_typed(algorithm.init(key, start))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Given:
    """Stands for a leaf of the state that `ask` hands on: jit would copy it."""

    index: int


@jax.jit
def asking(algorithm: Any, key: Key, state: Any) -> Any:
    """What `ask` compiles: what the state hands on is only named; see `handed_on`."""
    return named(algorithm.ask(key, state), state)


def named(values: Any, state: Any) -> Any:
    """Values of a compiled function, of which those that the state hands on are only named."""
    place = {id(x): index for index, x in enumerate(jax.tree.leaves(state))}
    strong = strongly_typed(values)
    return jax.tree.map(lambda x: _Given(place[id(x)]) if id(x) in place else x, strong)


def handed_on(values: Any, state: Any) -> Any:
    """Values, such as what `asking` gives, with the leaves of the state where they are named."""
    found, treedef = jax.tree.flatten(values, is_leaf=lambda x: isinstance(x, _Given))
    given = jax.tree.leaves(state)
    return treedef.unflatten([given[x.index] if isinstance(x, _Given) else x for x in found])


def parted(state: Any, population: Population, donate_population: bool) -> tuple[Any, Any]:
    """State and population in two parts: what `tell` may reuse, and the rest; None elsewhere.

    An array that is in both, or twice in the state, can be given away once: where the population
    is donated, the rest names it in the population's place.
    """
    leaves, treedef = jax.tree.flatten(state)
    members, of_members = jax.tree.flatten(population)
    uses, place = collections.Counter(map(id, leaves)), {id(x): i for i, x in enumerate(leaves)}
    shared = {id(x) for x in members} & {*place}
    held = {x for x in place if uses[x] > 1} | (set() if donate_population else shared)
    lent = treedef.unflatten([None if id(x) in held else x for x in leaves])
    kept = treedef.unflatten([x if id(x) in held else None for x in leaves])
    seen = {x: _Given(place[x]) for x in shared - held}
    return lent, (kept, of_members.unflatten([seen.get(id(x), x) for x in members]))


@functools.partial(jax.jit, donate_argnames="lent")
def telling(algorithm: Any, key: Key, lent: Any, kept: Any, fitness: Array) -> tuple[Any, Any]:
    """What `tell` compiles, of state and population in two parts; see `parted`."""
    state = jax.tree.map(
        lambda a, b: b if a is None else a, lent, kept[0], is_leaf=lambda x: x is None
    )
    population = handed_on(kept[1], state)
    _check_population(population, jax.eval_shape(algorithm.ask, key, state)[0])
    return strongly_typed(algorithm.tell(key, state, population, no_nan(fitness)))


def _check_population(population: Any, asked: Any) -> None:
    # While tracing, so once per compilation: a wrong shape would broadcast without a word.
    told, expected = jax.tree.structure(population), jax.tree.structure(asked)
    if told != expected:
        raise ValueError(f"population is {told}, but ask returned {expected}")
    pairs = zip(jax.tree_util.tree_leaves_with_path(population), jax.tree.leaves(asked))
    for (path, leaf), like in pairs:
        if (leaf.shape, leaf.dtype) != (like.shape, like.dtype):
            where = jax.tree_util.keystr(path) or "the array"
            raise ValueError(
                f"population: {where} is {leaf.dtype}{leaf.shape}, "
                f"but ask returned {like.dtype}{like.shape}"
            )


def strongly_typed(values: Any) -> Any:
    """The same arrays with types that do not change when they are computed with."""

    # A leaf made from a plain number is weakly typed; were it to become strong a generation
    # later, ask and tell would compile twice.
    def leaf(x):
        weak = getattr(jax.typeof(x), "weak_type", False)
        return jax.lax.convert_element_type(x, jax.typeof(x).dtype) if weak else x

    return jax.tree.map(leaf, values)


@functools.cache
def _default(wide: bool) -> np.dtype:
    """The default float dtype, which x64 decides: asked for again it takes 15 µs a generation."""
    return np.dtype(jnp.result_type(float))


def strong(algorithm: Any) -> Any:
    """The algorithm with hyperparameters of one dtype."""
    # Plain numbers would enter jit weakly typed and 1 as an integer: one dtype, one compilation.
    dtype = _default(cast(Any, jax.config).jax_enable_x64)
    known = vars(algorithm).get("_strong")
    if known is not None and known[0] == dtype:
        return known[1]
    traced = [f for f in dataclasses.fields(algorithm) if not f.metadata.get("static")]
    values = {f.name: getattr(algorithm, f.name) for f in traced}
    plain = all(v is None or isinstance(v, int | float | np.number) for v in values.values())
    changed = {}
    for name, value in values.items():
        if isinstance(value, int | float | np.number):
            changed[name] = _number(value, dtype) if plain else dtype.type(value)
        elif isinstance(value, np.ndarray | jax.Array) and value.dtype != dtype:
            changed[name] = value.astype(dtype)
    found = dataclasses.replace(algorithm, **changed) if changed else algorithm
    if plain:
        # Kept with it, for every generation asks: arrays could change, and tracers would leak.
        object.__setattr__(algorithm, "_strong", (dtype, found))
    return found


def _number(value: Any, dtype: np.dtype) -> jax.Array:
    """On the device already: jit would bring it there in every generation. Never a tracer."""
    with jax.ensure_compile_time_eval():
        return jnp.asarray(value, dtype)
