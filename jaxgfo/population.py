"""What `ask` returns: a dense population, or one that is a center and a key.

A dense population is a tree with one row per member in every leaf. `Seeded` and `LowRank` hold one
candidate and draw their members' noise again wherever it is needed. Their member 0 is the center
itself; the others come in antithetic pairs: members 2k and 2k + 1 are center ± scale * noise_k.
"""

import math
import re
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import bounds as box
from . import noise as noises
from . import tree
from .bounds import Bounds
from .core import Key, Params, Population, Scalar
from .low_rank import Drawn, Factored, Fallback, materialise
from .low_rank.factored import Side
from .noise import Noise

NORMAL, SIGNS = Noise("normal"), Noise("signs")
DRAWN = 2**24  # numbers of noise held at a time when members are summed
ROWS = re.compile(r"\.\d+[,-][\d,-]*\.")  # in a path: some of the rows of a stacked leaf


def repeat(start: Params, pop_size: int) -> Population:
    """`pop_size` copies of one candidate: leaves (pop, ...)."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (pop_size, *x.shape)), start)


def size(population: Population) -> int:
    """Members of a population of any kind."""
    if isinstance(population, Seeded | LowRank):
        return population.pop_size
    return jax.tree.leaves(population)[0].shape[0]


def member(population: Population, index: int | Int[Array, ""]) -> Params:
    """One candidate of a population of any kind, in full."""
    if isinstance(population, Seeded | LowRank):
        index = jnp.asarray(index)
        drawn: Any = population.draw(index // 2)
        weights = population.weights(drawn, population.signs(index))
        return jax.tree.map(materialise, weights, is_leaf=lambda x: isinstance(x, Drawn | Factored))
    return tree.take(population, jnp.asarray(index))


def initial(
    key: Key,
    start: Params,
    pop_size: int,
    init_scale: Scalar | None,
    bounds: Bounds | None,
) -> Population:
    """The first population: `start` itself in row 0, the others around it.

    Real leaves are `start` + `init_scale` * N(0, 1), or uniform in the bounds when `init_scale` is
    None; bits are fair coins and integers uniform in their bounds. Row 0 is `start` unchanged,
    also where it lies outside the bounds, so that no run ends worse than it began.

    Raises:
        ValueError: bounds are missing where a uniform draw needs them.
    """
    copies = repeat(start, pop_size)
    lower, upper = box.expand(bounds, copies)

    def leaf(k, x, low, high):
        if tree.is_float(x) and init_scale is not None:
            wide = tree.wide(x)
            return (wide + init_scale * jax.random.normal(k, x.shape, wide.dtype)).astype(x.dtype)
        return box.draw(k, x, low, high)

    spread = box.apply(bounds, tree.map_keys(leaf, key, copies, lower, upper))
    return jax.tree.map(lambda x, s: x.at[0].set(s), spread, start)


def _signs(index: Int[Array, "*members"]) -> Float[Array, "*members"]:
    """0 for the center, then -1, +1, -1, ..."""
    sign = jnp.where(index % 2 == 0, 1.0, -1.0)
    return jnp.where(index == 0, 0.0, sign).astype(jnp.result_type(float))


def _of_pairs(weights: Float[Array, " pop"]) -> Float[Array, " pairs"]:
    """The factor of every pair's noise in a weighted sum over members."""
    signed = weights * _signs(jnp.arange(weights.shape[0]))
    return jnp.sum(jnp.pad(signed, (0, weights.shape[0] % 2)).reshape(-1, 2), axis=1)


@tree.node(static=("pop_size", "noise"))
class Seeded:
    """Members center ± scale * noise, with noise of its own for every parameter, never stored.

    Attributes:
        center: a tree of real parameters; member 0.
        key: what all noise is drawn from.
        scale: standard deviation of the noise, in the units of the parameters.
        pop_size: members.
        noise: how it is made; `signs` cost least where weights are many.
    """

    center: Params
    key: Key
    scale: Scalar
    pop_size: int
    noise: Noise = SIGNS

    def signs(self, index: Int[Array, "*members"]) -> Float[Array, "*members"]:
        """The sign of members' noise: 0 for member 0, then -1, +1, -1, ..."""
        return _signs(index)

    def draw(self, pair: Int[Array, ""]) -> list[Array]:
        """The keys of a pair's noise, one for each leaf, or for each row of a stacked leaf."""
        leaves = tree.flat_paths(self.center)
        keys = jax.random.split(jax.random.fold_in(noises.root(self.key), pair), len(leaves))
        rows = [x.shape[0] if _stacked(path) else None for path, x in leaves.items()]
        return [k if n is None else jax.random.split(k, n) for k, n in zip(keys, rows)]

    def weights(self, keys: list[Array], sign: Float[Array, ""]) -> Params:
        """A member, with leaves `Drawn`."""
        table = self.noise.table(noises.root(self.key))
        step = sign * jnp.asarray(self.scale, sign.dtype)
        leaves = [
            Drawn(x, key, step, table, self.noise, path)
            for key, (path, x) in zip(keys, tree.flat_paths(self.center).items())
        ]
        return jax.tree.unflatten(jax.tree.structure(self.center), leaves)

    def contract(self, weights: Float[Array, " pop"]) -> Params:
        """sum_i weights[i] sign_i noise_i in fp32: leaves of the center's shapes."""
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), self.center)
        factors = _of_pairs(weights)

        def add(total, item):
            pair, factor = item
            drawn = self.weights(self.draw(pair), jnp.ones((), weights.dtype))
            lazy = jax.tree.leaves(drawn, is_leaf=lambda x: isinstance(x, Drawn))
            sums = [t + factor.astype(t.dtype) * x.perturbation() for t, x in zip(total, lazy)]
            return sums, None

        pairs = jnp.arange(factors.shape[0])
        total, _ = jax.lax.scan(add, jax.tree.leaves(zeros), (pairs, factors))
        return jax.tree.unflatten(jax.tree.structure(self.center), total)


