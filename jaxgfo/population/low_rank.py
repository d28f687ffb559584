"""A population whose members move every matrix by one of low rank."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import draws, mesh, tree
from .. import noise as noises
from ..core import Key, Params, Scalar
from ..low_rank import Factored, Fallback, apply
from ..low_rank.factored import SIDES, Side
from ..noise import Noise
from . import pairs

DRAWN = 2**24  # numbers of noise held at a time when members are summed


@tree.node(static=("pop_size", "rank", "noise", "fallback", "antithetic"))
class LowRank:
    """Members whose matrices are W ± scale / sqrt(rank) A B^T, never materialised.

    A and B have independent entries of variance 1, so every entry of W moves with standard
    deviation scale; vectors get noise of their own. In an array of three axes or more the last
    one is on the side of B and the others on the side of A; where a path says that layers are
    stacked, `layers.*.mlp.up.kernel`, every layer has its own A and B.

    Attributes:
        center: a tree of real parameters; member 0.
        key: what all noise is drawn from.
        scale: standard deviation of a parameter's move, in the units of the parameters.
        pop_size: members.
        rank: of the perturbation of a matrix, at least 1.
        noise: how it is made.
        fallback: what happens to a matrix that is used in a way that has no low-rank rule:
            `materialise` it for every member, with a warning, or `refuse`.
        antithetic: members 2k and 2k + 1 share noise, with opposite signs; False: all have their
            own, with sign +1.
        lead: the sign of member 0's noise; 0: it is the center.

    Reference: Sarkar et al. (2025), "Evolution strategies at the hyperscale", arXiv:2511.16652.
    """

    center: Params
    key: Key
    scale: Scalar
    pop_size: int
    rank: int = 1
    noise: Noise = pairs.SIGNS
    fallback: Fallback = "materialise"
    antithetic: bool = True
    lead: Scalar = 0.0

    def table(self) -> Float[Array, " table"] | None:
        """What the noise of all pairs is copied from, where it is."""
        return self.noise.table(noises.root(self.key))

    def draw(
        self, number: Int[Array, ""], table: Float[Array, " table"] | None
    ) -> Float[Array, " noise"]:
        """A noise, of all leaves one after the other."""
        key = draws.fold_in(noises.root(self.key), number)
        return self.noise.draw(key, (self._drawn(),), table)

    def weights(self, drawn: Float[Array, " noise"], sign: Float[Array, ""]) -> Params:
        """A member, with matrices `Factored`."""
        step, leaves = sign * jnp.asarray(self.scale, sign.dtype), []
        parts = self._parts(drawn)
        for noise, (path, x) in zip(parts, tree.flat_paths(self.center).items()):
            if len(noise) == 2:
                left = (step / math.sqrt(self.rank)).astype(jnp.float32) * noise[0]
                leaves.append(Factored(x, left, noise[1], _sides(path, x), path))
            else:
                wide = tree.wide(x)
                moved = wide + step.astype(wide.dtype) * noise[0].astype(wide.dtype)
                leaves.append(moved.astype(x.dtype))
        return jax.tree.unflatten(jax.tree.structure(self.center), leaves)

    def each(
        self,
        function: Callable[[Params], Array],
        which: Int[Array, " pairs"],
        table: Float[Array, " table"] | None,
    ) -> Array:
        """function(member) for members 2k and 2k + 1, side by side, of some k: (2 * k's, ...)."""
        numbers, signs = pairs.place(self, pairs.indices(which))
        numbers = numbers[::2] if self.antithetic else numbers
        # One axis of members, not one of pairs and one of signs: XLA's loops are faster.
        drawn = noises.in_turn(lambda number: self.draw(number, table), numbers)
        drawn = jnp.repeat(drawn, 2, axis=0) if self.antithetic else drawn
        return jax.vmap(functools.partial(self.one, function))(drawn, signs)

    def one(
        self,
        function: Callable[[Params], Array],
        drawn: Float[Array, " noise"],
        sign: Float[Array, ""],
    ) -> Array:
        """function(member)."""
        return apply(function, self.weights(drawn, sign), fallback=self.fallback)

    def contract(self, weights: Float[Array, " pop"]) -> Params:
        """sum_i weights[i] sign_i noise_i in fp32: one contraction for every matrix.

        A matrix's noise is A B^T / sqrt(rank).
        """
        return self.combine(pairs.factors(self, weights))

    def combine(self, factors: Float[Array, " noises"]) -> Params:
        """sum_k factors[k] noise_k in fp32.

        Over the axis "pop" of a mesh each device sums its own part, and keeps its part of the total
        where an axis of the leaf divides.
        """
        return mesh.total(_sum, factors.astype(jnp.float32), self)

    def _drawn(self) -> int:
        """Numbers in a noise."""
        return sum(math.prod(shape) for shapes in self._shapes() for shape in shapes)

    def _parts(self, drawn: Float[Array, " noise"]) -> list[tuple[Array, ...]]:
        """For each leaf its factors (rank, ...), or noise of its shape."""
        shapes = self._shapes()
        sizes = [math.prod(shape) for leaf in shapes for shape in leaf]
        cut = iter(jnp.split(drawn, [*itertools.accumulate(sizes)][:-1]))
        return [tuple(next(cut).reshape(shape) for shape in leaf) for leaf in shapes]

    def _shapes(self) -> list[tuple[tuple[int, ...], ...]]:
        """For each leaf the shapes of its factors, or of its noise."""
        shapes: list[tuple[tuple[int, ...], ...]] = []
        for path, x in tree.flat_paths(self.center).items():
            sides = _sides(path, x)
            if {"left", "right"} <= {*sides}:
                pair = (
                    (self.rank, *(n for n, s in zip(x.shape, sides) if s in (side, "both")))
                    for side in SIDES
                )
                shapes.append(tuple(pair))
            else:
                shapes.append((x.shape,))
        return shapes


def _sum(
    which: Int[Array, " noises"], factors: Float[Array, " noises"], population: LowRank
) -> Params:
    """Some noises times their factors, a group at a time."""
    table = population.table()
    sides = [_sides(path, x) for path, x in tree.flat_paths(population.center).items()]

    def terms(which, factors):
        drawn = jax.vmap(lambda k: population._parts(population.draw(k, table)))(which)
        return [_contraction(factors, *item) for item in zip(drawn, sides)]

    group = DRAWN // max(population._drawn(), 1)
    return pairs.summed(terms, which, factors, group, population.center)


def _contraction(
    factors: Float[Array, " pairs"], parts: tuple[Array, ...], sides: tuple[Side, ...]
) -> Array:
    """The sum over noises, and over the rank where they have factors (noises, rank, ...)."""
    if len(parts) == 1:
        return jnp.tensordot(factors, parts[0], 1)
    axes = [*range(len(sides))]
    left, right = (
        [len(axes), len(axes) + 1, *(a for a in axes if sides[a] in (side, "both"))]
        for side in SIDES
    )
    scaled = factors.reshape(-1, *[1] * (parts[0].ndim - 1)) * parts[0]
    return jnp.einsum(scaled, left, parts[1], right, axes) / math.sqrt(parts[0].shape[1])


def _sides(path: str, x: Any) -> tuple[Side, ...]:
    first: tuple[Side, ...] = ("both",) if pairs.stacked(path) and x.ndim else ()
    rest = x.ndim - len(first)
    left, right = (
        cast(list[Side], ["left"] * (rest - 1)),
        cast(list[Side], ["right"] * min(rest, 1)),
    )
    return (*first, *left, *right)
