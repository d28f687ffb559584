"""What evolution strategies share: a center that follows a gradient estimated from its members."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import mesh, tree
from ..core import Fitness, Params, Scalar
from ..shaping import SHAPINGS

# By its name in optax, or as a function of the learning rate, or ready with a rate of its own.
Optimizer = str | Callable[..., Any] | tuple


class StrategyState(NamedTuple):
    """State of an evolution strategy."""

    center: Params  # (...)
    optimizer: Any  # of optax, in fp32 at least
    step: Int[Array, ""]  # generations told


class StrategyInfo(NamedTuple):
    """What a generation of an evolution strategy shows."""

    center: Float[Array, ""]  # fitness of the center this generation began with
    spread: Float[Array, ""]  # standard deviation of the fitness of members that did not fail
    update: Float[Array, ""]  # root mean square of the center's move


def begin(start: Params, optimizer: Optimizer, learning_rate: Scalar, name: str) -> StrategyState:
    """The state before the first generation.

    Raises:
        ValueError: a leaf that is not real.
    """
    tree.require(tree.is_float, start, f"{name} moves real numbers")
    wide = jax.tree.map(tree.wide, start)
    with jax.numpy_dtype_promotion("standard"):
        moments = mesh.split(transformation(optimizer, learning_rate).init(wide))
    return StrategyState(start, moments, jnp.zeros((), jnp.int32))


def follow(
    state: StrategyState,
    population: Any,
    fitness: Fitness,
    *,
    shaping: str,
    optimizer: Optimizer,
    learning_rate: Scalar,
) -> tuple[StrategyState, StrategyInfo]:
    """One step of the optimiser along sum_i u_i sign_i noise_i / (pop scale), u the shaped fitness.

    Reference: Salimans et al. (2017), arXiv:1703.03864, algorithm 1.
    """
    shaped = SHAPINGS[shaping](fitness)
    weights = shaped / fitness.shape[0]
    total = population.contract(weights)
    # What cancels is 0, in whatever order it was summed: Adam would take a full step along it.
    least = 8 * jnp.finfo(jnp.float32).eps * jnp.sum(jnp.abs(weights)).astype(jnp.float32)
    total = jax.tree.map(lambda g: jnp.where(jnp.abs(g) > least, g, 0), total)
    wide = jax.tree.map(tree.wide, population.center)
    scale = jnp.asarray(population.scale)
    slope = jax.tree.map(lambda g, x: (g / scale.astype(g.dtype)).astype(x.dtype), total, wide)
    rule = transformation(optimizer, learning_rate)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        moves, moments = rule.update(slope, state.optimizer, wide)
    # Nothing was learnt where no member differed from another: momentum must not move it either.
    learnt = jnp.any(shaped != 0)
    moves = jax.tree.map(lambda m, x: jnp.where(learnt, m, 0).astype(x.dtype), moves, wide)
    moments = jax.tree.map(lambda new, old: jnp.where(learnt, new, old), moments, state.optimizer)
    center = tree.lift(jnp.add, population.center, mesh.whole(moves))
    squares = sum(jnp.sum(jnp.square(m.astype(fitness.dtype))) for m in jax.tree.leaves(moves))
    finite = jnp.isfinite(fitness)
    info = StrategyInfo(
        center=jnp.where(finite[0], fitness[0], jnp.finfo(fitness.dtype).max),
        spread=_spread(fitness),
        update=jnp.sqrt(squares / tree.size(wide)),
    )
    return StrategyState(center, mesh.split(moments), state.step + 1), info


def _spread(fitness: Fitness) -> Float[Array, ""]:
    finite = jnp.isfinite(fitness)
    count = jnp.maximum(jnp.sum(finite), 1).astype(fitness.dtype)
    mean = jnp.sum(jnp.where(finite, fitness, 0.0)) / count
    return jnp.sqrt(jnp.sum(jnp.where(finite, jnp.square(fitness - mean), 0.0)) / count)


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
