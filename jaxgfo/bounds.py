"""A box around the search space, per leaf, and what happens at its walls."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from . import draws, tree
from .core import Key, Params, Population


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["lower", "upper"], meta_fields=["mode"]
)
@dataclasses.dataclass(frozen=True)
class Bounds:
    """lower <= candidate <= upper, coordinate by coordinate.

    Attributes:
        lower, upper: a number for all coordinates, or a tree with the structure of the candidate
            (or a prefix of it) whose leaves broadcast against the candidate's. `None` in place of
            a leaf leaves it unbounded; infinities leave a side open. Inclusive, for integers too.
            Rounded to each leaf's dtype.
        mode: at a wall, `clip` stops, `reflect` bounces, `wrap` enters at the opposite wall.

    Boolean leaves have no walls. Where a side is open, `reflect` bounces off the other one and
    `wrap` clips.

    Raises:
        ValueError: an unknown mode.
    """

    lower: Any
    upper: Any
    mode: Literal["clip", "reflect", "wrap"] = "clip"

    def __post_init__(self) -> None:
        """Check the mode, the one field that is never traced."""
        if self.mode not in ("clip", "reflect", "wrap"):
            raise ValueError(f"Bounds: mode is {self.mode!r}; choose clip, reflect or wrap")


def apply(bounds: Bounds | None, population: Population) -> Population:
    """`population` brought inside the box; unchanged without bounds."""
    if bounds is None:
        return population
    lower, upper = expand(bounds, population)
    wall = {"clip": _clip, "reflect": _reflect, "wrap": _wrap}[bounds.mode]

    def leaf(x, low, high):
        if low is None or high is None or tree.is_bool(x):
            return x
        low, high, wide = _wall(low, x), _wall(high, x), _wide(x)
        # What is inside stays exactly as it is: folding it would round it.
        inside = jnp.where((wide >= low) & (wide <= high), wide, wall(wide, low, high))
        # Rounding back to a narrow dtype may step over a wall by one unit: clip there.
        return jnp.clip(inside.astype(x.dtype), low.astype(x.dtype), high.astype(x.dtype))

    return jax.tree.map(leaf, population, lower, upper)


def expand(bounds: Bounds | None, candidate: Params) -> tuple[Params, Params]:
    """lower and upper with the structure of `candidate`: numbers, arrays, None if unbounded."""
    unbounded = jax.tree.map(lambda _: None, candidate)
    if bounds is None:
        return unbounded, unbounded

    def broadcast(prefix):
        return jax.tree.map(
            lambda b, part: jax.tree.map(lambda _: b, part),
            prefix,
            candidate,
            is_leaf=lambda b: b is None,
        )

    return broadcast(bounds.lower), broadcast(bounds.upper)


def draw(key: Key, x: Array, low: Any, high: Any) -> Array:
    """A leaf like `x` (pop, ...), uniform between its bounds; bits are fair coins without bounds.

    Raises:
        ValueError: no bounds on a leaf that is not boolean.
    """
    if tree.is_bool(x):
        return draws.coins(key, x.shape)
    if low is None or high is None:
        raise ValueError(
            f"a uniform draw over a leaf of dtype {x.dtype} and shape {x.shape[1:]} needs bounds: "
            "pass bounds=Bounds(lower, upper), finite on that leaf"
        )
    low, high = _wall(low, x), _wall(high, x)
    if tree.is_float(x):
        return (low + draws.uniform(key, x.shape, low.dtype) * (high - low)).astype(x.dtype)
    # randint's upper end is exclusive: it must not wrap past the largest number.
    top = jnp.asarray(jnp.iinfo(high.dtype).max, high.dtype)
    return jax.random.randint(key, x.shape, low, jnp.where(high < top, high + 1, top), x.dtype)


def _wide(x: Array) -> Array:
    # Distances between small integers need more room than the integers.
    narrow = not tree.is_float(x) and x.dtype.itemsize < 4
    return x.astype(jnp.int32) if narrow else tree.wide(x)


def _wall(bound: Any, x: Array) -> Array:
    wall = jnp.asarray(bound).astype(_wide(x).dtype)
    if tree.is_float(x):
        return wall
    limits = jnp.iinfo(x.dtype)
    return jnp.clip(wall, limits.min, limits.max)


def _clip(x: Array, low: Array, high: Array) -> Array:
    return jnp.clip(x, low, high)


def _reflect(x: Array, low: Array, high: Array) -> Array:
    width = high - low
    period = 2 * width
    closed = jnp.isfinite(period) & (period > 0)
    folded = jnp.mod(x - low, jnp.where(closed, period, 1))
    inside = low + jnp.where(folded > width, period - folded, folded)
    bounced = jnp.where(x < low, 2 * low - x, 2 * high - x)
    return jnp.where(closed, inside, bounced)


def _wrap(x: Array, low: Array, high: Array) -> Array:
    if not tree.is_float(x):
        return low + jnp.mod(x - low, high - low + 1)  # both ends count
    width = high - low
    inside = low + jnp.mod(x - low, jnp.where(width > 0, width, 1))
    return jnp.where(jnp.isfinite(width), inside, jnp.clip(x, low, high))
