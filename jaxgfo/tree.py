"""Pytree arithmetic that keeps every leaf's dtype.

A tree's coordinates are numbered 0 ... size-1 in the order of its flattened leaves, as if they were
concatenated; operators that think of a genome as one string (single-point crossover, exponential
crossover) use those numbers and never build the concatenation.
"""

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from . import draws

Tree = PyTree[Any]
Class = TypeVar("Class", bound=type)
STACK = ".*."  # in a path: the leading axis of the leaf counts what stands there


def wide(x: Any) -> Array:
    """A floating leaf in at least the default float dtype; others unchanged.

    A sum in bf16 would round every term; and hyperparameters have the default float dtype.
    """
    if jnp.issubdtype(x.dtype, jnp.floating):
        default = jnp.result_type(float)
        return x.astype(default) if jnp.finfo(x.dtype).bits < jnp.finfo(default).bits else x
    return x


def lift(f: Callable[..., Array], first: Tree, *rest: Tree) -> Tree:
    """Map `f` over leaves, computing in at least the default float, into the dtypes of `first`."""

    def leaf(x, *others):
        return f(wide(x), *map(wide, others)).astype(x.dtype)

    return jax.tree.map(leaf, first, *rest)


def split(key: Array, count: int) -> Any:
    """As many independent keys: one is the key itself, as every split takes longer to compile."""
    return [key] if count == 1 else draws.split(key, count)


def map_keys(f: Callable[..., Any], key: Array, first: Tree, *rest: Tree) -> Tree:
    """Map `f(key, leaf, *leaves)` with an independent key for every leaf."""
    leaves, treedef = jax.tree.flatten(first)
    keys = split(key, len(leaves))
    others = [treedef.flatten_up_to(tree) for tree in rest]
    return treedef.unflatten([f(*args) for args in zip(keys, leaves, *others)])


def size(tree: Tree) -> int:
    """Number of coordinates."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def row_size(population: Tree) -> int:
    """Number of coordinates of one member of a population whose leaves are (pop, ...)."""
    return sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(population))


def coordinates(population: Tree) -> Tree:
    """The number of every coordinate of a member: leaves int32 of the member's shapes.

    Raises:
        ValueError: more coordinates than an int32 counts.
    """
    if row_size(population) > jnp.iinfo(jnp.int32).max:
        raise ValueError(f"a candidate has {row_size(population)} coordinates; at most 2**31 - 1")
    leaves, treedef = jax.tree.flatten(population)
    numbered, offset = [], 0
    for leaf in leaves:
        count = math.prod(leaf.shape[1:])
        numbered.append(jnp.arange(offset, offset + count, dtype=jnp.int32).reshape(leaf.shape[1:]))
        offset += count
    return treedef.unflatten(numbered)


def rows(values: Shaped[Array, "*pop"], like: Array) -> Array:
    """One value per member (or one for all), shaped to broadcast against a leaf (pop, ...)."""
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def take(population: Tree, index: Int[Array, "*batch"]) -> Tree:
    """The members at `index`: leaves (*batch, ...)."""
    return jax.tree.map(lambda x: x[index], population)


def where(condition: Bool[Array, "*pop"], yes: Tree, no: Tree) -> Tree:
    """Members of `yes` where `condition` (per member, or one for all), of `no` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(rows(condition, a), a, b), yes, no)


def select(masks: Tree, yes: Tree, no: Tree) -> Tree:
    """Coordinates of `yes` where the tree of masks is true, of `no` elsewhere."""
    return jax.tree.map(jnp.where, masks, yes, no)


