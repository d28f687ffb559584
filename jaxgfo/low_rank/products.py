"""Products and lookups of a weight that is kept as base, left and right."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .factored import SIDES, Factored, Side, add_outer, widest

CROSSED = 4  # a product may be larger by one part in this


def dot_general(params: Any, lhs: Any, rhs: Any) -> Any:
    """x W + sum_q (x left_q) right_q: the base product is one for all members."""
    if isinstance(lhs, Factored) and isinstance(rhs, Factored):
        return NotImplemented
    (lc, rc), (lb, rb) = params["dimension_numbers"]
    first = isinstance(lhs, Factored)
    weight, x = (lhs, rhs) if first else (rhs, lhs)
    base = lax.dot_general_p.bind(*((weight.base, x) if first else (x, weight.base)), **params)
    # Axes by number: those of the weight are 0, 1, ...; those of x alone follow.
    own = [*range(weight.base.ndim)]
    pairs = [*zip(lc, rc), *zip(lb, rb)]
    shared = {b: a for a, b in pairs} if first else dict(pairs)  # axis of x -> of the weight
    others = [shared.get(i, len(own) + i) for i in range(x.ndim)]
    left_axes, right_axes = (others, own) if not first else (own, others)
    batch = [left_axes[i] for i in lb]
    free = [a for i, a in enumerate(left_axes) if i not in (*lb, *lc)]
    free += [a for i, a in enumerate(right_axes) if i not in (*rb, *rc)]
    precision = params["precision"]
    return _through(weight, x, others, base, [*batch, *free], precision)


def _through(
    weight: Factored, x: Array, others: list[int], base: Array, out: list[int], precision: Any
) -> Array:
    """base + x (left right^T), first through the factor that leaves less."""
    factors = {side: (getattr(weight, side), weight.axes(side)) for side in SIDES}

    def left_over(side):
        factor, axes = factors[side]
        kept = [a for a in {*others, *axes} if a in out or a in factors[_other(side)][1]]
        sizes = dict(zip(axes, factor.shape[1:])) | dict(zip(others, x.shape))
        return math.prod(sizes[a] for a in kept)

    side = min(SIDES, key=left_over)
    (near, near_axes), (far, far_axes) = factors[side], factors[_other(side)]
    rank = 1 + max([*others, *near_axes, *far_axes, *out])
    kept = [a for a in sorted({*others, *near_axes}) if a in out or a in far_axes]
    if near.dtype != x.dtype:
        near = near.astype(x.dtype)
    far_size = math.prod(n for a, n in zip(far_axes, far.shape[1:]) if a not in others)
    through = _thin(x, others, near, near_axes, kept, rank, precision, far_size)
    return add_outer(base, out, (jnp.moveaxis(through, -1, 0), kept), (far, far_axes))


def _thin(x, others, near, near_axes, kept, rank, precision, far_size):
    """x through a factor: axes `kept`, then the rank; with it in front XLA would transpose x."""

    def product(x, x_axes, near, near_axes, out):
        wide = widest(x.dtype)
        return jnp.einsum(
            x, x_axes, near, near_axes, out, precision=precision, preferred_element_type=wide
        )

    @jax.custom_batching.custom_vmap
    def thin(x, near):
        return product(x, others, near, [rank, *near_axes], [*kept, rank])

    @thin.def_vmap
    def _(size, batched, x, near):
        one, two = rank + 1, rank + 2  # numbers of the axis of members
        x_axes, axes = [one, *others], [two, rank, *near_axes]
        if not all(batched) or size * near.shape[1] * CROSSED > far_size:
            x_axes = x_axes if batched[0] else others
            axes = [one, *axes[1:]] if batched[1] else axes[1:]
            return product(x, x_axes, near, axes, [one, *kept, rank]), True
        # Every member's x through every member's factor, as one matrix product; then what belongs
        # together. XLA would compute x twice for a product of another shape beside x W.
        crossed = jnp.moveaxis(product(x, x_axes, near, axes, [one, *kept, two, rank]), -2, 0)
        flat = crossed.reshape(size * size, *crossed.shape[2:])
        return jax.lax.slice_in_dim(flat, 0, None, size + 1), True  # the diagonal

    return thin(x, near)


def _other(side: Side) -> Side:
    return "right" if side == "left" else "left"


def gather(params: Any, weight: Any, indices: Any) -> Any:
    """Rows of an embedding: those of the base, and those of the factor that has the rows."""
    if not isinstance(weight, Factored) or isinstance(indices, Factored):
        return NotImplemented
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    if numbers.operand_batching_dims:
        return NotImplemented
    moved = {*numbers.start_index_map}
    if any(size != weight.shape[i] for i, size in enumerate(sizes) if i not in moved):
        return NotImplemented
    base = lax.gather_p.bind(weight.base, indices, **params)
    offset = iter([i for i in range(weight.base.ndim) if i not in numbers.collapsed_slice_dims])
    fresh = iter(range(weight.base.ndim, weight.base.ndim + base.ndim))
    out = [next(offset) if i in numbers.offset_dims else next(fresh) for i in range(base.ndim)]
    batch = [a for a in out if a >= weight.base.ndim]
    parts = []
    for side in SIDES:
        factor, axes = getattr(weight, side), weight.axes(side)
        here = moved & {*axes}
        if not here:
            parts.append((factor, axes))
            continue
        if here != moved:
            return NotImplemented
        place = {axis: i for i, axis in enumerate(axes)}
        kept = [a for a in axes if a not in numbers.collapsed_slice_dims]
        own = lax.GatherDimensionNumbers(
            offset_dims=(0, *range(1 + len(batch), 1 + len(batch) + len(kept))),
            collapsed_slice_dims=tuple(
                1 + place[a] for a in numbers.collapsed_slice_dims if a in place
            ),
            start_index_map=tuple(1 + place[a] for a in numbers.start_index_map),
        )
        own_sizes = (weight.rank, *(sizes[a] for a in axes))
        rows = lax.gather_p.bind(
            factor, indices, **{**params, "dimension_numbers": own, "slice_sizes": own_sizes}
        )
        parts.append((rows, [*batch, *kept]))
    return add_outer(base, out, *parts)


def conv_general_dilated(params: Any, x: Any, kernel: Any) -> Any:
    """A convolution into `rank` channels, and from each to all of them."""
    if not isinstance(kernel, Factored) or isinstance(x, Factored):
        return NotImplemented
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return NotImplemented
    features = params["dimension_numbers"].rhs_spec[0]
    near: Side = "left" if features in kernel.axes("right") else "right"
    if kernel.axes(_other(near)) != [features] or features in kernel.axes(near):
        return NotImplemented
    base = lax.conv_general_dilated_p.bind(x, kernel.base, **params)
    thin = jnp.moveaxis(getattr(kernel, near), 0, features)
    through = lax.conv_general_dilated_p.bind(x, thin, **params)
    channel = params["dimension_numbers"].out_spec[1]
    out = [*range(base.ndim)]
    through = jnp.moveaxis(through, channel, 0)
    rest = [a for a in out if a != channel]
    return add_outer(base, out, (through, rest), (getattr(kernel, _other(near)), [channel]))
