"""Weights that are made where they are used: with noise of their own, or from a stack of rows."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import tree
from ..core import Key
from ..noise import LARGEST, Noise


@tree.node(static=("noise", "name"))
class Drawn:
    """base + sign * scale * noise; of int8, in whole steps: base + sign * round(scale * noise).

    What int8 is moved by is rounded at random, without bias and for both signs alike. The sum stops
    at -127 and 127.

    Attributes:
        base: (...), shared by all members; real or int8.
        keys: () for the whole, or (n,) for each step along the first axis: then a `scan` over
            layers draws the noise of one layer at a time.
        sign: (), of the member; 0 for the base itself.
        scale: (), the standard deviation.
        table: what noise of the kind `table` is copied from.
        noise: how it is made.
        name: of the parameter, for messages.
    """

    base: Array
    keys: Key
    sign: Array
    scale: Array
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
        """The noise itself, in fp32; of int8 the whole steps, scale included."""
        if tree.is_float(self.base):
            return self._drawn(self.noise.draw)
        steps = functools.partial(self.noise.steps, scale=self.scale)
        return self._drawn(steps).astype(jnp.float32)

    def materialise(self) -> Array:
        """The weight itself."""
        noise = self.perturbation()
        if tree.is_float(self.base):
            wide, step = tree.wide(self.base), self.sign * self.scale
            moved = wide + step.astype(wide.dtype) * noise.astype(wide.dtype)
        else:
            moved = self.base.astype(noise.dtype) + self.sign.astype(noise.dtype) * noise
            moved = jnp.where(self.sign == 0, moved, jnp.clip(moved, -LARGEST, LARGEST))
        return moved.astype(self.dtype)

    def _drawn(self, draw: Callable[..., Array]) -> Array:
        if not self.keys.ndim:
            return draw(self.keys, shape=self.shape, table=self.table)
        return jax.vmap(functools.partial(draw, shape=self.shape[1:], table=self.table))(self.keys)

    def walk(self) -> Any:
        """What `scan` slices, and how a slice becomes a weight again; None: it cannot."""
        if not self.keys.ndim:
            return None

        def step(sliced):
            return Drawn(*sliced, self.sign, self.scale, self.table, self.noise, self.name)

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