def concatenate(first: Tree, second: Tree) -> Tree:
    """The members of two populations in one."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def squares(population: Tree) -> Float[Array, " pop"]:
    """The squared Euclidean length of every member."""
    leaves = jax.tree.leaves(population)
    parts = [jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim))) for x in leaves]
    return jnp.sum(jnp.stack(parts), axis=0)


def normal(key: Array, population: Tree) -> Tree:
    """Standard normal noise of the shapes of the leaves, in the dtype of `wide`."""
    return map_keys(lambda k, x: draws.normal(k, x.shape, wide(x).dtype), key, population)


def uniform(key: Array, population: Tree) -> Tree:
    """Uniform noise on [0, 1) in fp32, of the shapes of the leaves, whatever their dtype."""
    return map_keys(lambda k, x: draws.uniform(k, x.shape), key, population)


def is_float(x: Any) -> bool:
    """Whether a leaf holds real numbers."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def any_float(tree: Tree) -> bool:
    """Whether any leaf holds real numbers."""
    return any(map(is_float, jax.tree.leaves(tree)))


def is_bool(x: Any) -> bool:
    """Whether a leaf holds bits."""
    return x.dtype == jnp.bool_


def require(accepts: Callable[[Any], bool], tree: Tree, what: str) -> None:
    """Raise ValueError naming the first leaf that `accepts` refuses; `what` says why."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not accepts(leaf):
            where = jax.tree_util.keystr(path) or "the array"
            raise ValueError(f"{what}; {where} has dtype {leaf.dtype}")


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dtypes:
    """The dtypes of a tree's leaves, in a state that holds the tree in wider ones."""

    leaves: tuple[Any, ...]

    def cast(self, tree: Tree) -> Tree:
        """The tree with these dtypes."""
        leaves, treedef = jax.tree.flatten(tree)
        return treedef.unflatten([x.astype(t) for x, t in zip(leaves, self.leaves)])


def dtypes(tree: Tree) -> Dtypes:
    """The dtypes of the leaves, in the order of the flattened tree."""
    return Dtypes(tuple(x.dtype for x in jax.tree.leaves(tree)))


def matrix(population: Tree) -> Float[Array, "pop size"]:
    """A member a row: the leaves (pop, ...) one after the other, in the dtype of `wide`."""
    leaves = [wide(x).reshape(x.shape[0], -1) for x in jax.tree.leaves(population)]
    return jnp.concatenate(leaves, axis=1)


def from_matrix(rows: Float[Array, "pop size"], member: Tree) -> Tree:
    """The members whose coordinates are rows: leaves (pop, ...) of the shapes of `member`."""
    leaves, treedef = jax.tree.flatten(member)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = jnp.split(rows, ends[:-1], axis=1)
    return treedef.unflatten([p.reshape(-1, *x.shape) for p, x in zip(parts, leaves)])


def flat_paths(tree: Tree) -> dict[str, Any]:
    """The leaves by their path, in the order of the flattened tree: `layers.0.norm.scale`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def node(*, static: tuple[str, ...] = ()) -> Any:
    """Make a class a frozen dataclass that is a pytree; fields named `static` are the compile key.

    Rebuilding one inside JAX passes by `__init__`, which may check and prepare its arguments.
    """

    def decorate(cls: Class) -> Class:
        cls = dataclasses.dataclass(frozen=True, eq=False)(cls)  # type: ignore[assignment]
        return register(cls, static)

    return decorate


def register(cls: Class, static: Collection[str]) -> Class:
    """Make a dataclass a pytree; fields named `static` are the compile key.

    Not by `jax.tree_util.register_dataclass`: structures of two such classes with equal fields are
    equal there (JAX 0.12), and where their hashes happen to meet, jit takes one for the other.
    """
    fields = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    names, static = [n for n in fields if n not in static], [n for n in fields if n in static]

    def flatten(self):
        return [getattr(self, n) for n in names], tuple(getattr(self, n) for n in static)

    def flatten_with_keys(self):
        values, key = flatten(self)
        return [(jax.tree_util.GetAttrKey(n), v) for n, v in zip(names, values)], key

    def unflatten(key, values):
        self = object.__new__(cls)
        for name, value in [*zip(names, values), *zip(static, key)]:
            object.__setattr__(self, name, value)
        return self

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
