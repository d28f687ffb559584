"""Shapes, dtypes and arithmetic of a weight that is kept as base, left and right."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .factored import SIDES, SMALL, Factored, Side


def _each(weight: Factored, f: Callable[[Array, list[int]], Array], **changes: Any) -> Factored:
    """f(array, its axes) on the base and on every row of the factors."""
    base = f(weight.base, [*range(weight.base.ndim)])

    def factor(side):
        own = weight.axes(side)
        return jax.vmap(lambda x: f(x, own))(getattr(weight, side))

    left, right = factor("left"), factor("right")
    return dataclasses.replace(weight, base=base, left=left, right=right, **changes)


def transpose(params: Any, weight: Factored) -> Factored:
    """Another order of the axes."""
    order = params["permutation"]

    def part(x, own):
        return x.transpose([own.index(a) for a in order if a in own])

    return _each(weight, part, sides=tuple(weight.sides[a] for a in order))


def convert_element_type(params: Any, weight: Factored) -> Any:
    """Another dtype."""
    if not jnp.issubdtype(params["new_dtype"], jnp.floating):
        return NotImplemented
    return _each(weight, lambda x, _: x.astype(params["new_dtype"]))


def same(params: Any, weight: Factored) -> Factored:
    """Nothing."""
    return weight


def reshape(params: Any, weight: Factored) -> Any:
    """Axes of one side split, or merged."""
    sides = _reshaped(weight.shape, weight.sides, params["new_sizes"])
    if params["dimensions"] is not None or sides is None:
        return NotImplemented
    return _of_sides(weight, params["new_sizes"], sides)


def squeeze(params: Any, weight: Factored) -> Factored:
    """Without axes of length 1."""
    kept = [a for a in range(weight.base.ndim) if a not in params["dimensions"]]
    return _of_sides(
        weight, tuple(weight.shape[a] for a in kept), tuple(weight.sides[a] for a in kept)
    )


def _of_sides(weight: Factored, shape: tuple[int, ...], sides: tuple[Any, ...]) -> Factored:
    def factor(side):
        own = [n for n, s in zip(shape, sides) if s in (side, "both")]
        return getattr(weight, side).reshape(weight.rank, *own)

    base = weight.base.reshape(shape)
    return Factored(base, factor("left"), factor("right"), sides, weight.name)


def _reshaped(old: tuple[int, ...], sides: Any, new: tuple[int, ...]) -> Any:
    """The side of every new axis, if each is made of old axes of one side."""
    given = [(n, s) for n, s in zip(old, sides) if n != 1]
    wanted = [n for n in new if n != 1]
    answer: list[Side] = []
    while given and wanted:
        have, side = given.pop(0)
        want, count = wanted.pop(0), 1
        while have != want:
            if have < want and given:
                n, s = given.pop(0)
                if s != side:
                    return None
                have *= n
            elif want < have and wanted:
                want, count = want * wanted.pop(0), count + 1
            else:
                return None
        answer += [side] * count
    filled = iter(answer)
    return tuple("left" if n == 1 else next(filled) for n in new)


def broadcast_in_dim(params: Any, weight: Factored, *dynamic: Any) -> Any:
    """New axes, and axes of length 1 made longer: the factors repeat with the base.

    A small weight that is repeated is about to be added to something larger, as a bias is.
    """
    shape, places = params["shape"], params["broadcast_dimensions"]
    if math.prod(shape) > weight.base.size and weight.base.size <= SMALL:
        return lax.broadcast_in_dim(weight.materialise(), shape, places)
    sides: list[Side] = ["left"] * len(shape)
    for place, side in zip(places, weight.sides):
        sides[place] = side

    def part(x, own, side=None):
        target = [a for a in range(len(shape)) if side is None or sides[a] in (side, "both")]
        where = [target.index(places[a]) for a in own]
        sizes = [shape[a] for a in target]
        if side is not None:
            where, sizes = [0, *(1 + w for w in where)], [weight.rank, *sizes]
        return lax.broadcast_in_dim(x, sizes, where)

    base = part(weight.base, range(weight.base.ndim))
    left, right = (part(getattr(weight, s), weight.axes(s), s) for s in SIDES)
    return Factored(base, left, right, tuple(sides), weight.name)


def slice_(params: Any, weight: Factored) -> Factored:
    """A range along some axes."""
    steps = params["strides"] or (1,) * weight.base.ndim

    def part(x, own):
        ends = zip(params["start_indices"], params["limit_indices"], steps)
        ranges = [slice(*end) for end in ends]
        return x[tuple(ranges[a] for a in own)]

    return _each(weight, part)


def dynamic_slice(params: Any, weight: Any, *starts: Any) -> Any:
    """A range that begins at a place known only when the program runs."""
    if not isinstance(weight, Factored):
        return NotImplemented

    def part(x, own):
        return lax.dynamic_slice(
            x, [starts[a] for a in own], [params["slice_sizes"][a] for a in own]
        )

    return _each(weight, part)


def split(params: Any, weight: Factored) -> list[Factored]:
    """Consecutive ranges along one axis."""
    axis, parts, start = params["axis"], [], 0
    for size in params["sizes"]:
        limits = {a: (0, n) for a, n in enumerate(weight.shape)} | {axis: (start, start + size)}
        firsts, lasts = zip(*limits.values())
        given = {"start_indices": firsts, "limit_indices": lasts, "strides": None}
        parts.append(slice_(given, weight))
        start += size
    return parts


def concatenate(params: Any, *weights: Any) -> Any:
    """Side by side along one axis: the ranks add up, each with zeros outside its own range."""
    axis = params["dimension"]
    lazy = [w for w in weights if isinstance(w, Factored)]
    if len({w.sides for w in lazy}) > 1:
        return NotImplemented
    sizes = [w.shape[axis] for w in weights]
    base = jnp.concatenate([w.base if isinstance(w, Factored) else w for w in weights], axis)

    def factor(side):
        own, parts = lazy[0].axes(side), []
        for i, weight in enumerate(weights):
            if not isinstance(weight, Factored):
                continue
            room = [(0, 0)] * (1 + len(own))
            if axis in own:
                room[1 + own.index(axis)] = (sum(sizes[:i]), sum(sizes[i + 1 :]))
            parts.append(jnp.pad(getattr(weight, side), room))
        return jnp.concatenate(parts)

    names = ", ".join(w.name for w in lazy)
    return Factored(base, factor("left"), factor("right"), lazy[0].sides, names)


def mul(params: Any, one: Any, other: Any) -> Any:
    """Times a number."""
    weight, number = (one, other) if isinstance(one, Factored) else (other, one)
    if isinstance(number, Factored) or jnp.ndim(number):
        return NotImplemented
    number = jnp.asarray(number, weight.dtype)
    return dataclasses.replace(
        weight, base=weight.base * number, left=weight.left * number.astype(weight.left.dtype)
    )


def div(params: Any, one: Any, other: Any) -> Any:
    """Divided by a number."""
    if not isinstance(one, Factored) or isinstance(other, Factored) or jnp.ndim(other):
        return NotImplemented
    number = jnp.asarray(other, one.dtype)
    return dataclasses.replace(
        one, base=one.base / number, left=one.left / number.astype(one.left.dtype)
    )


def neg(params: Any, weight: Factored) -> Factored:
    """Times -1."""
    return dataclasses.replace(weight, base=-weight.base, left=-weight.left)


def add(params: Any, one: Any, other: Any, sign: int = 1) -> Any:
    """Plus or minus a number or an array, or another weight.

    With a small array the sum is computed: it is what a position's embedding is added to.
    """
    if isinstance(one, Factored) and isinstance(other, Factored):
        if one.sides != other.sides or one.shape != other.shape:
            return NotImplemented
        left = jnp.concatenate([one.left, sign * other.left])
        right = jnp.concatenate([one.right, other.right])
        base = one.base + sign * other.base
        return Factored(base, left, right, one.sides, f"{one.name}, {other.name}")
    weight, rest = (one, other) if isinstance(one, Factored) else (other, one)
    if jnp.ndim(rest) and weight.base.size <= SMALL:
        one, other = (x.materialise() if isinstance(x, Factored) else x for x in (one, other))
        return one + sign * other
    if isinstance(one, Factored):
        return dataclasses.replace(one, base=one.base + sign * other)
    return dataclasses.replace(other, base=one + sign * other.base, left=sign * other.left)


def sub(params: Any, one: Any, other: Any) -> Any:
    """One minus the other."""
    return add(params, one, other, -1)
