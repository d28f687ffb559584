"""Any algorithm of evosax (Lange, 2022, arXiv:2212.04180), in this package's terms.

evosax sees a flat vector in at least fp32: what is to be added to the start. So leaves keep their
dtypes, nothing is lost next to large weights, and what evosax centres on 0 is centred on the start.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from .. import tree
from ..core import Fitness, Key, Params, Population, algorithm
from ..population import initial
from ..shaping import differ
from . import hyperparameters, library


class EvosaxState(NamedTuple):
    """State of an algorithm of evosax."""

    start: Params  # (...)
    search: Any  # evosax's state as of the last generation that taught something
    asked: list[Array]  # the leaves of it that `ask` changed: a failed generation forgets them
    worst: Float[Array, ""]  # highest fitness told so far, failures aside
    begun: Bool[Array, ""]  # whether a generation has taught something


class EvosaxInfo(NamedTuple):
    """What a generation of an algorithm of evosax shows."""

    learnt: Float[Array, ""]  # 0: no two members differed, or evosax lost its numbers; 1 otherwise
    failed: Float[Array, ""]  # share of members whose evaluation failed


def Evosax(name: str, **chosen: Any) -> Any:
    """An algorithm of evosax: `Evosax("PGPE", pop_size=32, init_scale=0.05)`.

    Beside pop_size (32) and init_scale (0.05), the standard deviation of the first members around
    the start in units of the parameters, it takes what evosax's constructor takes, as part of the
    compile key, and the fields of evosax's `Params`, as traced numbers. Fields left out, or None,
    are evosax's own, but for lengths, which are init_scale: std_init, scale_factor, and the value
    of a constant std_schedule. optimizer is as in `OpenES`, with its learning_rate;
    fitness_shaping_fn may be a name, like "centered_rank". Functions are compared by identity: make
    one once, and equal algorithms compile once.

    What is shielded: a failed member counts as just worse than the worst of its generation or, for
    algorithms that keep their members, than the worst so far: to many of evosax's one NaN is the
    end. A generation that teaches nothing leaves the state as it was before `ask`, and so does one
    that would leave numbers that are not finite. Dtypes stay. ask and tell compile once for equal
    hyperparameters, where evosax 0.3.2 compiles both twice for every object.

    Row 0 of the first population is the start in place of what evosax drew, and is told as what it
    is; algorithms that keep their members get `population.initial` first.

    Raises:
        ImportError: evosax is not installed; pip install 'jaxgfo[evosax]'.
        ValueError: a name that evosax does not have, or a hyperparameter that it does not have or
            refuses; the message has those there are.
    """
    cls = adapted(name)
    there = [f.name for f in dataclasses.fields(cls)]
    if unknown := [n for n in chosen if n not in there]:
        raise ValueError(
            f"evosax's {name} has no {', '.join(map(repr, unknown))}; it has {', '.join(there)}"
        )
    return cls(**chosen)


@functools.cache
def adapted(name: str) -> Any:
    """The class of hyperparameters, with init, ask and tell, of an algorithm of evosax.

    Raises:
        ImportError, ValueError: as for `Evosax`.
    """
    inner = library.find(name)
    fields = hyperparameters.fields(inner)
    namespace = {n: field.default for n, field in fields.items()} | {
        "__annotations__": {n: field.hint for n, field in fields.items()},
        "__doc__": hyperparameters.docstring(name, inner, fields),
        "__module__": __name__,
        "__post_init__": lambda self: hyperparameters.check(self, inner),
        "least_members": 2,
        "init": lambda self, key, start: _init(self, inner, key, start),
        "ask": lambda self, key, state: _ask(self, inner, key, state),
        "tell": lambda self, key, state, population, fitness: _tell(
            self, inner, key, state, population, fitness
        ),
    }
    return algorithm(type(f"Evosax{name}", (), namespace))


def _init(self: Any, inner: type, key: Key, start: Params) -> EvosaxState:
    tree.require(tree.is_float, start, f"{type(self).__name__} moves real numbers")
    zero, _ = _flat(start)
    theirs, params = hyperparameters.inside(self, inner, zero.size)
    kind = library.begins_with(inner)
    if kind == "population":  # replaced when the first members have a fitness
        members = jnp.zeros((self.pop_size, zero.size), zero.dtype)
        first = (key, members, jnp.zeros(self.pop_size, zero.dtype))
    elif kind == "means":
        key, mean_key = jax.random.split(key)
        first = (key, initial(mean_key, zero, self.num_populations, self.init_scale, None))
    else:
        first = (key, zero)
    search = jax.tree.map(jnp.asarray, library.call(theirs, "init", *first, params))
    return EvosaxState(
        start=start,
        search=search,
        asked=_leaves(search, _asked(theirs, key, search, params)[2]),
        worst=jnp.asarray(-jnp.inf),
        begun=jnp.asarray(False),
    )


def _ask(self: Any, inner: type, key: Key, state: EvosaxState) -> tuple[Population, EvosaxState]:
    zero, place = _flat(state.start)
    theirs, params = hyperparameters.inside(self, inner, zero.size)
    moves, asked, places = _asked(theirs, key, state.search, params)
    if library.begins_with(inner) == "population":
        moves = jax.lax.cond(
            state.begun,
            lambda: moves,
            lambda: initial(key, zero, self.pop_size, self.init_scale, None),
        )
    else:
        moves = moves.at[0].set(jnp.where(state.begun, moves[0], zero))
    return place(moves), state._replace(asked=_leaves(asked, places))


def _tell(
    self: Any, inner: type, key: Key, state: EvosaxState, population: Population, fitness: Fitness
) -> tuple[EvosaxState, EvosaxInfo]:
    zero, _ = _flat(state.start)
    theirs, params = hyperparameters.inside(self, inner, zero.size)
    kept = library.begins_with(inner) == "population"
    finite = jnp.isfinite(fitness)
    highest = jnp.max(jnp.where(finite, fitness, -jnp.inf))
    worst = jnp.maximum(highest, state.worst)
    filled = _filled(fitness, worst if kept else highest)
    learnt = jnp.any(finite) & differ(filled)
    filled = jnp.where(learnt, filled, 0.0)
    moves = jax.vmap(lambda x: ravel_pytree(_away(x, state.start))[0])(population)

    leaves, structure = jax.tree.flatten(state.search)
    # Traced to see which leaves it changes; nothing of it is computed.
    places = _asked(theirs, key, state.search, params)[2]
    for i, x in zip(places, state.asked):
        leaves[i] = x
    asked = structure.unflatten(leaves)

    def go_on():
        told, _ = library.call(theirs, "tell", key, moves, filled, asked, params)
        return _like(told, state.search)

    def begin():
        return _like(library.call(theirs, "init", key, moves, filled, params), state.search)

    told = jax.lax.cond(state.begun, go_on, begin) if kept else go_on()
    learnt &= _sound(told, state.search)
    after = jax.tree.map(lambda new, old: jnp.where(learnt, new, old), told, state.search)
    after = EvosaxState(
        start=state.start,
        search=after,
        asked=_leaves(after, places),
        worst=jnp.where(learnt, worst, state.worst),
        begun=state.begun | learnt,
    )
    return after, EvosaxInfo(
        learnt=learnt.astype(fitness.dtype), failed=jnp.mean(~finite, dtype=fitness.dtype)
    )


def _flat(start: Params) -> tuple[Float[Array, " size"], Any]:
    """No move at all (size,), and what makes candidates of moves (pop, size)."""
    flat, cut = ravel_pytree(jax.tree.map(tree.wide, start))

    def place(moves):
        return jax.vmap(
            lambda move: jax.tree.map(
                lambda x, m: (tree.wide(x) + m).astype(x.dtype), start, cut(move)
            )
        )(moves)

    return jnp.zeros_like(flat), place


def _away(candidate: Params, start: Params) -> Params:
    """What was added to the start, after rounding: that is what was evaluated."""
    return jax.tree.map(lambda x, s: tree.wide(x) - tree.wide(s), candidate, start)


def _filled(fitness: Fitness, highest: Float[Array, ""]) -> Fitness:
    """Fitness with just above the highest in place of +inf, and the lowest in place of -inf."""
    lowest = jnp.min(jnp.where(jnp.isfinite(fitness), fitness, jnp.inf))
    above = jnp.minimum(jnp.nextafter(highest, jnp.inf), jnp.finfo(fitness.dtype).max)
    return jnp.where(jnp.isposinf(fitness), above, jnp.maximum(fitness, lowest))


def _asked(theirs: Any, key: Key, state: Any, params: Any) -> tuple[Array, Any, list[int]]:
    """Moves (pop, size), evosax's state after `ask`, and which of its leaves `ask` changed."""
    moves, asked = library.call(theirs, "ask", key, state, params)
    pairs = zip(jax.tree.leaves(asked), jax.tree.leaves(state))
    return moves, _like(asked, state), [i for i, (a, b) in enumerate(pairs) if a is not b]


def _leaves(values: Any, places: list[int]) -> list[Array]:
    leaves = jax.tree.leaves(values)
    return [leaves[i] for i in places]


def _like(values: Any, like: Any) -> Any:
    """Leaves in the dtypes of others."""
    return jax.tree.map(lambda x, old: jnp.asarray(x).astype(old.dtype), values, like)


def _sound(new: Any, old: Any) -> Bool[Array, ""]:
    """Whether every number that was finite still is."""
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old))
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(a) | ~jnp.isfinite(b)) for a, b in pairs]))
