"""A weight with noise of its own, drawn where it is used."""

import functools
from typing import Any

import jax
from jaxtyping import Array

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
