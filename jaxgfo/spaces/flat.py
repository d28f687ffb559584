"""A tree of parameters as one vector."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import tree
from ..core import Params
from . import base
from .base import space


@space()
class Flat:
    """A candidate is one vector: the leaves of the tree below, one after the other.

    The vector has the widest dtype among the leaves, and at least fp32; every leaf gets its own
    dtype back, so an unchanged coordinate is restored exactly.

    Attributes:
        inner: a tree of real parameters, or a space.

    Raises:
        ValueError: a leaf that is not real, or no leaf at all.
    """

    inner: Any

    def __post_init__(self) -> None:
        """Refuse what a real vector cannot hold."""
        leaves = base.start(self.inner)
        tree.require(tree.is_float, leaves, "Flat holds real numbers; use Full or Select")
        if not jax.tree.leaves(leaves):
            raise ValueError("Flat: there is no parameter to put into a vector")

    def start(self) -> Float[Array, " size"]:
        """The parameters (size,)."""
        leaves = jax.tree.leaves(base.start(self.inner))
        dtype = jnp.result_type(*(tree.wide(jnp.zeros((), x.dtype)).dtype for x in leaves))
        return jnp.concatenate([jnp.ravel(x).astype(dtype) for x in leaves])

    def decode(self, z: Float[Array, " size"]) -> Params:
        """Cut the vector and restore shapes and dtypes.

        Raises:
            ValueError: a vector of another length.
        """
        leaves, treedef = jax.tree.flatten(jax.eval_shape(base.start, self.inner))
        size = tree.size(leaves)
        if z.shape != (size,):
            raise ValueError(f"z has shape {z.shape}; expected ({size},), one entry a parameter")
        parts, offset = [], 0
        for leaf in leaves:
            count = math.prod(leaf.shape)
            part = jax.lax.slice_in_dim(z, offset, offset + count)
            parts.append(part.reshape(leaf.shape).astype(leaf.dtype))
            offset += count
        return base.decode(self.inner, treedef.unflatten(parts))
