"""What an algorithm may offer beside init, ask and tell, and `run` makes use of where it is there.

`remembered(state) -> Population` and `reassess(state, fitness) -> state`: of an algorithm that
stores candidates with their fitness, like parents or chains. The candidates are dense rows;
reassess replaces all that is stored of their fitness, and what was derived from it.

`center(state) -> Params`: of an algorithm that samples around a candidate.

`restart(key, state, start) -> (algorithm, state) | None`: called outside of JAX's transformations
after a generation whose `Info` has a field `stopped` that is not 0. The search goes on with the
algorithm and the state that it returns, which may have another pop_size and were told nothing yet;
None: as before.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from .core import (
    Algorithm,
    Key,
    Params,
    Population,
    State,
    handed_on,
    named,
    no_nan,
    strong,
    strongly_typed,
)


def remembers(algorithm: Algorithm[Any, Any]) -> bool:
    """Whether the algorithm stores candidates with their fitness."""
    return hasattr(algorithm, "remembered")


def remembered(algorithm: Algorithm[State, Any], state: State) -> Population:
    """The candidates whose fitness the state stores: leaves (rows, ...), shared with the state."""
    return handed_on(_remembered(strong(algorithm), state), state)


def reassess(
    algorithm: Algorithm[State, Any], state: State, fitness: Num[Array, " rows"] | np.ndarray
) -> State:
    """The state with this fitness (rows,) of what `remembered` returns in place of what it stores.

    What was scored on another batch cannot be compared with what is scored on this one. NaN counts
    as +inf. What is not changed is not copied, and the given state stays usable.
    """
    return handed_on(_reassess(strong(algorithm), state, jnp.asarray(fitness)), state)


def num_remembered(algorithm: Algorithm[State, Any], state: State) -> int:
    """Rows of what `remembered` returns; 0 where the algorithm stores no fitness."""
    if not remembers(algorithm):
        return 0
    rows = jax.eval_shape(algorithm.remembered, state)  # type: ignore[attr-defined]
    return jax.tree.leaves(rows)[0].shape[0]


def center(algorithm: Algorithm[State, Any], state: State) -> Params | None:
    """The candidate that the algorithm samples around, if it knows one."""
    if not hasattr(algorithm, "center"):
        return None
    return handed_on(_center(strong(algorithm), state), state)


def restart(
    algorithm: Algorithm[Any, Any], key: Key, state: Any, start: Params
) -> tuple[Algorithm[Any, Any], Any] | None:
    """The algorithm and the state that a stopped search goes on with; None: as before.

    The state is a copy, which `tell` may donate.
    """
    if not hasattr(algorithm, "restart"):
        return None
    found = algorithm.restart(key, state, start)  # type: ignore[attr-defined]
    return found and (found[0], _own(found[1]))


@jax.jit
def _remembered(algorithm, state):
    return named(algorithm.remembered(state), state)


@jax.jit
def _center(algorithm, state):
    return named(algorithm.center(state), state)


@jax.jit
def _reassess(algorithm, state, fitness):
    return named(algorithm.reassess(state, no_nan(fitness)), state)


@jax.jit
def _own(values):
    return jax.tree.map(jnp.copy, strongly_typed(values))
