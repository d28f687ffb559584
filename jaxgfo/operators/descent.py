"""A quasi-Newton descent by differences, a population at a time, for fitness that is smooth nearby.

Generations measure a point and one neighbour of it along every coordinate, which gives the gradient
there. Where the point is no better than the best, a nearer one is measured, where the cubic through
both has its minimum; after a few of those a generation looks along the whole line. Walls are kept
by projection.

Reference: Liu & Nocedal (1989), doi:10.1007/BF01589116: L-BFGS; Nocedal & Wright (2006), Numerical
Optimization: its product is algorithm 7.4, its scale eq. 7.20, the cubic eq. 3.59; projection:
Bertsekas (1982), doi:10.1137/0320018.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import tree

MEASURE, LINE, ENDED = 0, 1, 2
SHORTEST = 1e-4  # of the points on a line, as a share of the move
MOST_TRIES = 3  # of nearer points, before the line is searched
PAIRS = 40  # of moves and changes of the gradient that are kept (tuned on bbob)
FARTHEST = 1000.0  # a move, in units of the first one


class Descent(NamedTuple):
    """Where a descent stands; n coordinates."""

    x: Float[Array, " n"]  # the best point
    value: Float[Array, ""]  # its fitness, +inf before the first
    gradient: Float[Array, " n"]  # there
    steps: Float[Array, "pairs n"]  # the last moves, the newest first; 0: none yet
    changes: Float[Array, "pairs n"]  # of the gradient in each of them
    move: Float[Array, " n"]  # from x to the point that is measured or searched for
    measured: Float[Array, " m"]  # of that point (first) and its n neighbours
    count: Int[Array, ""]  # how many of them were measured
    tries: Int[Array, ""]  # points in sequence that were worse than x
    phase: Int[Array, ""]  # MEASURE, LINE or ENDED


def begin(x: Float[Array, " n"], value: Float[Array, ""]) -> Descent:
    """A descent from `x`, which is measured first; of the dtype of `value`."""
    n, zero = x.size, jnp.zeros((), jnp.int32)
    return Descent(
        x=x,
        value=jnp.full_like(value, jnp.inf),
        gradient=jnp.zeros_like(x),
        steps=jnp.zeros((PAIRS, n), x.dtype),
        changes=jnp.zeros((PAIRS, n), x.dtype),
        move=jnp.zeros_like(x),
        measured=jnp.full((n + 1,), jnp.inf, value.dtype),
        count=zero,
        tries=zero,
        phase=zero,
    )


def points(
    at: Descent, rows: int, low: Float[Array, " n"], high: Float[Array, " n"]
) -> Float[Array, "rows n"]:
    """What to evaluate next, inside the walls."""
    y = jnp.clip(at.x + at.move, low, high)
    # The coordinate that is moved; -1: none.
    which = at.count + jnp.arange(rows, dtype=jnp.int32)[:, None] - 1
    near = y + jnp.where(which == jnp.arange(y.size, dtype=jnp.int32), _differences(y, high), 0)
    share = 0.5 * SHORTEST ** (jnp.arange(rows, dtype=y.dtype)[:, None] / max(rows - 1, 1))
    line = jnp.clip(at.x + share * at.move, low, high)
    return jnp.where(at.phase == LINE, line, near)


def learn(
    at: Descent,
    rows: Float[Array, "rows n"],
    values: Float[Array, " rows"],
    low: Float[Array, " n"],
    high: Float[Array, " n"],
    radius: Float[Array, ""],
) -> Descent:
    """The descent after these values (rows,) of `points`; `radius`: length of the first move."""
    after = tree.where(
        at.phase == LINE,
        _searched(at, rows, values, radius),
        _measured(at, values, low, high, radius),
    )
    return tree.where(at.phase == ENDED, at, after)


def _searched(at: Descent, rows: Array, values: Array, radius: Array) -> Descent:
    best = jnp.argmin(values)
    found, fresh = values[best] < at.value, ~_known(at.steps)
    # Nothing on the line: what was learnt is forgotten, and after that there is nothing left.
    steepest = -at.gradient * (radius / 100 / _length(at.gradient))
    phase = jnp.where(found, MEASURE, jnp.where(fresh, ENDED, LINE))
    return at._replace(
        move=jnp.where(found, rows[best] - at.x, steepest),
        steps=jnp.where(found, at.steps, 0),
        changes=jnp.where(found, at.changes, 0),
        count=jnp.zeros_like(at.count),
        phase=phase.astype(at.phase.dtype),
    )


def _measured(at: Descent, values: Array, low: Array, high: Array, radius: Array) -> Descent:
    which = at.count + jnp.arange(values.size, dtype=jnp.int32)
    measured = at.measured.at[which].set(values, mode="drop")
    count = at.count + values.size
    at = at._replace(measured=measured, count=count.astype(at.count.dtype))
    worse, whole = ~(measured[0] < at.value), count > at.x.size
    moved = _moved(at, low, high, radius)
    # A point that is worse shows where between it and x the fitness is lowest.
    nearer = whole & (at.tries < MOST_TRIES) & jnp.isfinite(measured[0])
    line = at._replace(
        move=jnp.where(nearer, _share(at, moved), 1.0) * at.move,
        count=jnp.zeros_like(at.count),
        tries=jnp.where(nearer, at.tries + 1, 0),
        phase=jnp.where(nearer, MEASURE, LINE).astype(at.phase.dtype),
    )
    return tree.where(worse, line, tree.where(whole, moved, at))


def _share(at: Descent, moved: Descent) -> Array:
    """Of the move to a worse point: where the cubic through both has its minimum, 0.1 to 0.5."""
    s = moved.x - at.x
    before, after = at.gradient @ s, moved.gradient @ s
    a = before + after - 3 * (moved.value - at.value)
    root = jnp.sqrt(jnp.maximum(a**2 - before * after, 0.0))
    share = 1 - (after + root - a) / (after - before + 2 * root)
    return jnp.clip(jnp.nan_to_num(share, nan=0.5), 0.1, 0.5)


def _moved(at: Descent, low: Array, high: Array, radius: Array) -> Descent:
    """At the point that was measured, with the next move."""
    y = jnp.clip(at.x + at.move, low, high)
    slope = (at.measured[1:] - at.measured[0]) / _differences(y, high)
    gradient = jnp.where(jnp.isfinite(slope), slope, 0.0).astype(y.dtype)
    steps, changes, updated = _updated(at, y - at.x, gradient - at.gradient)
    free = ~(((y <= low) & (gradient > 0)) | ((y >= high) & (gradient < 0)))
    along = jnp.where(free, gradient, 0.0)
    newton = -jnp.where(free, product(steps, changes, along), 0.0)
    farthest = FARTHEST * radius
    newton *= jnp.minimum(1.0, farthest / _length(newton))
    # Where a move taught no curvature, the next one may be longer.
    begun = jnp.isfinite(at.value) & ~updated
    length = jnp.where(begun, jnp.clip(2 * _length(y - at.x), radius, farthest), radius)
    steepest = -along * (length / _length(along))
    ended = jnp.all(along == 0)
    return Descent(
        x=y,
        value=at.measured[0],
        gradient=gradient,
        steps=steps,
        changes=changes,
        move=jnp.where(_known(steps) & (newton @ along < 0), newton, steepest),
        measured=at.measured,
        count=jnp.zeros_like(at.count),
        tries=jnp.zeros_like(at.tries),
        phase=jnp.where(ended, ENDED, MEASURE).astype(at.phase.dtype),
    )


def _updated(at: Descent, s: Array, d: Array) -> tuple[Array, Array, Array]:
    """The pairs with a step s that changed the gradient by d, and whether it is among them."""
    usable = jnp.isfinite(at.value) & (s @ d > 1e-10 * _length(s) * _length(d))
    steps = jnp.where(usable, jnp.roll(at.steps, 1, axis=0).at[0].set(s), at.steps)
    changes = jnp.where(usable, jnp.roll(at.changes, 1, axis=0).at[0].set(d), at.changes)
    return steps, changes, usable


def _known(steps: Array) -> Array:
    """Whether there is a pair."""
    return jnp.any(steps[0] != 0)


def product(steps: Array, changes: Array, gradient: Array) -> Array:
    """The inverse Hessian that the pairs tell of, times the gradient (algorithm 7.4)."""
    products = jnp.sum(steps * changes, axis=1)
    rho = jnp.where(products > 0, 1 / jnp.where(products > 0, products, 1.0), 0.0)

    def older(q: Array, pair: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        s, d, rho = pair
        share = rho * (s @ q)
        return q - share * d, share

    def newer(q: Array, pair: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        s, d, rho, share = pair
        return q + s * (share - rho * (d @ q)), None

    q, shares = jax.lax.scan(older, gradient, (steps, changes, rho))
    q *= products[0] / jnp.maximum(changes[0] @ changes[0], _least(q))
    return jax.lax.scan(newer, q, (steps, changes, rho, shares), reverse=True)[0]


def _differences(y: Array, high: Array) -> Array:
    size = jnp.sqrt(jnp.finfo(y.dtype).eps) * jnp.maximum(1.0, jnp.abs(y))
    return jnp.where(y + size > high, -size, size)


def _length(x: Array) -> Array:
    return jnp.maximum(jnp.linalg.norm(x), _least(x))


def _least(x: Array) -> Array:
    return jnp.asarray(jnp.finfo(x.dtype).tiny, x.dtype)
