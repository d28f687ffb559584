"""A population of full-rank noise that is never stored."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import draws, mesh, tree
from .. import noise as noises
from ..core import Key, Params, Scalar
from ..low_rank import Drawn, apply
from ..noise import Noise
from . import pairs

DRAWN = 2**16  # numbers of noise drawn side by side, where all members or their sum are wanted


@tree.node(static=("pop_size", "noise", "antithetic"))
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
        antithetic: members 2k and 2k + 1 share noise, with opposite signs; False: all have their
            own, with sign +1.
        lead: the sign of member 0's noise; 0: it is the center.
    """

    center: Params
    key: Key
    scale: Scalar
    pop_size: int
    noise: Noise = pairs.SIGNS
    antithetic: bool = True
    lead: Scalar = 0.0

    def table(self) -> Float[Array, " table"] | None:
        """What the noise of all pairs is copied from, where it is."""
        return self.noise.table(noises.root(self.key))

    def draw(self, number: Int[Array, ""], table: Float[Array, " table"] | None) -> list[Any]:
        """For each leaf the key of a noise, or a key for each row of a stacked leaf."""
        leaves = tree.flat_paths(self.center)
        keys = draws.split(draws.fold_in(noises.root(self.key), number), len(leaves))
        rows = [x.shape[0] if pairs.stacked(path) else None for path, x in leaves.items()]
        split = [k if n is None else draws.split(k, n) for k, n in zip(keys, rows)]
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
        """function(member) for members 2k and 2k + 1, side by side, of some k: (2 * k's, ...)."""
        numbers, signs = pairs.place(self, pairs.indices(which))
        if not self.antithetic:
            return jax.vmap(lambda n, s: self.one(function, self.draw(n, table), s))(numbers, signs)

        def both(number, signs):  # the noise is drawn once for both
            drawn = self.draw(number, table)
            return jax.vmap(lambda sign: self.one(function, drawn, sign))(signs)

        found = jax.vmap(both)(numbers[::2], signs.reshape(-1, 2))
        return found.reshape(-1, *found.shape[2:])

    def one(
        self, function: Callable[[Params], Array], drawn: list[Any], sign: Float[Array, ""]
    ) -> Array:
        """function(member)."""
        return apply(function, self.weights(drawn, sign))

    def contract(self, weights: Float[Array, " pop"]) -> Params:
        """sum_i weights[i] sign_i noise_i in fp32: leaves of the center's shapes."""
        return self.combine(pairs.factors(self, weights))

    def combine(self, factors: Float[Array, " noises"]) -> Params:
        """sum_k factors[k] noise_k in fp32.

        Over the axis "pop" of a mesh each device sums its own part, and keeps its part of the total
        where an axis of the leaf divides.

        Of int8 leaves the steps of `noise.steps` are summed instead, scale included, as they were
        before anything stopped at -127 or 127: there one member of a pair has not moved, and the
        difference of the two is that of half the way.
        """
        return mesh.total(_sum, factors, self)


def _sum(
    which: Int[Array, " noises"], factors: Float[Array, " noises"], population: Seeded
) -> Params:
    """Some noises times their factors: one at a time, but side by side where they are small."""
    table = population.table()

    def term(number, factor):
        drawn = population.weights(population.draw(number, table), jnp.ones((), factor.dtype))
        lazy = jax.tree.leaves(drawn, is_leaf=lambda x: isinstance(x, Drawn))
        return [factor.astype(jnp.float32) * x.perturbation() for x in lazy]

    def terms(which, factors):
        if which.shape[0] == 1:
            return term(which[0], factors[0])
        return [jnp.sum(x, axis=0) for x in jax.vmap(term)(which, factors)]

    group = DRAWN // tree.size(population.center)
    return pairs.summed(terms, which, factors, group, population.center)
