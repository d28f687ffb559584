"""Weights that are made where they are used: with noise of their own, or from a stack of rows."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import tree
from ..core import Key
from ..noise import Noise


@tree.node(static=("noise", "name"))
class Drawn:
    """base + step * noise.

    Attributes:
        base: (...), shared by all members.
        keys: () for the whole, or (n,) for each step along the first axis: then a `scan` over
            layers draws the noise of one layer at a time.
        step: (), the standard deviation, and the member's sign.
        table: what noise of the kind `table` is copied from.
        noise: how it is made.
        name: of the parameter, for messages.
    """

    base: Array
    keys: Key
    step: Array
    table: Array | None
    noise: Noise
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return self.base.shape

    @property
    def dtype(self) -> Any:
        """Of the weight."""
        return self.base.dtype

    def perturbation(self) -> Array:
        """The noise itself, in fp32."""
        if not self.keys.ndim:
            return self.noise.draw(self.keys, self.shape, self.table)
        draw = functools.partial(self.noise.draw, shape=self.shape[1:], table=self.table)
        return jax.vmap(draw)(self.keys)

    def materialise(self) -> Array:
        """The weight itself."""
        wide = tree.wide(self.base)
        moved = wide + self.step.astype(wide.dtype) * self.perturbation().astype(wide.dtype)
        return moved.astype(self.dtype)

    def walk(self) -> Any:
        """What `scan` slices, and how a slice becomes a weight again; None: it cannot."""
        if not self.keys.ndim:
            return None

        def step(sliced):
            return Drawn(*sliced, self.step, self.table, self.noise, self.name)

        return (self.base, self.keys), step


@tree.node()
class Stored:
    """stack[place]: one of many that lie one after the other, read where it is used.

    Read before the function is run, each member would be copied as a whole, and each of its layers
    once more.

    Attributes:
        stack: (n, m, ..., rest).
        place: a number for each of the first axes.
    """

    stack: Array
    place: tuple[Int[Array, ""], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return self.stack.shape[len(self.place) :]

    @property
    def dtype(self) -> Any:
        """Of the weight."""
        return self.stack.dtype

    def materialise(self) -> Array:
        """The weight itself."""
        start = (*self.place, *[0] * len(self.shape))
        size = (*[1] * len(self.place), *self.shape)
        return jax.lax.dynamic_slice(self.stack, start, size).reshape(self.shape)

    def walk(self) -> Any:
        """What `scan` slices, and how a slice becomes a weight again."""
        return jnp.arange(self.shape[0]), lambda row: Stored(self.stack, (*self.place, row))