@tree.node(static=("pop_size", "rank", "noise", "fallback"))
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

    Reference: Sarkar et al. (2025), "Evolution strategies at the hyperscale", arXiv:2511.16652.
    """

    center: Params
    key: Key
    scale: Scalar
    pop_size: int
    rank: int = 1
    noise: Noise = NORMAL
    fallback: Fallback = "materialise"

    def signs(self, index: Int[Array, "*members"]) -> Float[Array, "*members"]:
        """The sign of members' noise: 0 for member 0, then -1, +1, -1, ..."""
        return _signs(index)

    def draw(self, pair: Int[Array, ""]) -> list[tuple[Array, ...]]:
        """A pair's noise: for each leaf its factors (rank, ...), or noise of its shape."""
        root = noises.root(self.key)
        shapes = [s for leaf in self._shapes() for s in leaf]
        sizes = [math.prod(s) for s in shapes]
        flat = self.noise.draw(
            jax.random.fold_in(root, pair), (sum(sizes),), self.noise.table(root)
        )
        parts, start = [], 0
        for shape, count in zip(shapes, sizes):
            parts.append(jax.lax.slice_in_dim(flat, start, start + count).reshape(shape))
            start += count
        left = iter(parts)
        return [tuple(next(left) for _ in leaf) for leaf in self._shapes()]

    def weights(self, drawn: list[tuple[Array, ...]], sign: Float[Array, ""]) -> Params:
        """A member, with matrices `Factored`."""
        step, leaves = sign * jnp.asarray(self.scale, sign.dtype), []
        for parts, (path, x) in zip(drawn, tree.flat_paths(self.center).items()):
            if len(parts) == 2:
                left = (step / math.sqrt(self.rank)).astype(jnp.float32) * parts[0]
                leaves.append(Factored(x, left, parts[1], _sides(path, x), path))
            else:
                wide = tree.wide(x)
                moved = wide + step.astype(wide.dtype) * parts[0].astype(wide.dtype)
                leaves.append(moved.astype(x.dtype))
        return jax.tree.unflatten(jax.tree.structure(self.center), leaves)

    def contract(self, weights: Float[Array, " pop"]) -> Params:
        """sum_i weights[i] sign_i noise_i in fp32: one contraction for every matrix.

        A matrix's noise is A B^T / sqrt(rank).
        """
        factors = _of_pairs(weights).astype(jnp.float32)
        count, held = factors.shape[0], sum(math.prod(s) for leaf in self._shapes() for s in leaf)
        group = max(1, min(count, DRAWN // max(held, 1)))
        groups = -(-count // group)
        factors = jnp.pad(factors, (0, groups * group - count)).reshape(groups, group)
        pairs = jnp.arange(groups * group).reshape(groups, group)

        def sums(pairs, factors):
            drawn, results = jax.vmap(self.draw)(pairs), []
            for parts, (path, x) in zip(drawn, tree.flat_paths(self.center).items()):
                if len(parts) == 1:
                    results.append(jnp.tensordot(factors, parts[0], 1))
                    continue
                sides, axes = _sides(path, x), [*range(x.ndim)]
                left, right = (
                    [x.ndim, x.ndim + 1, *(a for a in axes if sides[a] in (side, "both"))]
                    for side in ("left", "right")
                )
                scaled = factors.reshape(-1, *[1] * (parts[0].ndim - 1)) * parts[0]
                total = jnp.einsum(scaled, left, parts[1], right, axes)
                results.append(total / math.sqrt(self.rank))
            return results

        if groups == 1:
            total = sums(pairs[0], factors[0])
        else:
            zeros = [jnp.zeros(x.shape, jnp.float32) for x in jax.tree.leaves(self.center)]
            total, _ = jax.lax.scan(
                lambda t, item: ([a + b for a, b in zip(t, sums(*item))], None),
                zeros,
                (pairs, factors),
            )
        return jax.tree.unflatten(jax.tree.structure(self.center), total)

    def _shapes(self) -> list[tuple[tuple[int, ...], ...]]:
        """For each leaf the shapes of its factors, or of its noise."""
        shapes: list[tuple[tuple[int, ...], ...]] = []
        for path, x in tree.flat_paths(self.center).items():
            sides = _sides(path, x)
            if {"left", "right"} <= {*sides}:
                pair = (
                    (self.rank, *(n for n, s in zip(x.shape, sides) if s in (side, "both")))
                    for side in ("left", "right")
                )
                shapes.append(tuple(pair))
            else:
                shapes.append((x.shape,))
        return shapes


def _stacked(path: str) -> bool:
    return tree.STACK in path or ROWS.search(path) is not None


def _sides(path: str, x: Any) -> tuple[Side, ...]:
    first: tuple[Side, ...] = ("both",) if _stacked(path) and x.ndim else ()
    rest = x.ndim - len(first)
    left, right = (
        cast(list[Side], ["left"] * (rest - 1)),
        cast(list[Side], ["right"] * min(rest, 1)),
    )
    return (*first, *left, *right)
