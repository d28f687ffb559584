"""A weight with a low-rank perturbation, kept as its factors."""

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array

from .. import tree

Side = Literal["left", "right", "both"]
SIDES: tuple[Side, Side] = ("left", "right")
FUSED = 8  # the highest rank whose terms are summed one by one
SMALL = 2**16  # numbers that nobody minds to hold for every member


@tree.node(static=("sides", "name"))
class Factored:
    """base + sum_q left[q] right[q], where each axis of base belongs to a side.

    A matrix has sides ("left", "right"): W + A B^T. A kernel (features, heads, head_dim) may have
    ("left", "left", "right"). An axis on "both" sides counts independent matrices, such as layers.

    Attributes:
        base: (...), shared by all members.
        left: the rank, and the axes of base on the side "left" or "both", in their order.
        right: the rank, and the axes on the side "right" or "both".
        sides: one for each axis of base.
        name: of the parameter, for messages.
    """

    base: Array
    left: Array
    right: Array
    sides: tuple[Side, ...]
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return self.base.shape

    @property
    def dtype(self) -> Any:
        """Of the weight."""
        return self.base.dtype

    @property
    def rank(self) -> int:
        """Of the perturbation."""
        return self.left.shape[0]

    def axes(self, side: Side) -> list[int]:
        """The axes of base that a factor has."""
        return [i for i, s in enumerate(self.sides) if s in (side, "both")]

    def materialise(self) -> Array:
        """The weight itself."""
        rank = len(self.sides)
        return add_outer(
            self.base,
            [*range(rank)],
            (self.left, self.axes("left")),
            (self.right, self.axes("right")),
        )

    def walk(self) -> Any:
        """What `scan` slices along the first axis, and how a slice becomes a weight again."""
        factors: dict[Side, Array] = {"left": self.left, "right": self.right}
        # Row by row: a CPU's loops over several rows of one slice are not vectorised.
        walked = {s: tuple(x) for s, x in factors.items() if 0 in self.axes(s)}

        def step(sliced):
            base, rows = sliced
            some = {side: jnp.stack(x) for side, x in rows.items()}
            return Factored(base, **{**factors, **some}, sides=self.sides[1:], name=self.name)

        return (self.base, walked), step


def add_outer(
    base: Array,
    axes: Sequence[int],
    first: tuple[Array, Sequence[int]],
    second: tuple[Array, Sequence[int]],
) -> Array:
    """base + sum_q first[q] second[q], aligned by the numbers of their axes behind the rank.

    Written as products of broadcast arrays, which XLA fuses with what comes before and after. A
    product of two thin matrices is a pass over memory of its own, and the faster form only at a
    high rank. A number that is not among `axes` is summed over.
    """
    (one, one_axes), (two, two_axes) = first, second
    wide = widest(one.dtype, two.dtype, base.dtype)
    one, two = one.astype(wide), two.astype(wide)
    if one.shape[0] <= FUSED and set(one_axes) | set(two_axes) <= set(axes):
        total = base.astype(wide)
        for p, q in zip(one, two):
            total = total + _aligned(p, one_axes, axes) * _aligned(q, two_axes, axes)
        return total.astype(base.dtype)
    rank = 1 + max([*axes, *one_axes, *two_axes])
    product = jnp.einsum(one, [rank, *one_axes], two, [rank, *two_axes], [*axes])
    return (base.astype(wide) + product).astype(base.dtype)


def _aligned(x: Array, own: Sequence[int], axes: Sequence[int]) -> Array:
    order = sorted(range(len(own)), key=lambda i: list(axes).index(own[i]))
    missing = [i for i, axis in enumerate(axes) if axis not in own]
    return jnp.expand_dims(x.transpose(order), missing)


def widest(*dtypes: Any) -> Any:
    """The widest of some floats, and at least fp32."""
    return max([jnp.dtype(jnp.float32), *map(jnp.dtype, dtypes)], key=lambda d: jnp.finfo(d).bits)
