"""A quasi-Newton descent by differences, a population at a time, for fitness that is smooth nearby.

Generations measure a point and one neighbour of it along every coordinate, which gives the gradient
there. Where the point is no better than the best, a nearer one is measured, where the cubic through
both has its minimum; after a few of those a generation looks along the whole line. Walls are kept
by projection.

Reference: Nocedal & Wright (2006), Numerical Optimization: the BFGS update is eq. 6.17, the cubic
eq. 3.59; self-scaling: Oren & Luenberger (1974), doi:10.1287/mnsc.20.5.845; projection: Bertsekas
(1982), doi:10.1137/0320018.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import tree

MEASURE, LINE, ENDED = 0, 1, 2
SHORTEST = 1e-4  # of the points on a line, as a share of the move
MOST_TRIES = 3  # of nearer points, before the line is searched
FARTHEST = 1000.0  # a move, in units of the first one


class Descent(NamedTuple):
    """Where a descent stands; n coordinates."""

    x: Float[Array, " n"]  # the best point
    value: Float[Array, ""]  # its fitness, +inf before the first
    gradient: Float[Array, " n"]  # there
    inverse: Float[Array, "n n"]  # of the Hessian, as learnt
    move: Float[Array, " n"]  # from x to the point that is measured or searched for
    measured: Float[Array, " m"]  # of that point (first) and its n neighbours
    count: Int[Array, ""]  # how many of them were measured
    learnt: Int[Array, ""]  # updates of `inverse`
    tries: Int[Array, ""]  # points in sequence that were worse than x
    phase: Int[Array, ""]  # MEASURE, LINE or ENDED


def begin(x: Float[Array, " n"], value: Float[Array, ""]) -> Descent:
    """A descent from `x`, which is measured first; of the dtype of `value`."""
    n, zero = x.size, jnp.zeros((), jnp.int32)
    return Descent(
        x=x,
        value=jnp.full_like(value, jnp.inf),
        gradient=jnp.zeros_like(x),
        inverse=jnp.eye(n, dtype=x.dtype),
        move=jnp.zeros_like(x),
        measured=jnp.full((n + 1,), jnp.inf, value.dtype),
        count=zero,
        learnt=zero,
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
    found, fresh = values[best] < at.value, at.learnt == 0
    # Nothing on the line: what was learnt is forgotten, and after that there is nothing left.
    steepest = -at.gradient * (radius / 100 / _length(at.gradient))
    phase = jnp.where(found, MEASURE, jnp.where(fresh, ENDED, LINE))
    return at._replace(
        move=jnp.where(found, rows[best] - at.x, steepest),
        inverse=jnp.where(found, at.inverse, jnp.eye(at.x.size, dtype=at.x.dtype)),
        learnt=jnp.where(found, at.learnt, 0),
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
    inverse, updated = _updated(at, y - at.x, gradient - at.gradient)
    learnt = at.learnt + updated.astype(at.learnt.dtype)
    free = ~(((y <= low) & (gradient > 0)) | ((y >= high) & (gradient < 0)))
    along = jnp.where(free, gradient, 0.0)
    newton = -jnp.where(free, inverse @ along, 0.0)
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
        inverse=inverse,
        move=jnp.where((learnt > 0) & (newton @ along < 0), newton, steepest),
        measured=at.measured,
        count=jnp.zeros_like(at.count),
        learnt=learnt,
        tries=jnp.zeros_like(at.tries),
        phase=jnp.where(ended, ENDED, MEASURE).astype(at.phase.dtype),
    )


def _updated(at: Descent, s: Array, d: Array) -> tuple[Array, Array]:
    """The inverse Hessian after a step s that changed the gradient by d, and whether it is new."""
    product = s @ d
    usable = jnp.isfinite(at.value) & (product > 1e-10 * _length(s) * _length(d))
    rho = 1.0 / jnp.where(usable, product, 1.0)
    one = jnp.eye(s.size, dtype=s.dtype)
    # As often as there are coordinates it is brought to the scale of the newest step first.
    scale = product / jnp.maximum(d @ at.inverse @ d, _least(s))
    base = jnp.where(at.learnt < s.size, scale, 1.0) * at.inverse
    left = one - rho * jnp.outer(s, d)
    updated = left @ base @ left.T + rho * jnp.outer(s, s)
    sound = usable & jnp.all(jnp.isfinite(updated))
    return jnp.where(sound, updated, at.inverse), sound


def _differences(y: Array, high: Array) -> Array:
    size = jnp.sqrt(jnp.finfo(y.dtype).eps) * jnp.maximum(1.0, jnp.abs(y))
    return jnp.where(y + size > high, -size, size)


def _length(x: Array) -> Array:
    return jnp.maximum(jnp.linalg.norm(x), _least(x))


def _least(x: Array) -> Array:
    return jnp.asarray(jnp.finfo(x.dtype).tiny, x.dtype)
