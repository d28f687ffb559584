"""What evolution strategies share: a center that follows a gradient estimated from its members.

A `rule` is the algorithm itself, whose fields say how: scale, learning_rate, a schedule for each,
optimizer, rounding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import mesh, tree
from ..core import Fitness, Key, Params, Scalar
from ..shaping import SHAPINGS, spread
from . import rounding
from .schedules import factor

# By its name in optax, or as a function of the learning rate, or ready with a rate of its own.
Optimizer = str | Callable[..., Any] | tuple


class StrategyState(NamedTuple):
    """State of an evolution strategy."""

    center: Params  # (...)
    exact: dict[str, Array]  # leaves of the center that are narrower than fp32, in fp32
    optimizer: Any  # of optax, in fp32 at least
    step: Int[Array, ""]  # generations told


class StrategyInfo(NamedTuple):
    """What a generation of an evolution strategy shows."""

    center: Float[Array, ""]  # fitness of the center this generation began with
    spread: Float[Array, ""]  # standard deviation of the fitness of members that did not fail
    update: Float[Array, ""]  # root mean square of the center's move
    learnt: Float[Array, ""]  # 0 if all members failed or scored alike: nothing moved; else 1


def begin(rule: Any, start: Params) -> StrategyState:
    """The state before the first generation.

    Raises:
        ValueError: a leaf that is not real; an optimizer or schedule that optax does not know.
    """
    tree.require(tree.is_float, start, f"{type(rule).__name__} moves real numbers")
    step = jnp.zeros((), jnp.int32)
    for schedule in (rule.learning_rate_schedule, rule.scale_schedule):
        factor(schedule, step)
    wide = jax.tree.map(tree.wide, start)
    with jax.numpy_dtype_promotion("standard"):
        moments = mesh.split(transformation(rule.optimizer, rule.learning_rate).init(wide))
    return StrategyState(start, rounding.copies(start, rule.rounding), moments, step)


def scale(rule: Any, state: StrategyState) -> Float[Array, ""]:
    """The standard deviation of this generation's noise."""
    return jnp.asarray(rule.scale) * factor(rule.scale_schedule, state.step)


def follow(
    rule: Any, key: Key, state: StrategyState, population: Any, fitness: Fitness
) -> tuple[StrategyState, StrategyInfo]:
    """One step of the optimiser along sum_i u_i sign_i noise_i / (pop scale), u the shaped fitness.

    Reference: Salimans et al. (2017), arXiv:1703.03864, algorithm 1.
    """
    shaped = SHAPINGS[rule.shaping](fitness)
    # Weights hold the scale too: one pass less over arrays of the parameters' size.
    weights = shaped / fitness.shape[0] / jnp.asarray(population.scale, shaped.dtype)
    slope = significant(population.contract(weights), weights)
    # Nothing was learnt where no member differed from another: momentum must not move it either.
    learnt = jnp.any(shaped != 0)
    state, update = move(rule, key, state, slope, learnt)
    return state, told(fitness, fitness[0], update, learnt)


def significant(total: Params, weights: Float[Array, "..."]) -> Params:
    """A sum with these weights, with 0 for what is left of terms that cancel.

    In whatever order it was summed: Adam would take a full step along a rounding error.
    """
    least = 8 * jnp.finfo(jnp.float32).eps * jnp.sum(jnp.abs(weights)).astype(jnp.float32)
    return jax.tree.map(lambda g: jnp.where(jnp.abs(g) > least, g, 0), total)


def move(
    rule: Any, key: Key, state: StrategyState, slope: Params, learnt: Bool[Array, ""]
) -> tuple[StrategyState, Float[Array, ""]]:
    """One step of the optimiser down the slope, if something was learnt; and its mean size."""
    wide = jax.tree.map(tree.wide, state.center)
    slope = jax.tree.map(lambda g, x: g.astype(x.dtype), slope, wide)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        along = transformation(rule.optimizer, rule.learning_rate)
        moves, moments = along.update(slope, state.optimizer, wide)
    by = factor(rule.learning_rate_schedule, state.step)
    squares = sum(jnp.sum(jnp.square(m.astype(by.dtype))) for m in jax.tree.leaves(moves))
    update = jnp.where(learnt, by * jnp.sqrt(squares / tree.size(wide)), 0)
    moves = jax.tree.map(
        lambda m, x: jnp.where(learnt, by.astype(x.dtype) * m.astype(x.dtype), 0), moves, wide
    )
    moments = jax.tree.map(lambda new, old: jnp.where(learnt, new, old), moments, state.optimizer)
    center, exact = rounding.add(key, state.center, state.exact, mesh.whole(moves), rule.rounding)
    return StrategyState(center, exact, mesh.split(moments), state.step + 1), update


def told(
    fitness: Fitness, center: Float[Array, ""], update: Float[Array, ""], learnt: Bool[Array, ""]
) -> StrategyInfo:
    """What a generation shows; a center that failed shows as the largest number."""
    return StrategyInfo(
        center=jnp.where(jnp.isfinite(center), center, jnp.finfo(fitness.dtype).max),
        spread=spread(fitness),
        update=update,
        learnt=learnt.astype(fitness.dtype),
    )


def transformation(optimizer: Optimizer, learning_rate: Scalar) -> Any:
    """The `optax.GradientTransformation` that an optimizer stands for.

    Raises:
        ValueError: a name that optax does not know.
    """
    import optax

    if isinstance(optimizer, tuple):
        return optimizer
    if not isinstance(optimizer, str):
        return optimizer(learning_rate)
    named = getattr(optax, optimizer, None)
    if not callable(named):
        raise ValueError(f"optimizer is {optimizer!r}; expected a name in optax, like 'adam'")
    return named(learning_rate)
