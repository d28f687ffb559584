"""A few directions in the space of all parameters, drawn at random and never stored."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import draws, tree
from ..core import Key, Params, Scalar
from . import base
from .base import space


@space(static=("dim", "projection"))
class Subspace:
    """A candidate z (dim,) is the model moved by a random linear map: theta = theta_0 + scale P z.

    P (size, dim) is redrawn from the key whenever it is needed and never held. Its rows have
    length 1: for z ~ N(0, s^2) every parameter moves with standard deviation scale * s.

    `sparse`: every parameter follows one coordinate of z, with a random sign; time and memory
    O(size). `gaussian`: entries N(0, 1 / dim); one direction at a time, time O(size * dim).

    Attributes:
        inner: a tree of real parameters, or a space.
        dim: coordinates of a candidate.
        key: a key; what P is drawn from.
        scale: factor on every move, in the units of the parameters.
        projection: `sparse` or `gaussian`.

    Raises:
        ValueError: dim below 1, an unknown projection, or a leaf that is not real.

    Reference: Li et al. (2018), arXiv:1804.08838; sparse, one entry a row: Charikar et al. (2002),
    doi:10.1007/3-540-45465-9_59.
    """

    inner: Any
    dim: int
    key: Key
    scale: Scalar = 1.0
    projection: Literal["sparse", "gaussian"] = "sparse"

    def __post_init__(self) -> None:
        """Check what can be checked before anything is compiled."""
        if self.dim < 1:
            raise ValueError(f"subspace: dim is {self.dim}; expected at least 1")
        if self.projection not in ("sparse", "gaussian"):
            raise ValueError(
                f"subspace: projection is {self.projection!r}; choose 'sparse' or 'gaussian'"
            )
        tree.require(tree.is_float, base.start(self.inner), "Subspace moves real numbers")

    def start(self) -> Float[Array, " dim"]:
        """The origin."""
        return jnp.zeros((self.dim,))

    def decode(self, z: Float[Array, " dim"]) -> Params:
        """theta_0 + scale P z, every leaf in its own dtype."""
        whole = base.start(self.inner)
        move = self._sparse if self.projection == "sparse" else self._gaussian
        moved = tree.lift(lambda x, m: x + self.scale * m.astype(x.dtype), whole, move(z, whole))
        return base.decode(self.inner, moved)

    def _sparse(self, z: Array, whole: Params) -> Params:
        def leaf(key, x):
            bits = draws.bits(key, x.shape)
            # The top bit is the sign; dim is tiny beside 2**31, so the remainder is fair.
            sign = 1.0 - 2.0 * (bits >> 31).astype(z.dtype)
            return sign * z[(bits & 0x7FFFFFFF) % self.dim]

        return tree.map_keys(leaf, self.key, whole)

    def _gaussian(self, z: Array, whole: Params) -> Params:
        def direction(moved, item):
            index, weight = item
            noise = tree.normal(draws.fold_in(self.key, index), whole)
            return jax.tree.map(lambda m, n: m + weight.astype(n.dtype) * n, moved, noise), None

        start = jax.tree.map(lambda x: jnp.zeros(x.shape, tree.wide(x).dtype), whole)
        items = (jnp.arange(self.dim), z / jnp.sqrt(jnp.asarray(self.dim, z.dtype)))
        return jax.lax.scan(direction, start, items)[0]
