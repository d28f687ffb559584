"""A population of full-rank noise that is never stored."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import mesh, tree
from .. import noise as noises
from ..core import Key, Params, Scalar
from ..low_rank import Drawn, apply
from ..noise import Noise
from . import pairs


@tree.node(static=("pop_size", "noise"))
class Seeded:
    """Members center ± scale * noise, with noise of its own for every parameter, never stored.

    Leaves of int8 move by whole steps: scale * noise is rounded at random, without bias, and alike
    for both members of a pair; they stop at -127 and 127.

    Attributes:
        center: a tree of real or int8 parameters; member 0.
        key: what all noise is drawn from.
        scale: standard deviation of the noise, in the units of the parameters; at most 127 for
            int8.
        pop_size: members.
        noise: how it is made; `signs` cost least where weights are many.
    """

    center: Params
    key: Key
    scale: Scalar
    pop_size: int
    noise: Noise = pairs.SIGNS

    def table(self) -> Float[Array, " table"] | None:
        """What the noise of all pairs is copied from, where it is."""
        return self.noise.table(noises.root(self.key))

    def draw(self, pair: Int[Array, ""], table: Float[Array, " table"] | None) -> list[Any]:
        """For each leaf the key of a pair's noise, or a key for each row of a stacked leaf."""
        leaves = tree.flat_paths(self.center)
        keys = jax.random.split(jax.random.fold_in(noises.root(self.key), pair), len(leaves))
        rows = [x.shape[0] if pairs.stacked(path) else None for path, x in leaves.items()]
        split = [k if n is None else jax.random.split(k, n) for k, n in zip(keys, rows)]
        return [(key, table) for key in split]

    def weights(self, drawn: list[Any], sign: Float[Array, ""]) -> Params:
        """A member, with leaves `Drawn`."""
        scale = jnp.asarray(self.scale, sign.dtype)
        leaves = [
            Drawn(x, key, sign, scale, table, self.noise, path)
            for (key, table), (path, x) in zip(drawn, tree.flat_paths(self.center).items())
        ]
        return jax.tree.unflatten(jax.tree.structure(self.center), leaves)

    def each(
        self,
        function: Callable[[Params], Array],
        which: Int[Array, " pairs"],
        table: Float[Array, " table"] | None,
    ) -> Array:
        """function(member) for both members of some pairs, side by side: (2 * pairs, ...)."""

        def both(pair):  # the noise is drawn once for both
            drawn = self.draw(pair, table)
            signs = pairs.signs(pairs.members(pair[None]))
            return jax.vmap(lambda sign: self.one(function, drawn, sign))(signs)

        found = jax.vmap(both)(which)
        return found.reshape(-1, *found.shape[2:])

    def one(
        self, function: Callable[[Params], Array], drawn: list[Any], sign: Float[Array, ""]
    ) -> Array:
        """function(member)."""
        return apply(function, self.weights(drawn, sign))

    def contract(self, weights: Float[Array, " pop"]) -> Params:
        """sum_i weights[i] sign_i noise_i in fp32: leaves of the center's shapes.

        Of int8 leaves the steps of `noise.steps` are summed instead, scale included, as they were
        before anything stopped at -127 or 127: there one member of a pair has not moved, and the
        difference of the two is that of half the way.

        Over the axis "pop" of a mesh each device sums its own members, and keeps its part of the
        total where an axis of the leaf divides.
        """
        return mesh.total(_sum, pairs.factors(weights), self)


def _sum(
    which: Int[Array, " pairs"], factors: Float[Array, " pairs"], population: Seeded
) -> Params:
    """The noise of some pairs times their factors, one pair at a time."""
    table = population.table()
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), population.center)

    def add(total, item):
        pair, factor = item
        drawn = population.weights(population.draw(pair, table), jnp.ones((), factor.dtype))
        lazy = jax.tree.leaves(drawn, is_leaf=lambda x: isinstance(x, Drawn))
        sums = [t + factor.astype(t.dtype) * x.perturbation() for t, x in zip(total, lazy)]
        return sums, None

    total, _ = jax.lax.scan(add, jax.tree.leaves(zeros), (which, factors))
    return jax.tree.unflatten(jax.tree.structure(population.center), total)
