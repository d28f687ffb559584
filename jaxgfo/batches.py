"""What candidates are scored on: the same data in every generation, or other data in each."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import mesh as meshes
from .core import Key


class Minibatches:
    """A function of a generation's number that returns its rows; see `minibatches`.

    Attributes:
        whole: all rows.
        rows: in one batch.
        key: of the order of the rows.
    """

    def __init__(self, whole: Any, rows: int, key: Key):
        self.whole, self.rows, self.key = whole, rows, key
        self.count = _count(whole)
        if not 1 <= rows <= self.count:
            raise ValueError(f"rows is {rows}; expected 1 to {self.count}, the rows that are there")
        self._order = functools.lru_cache(maxsize=1)(self._drawn)

    def __call__(self, generation: int) -> Any:
        """The rows of a generation: the tree of `whole`, with leaves (rows, ...)."""
        epoch, place = divmod(generation, self.count // self.rows)
        chosen = self._order(epoch)[place * self.rows : (place + 1) * self.rows]
        return jax.tree.map(lambda x: x[chosen], self.whole)

    def _drawn(self, epoch: int) -> np.ndarray:
        return np.asarray(_shuffled(self.key, epoch, self.count))


def minibatches(batch: Any, rows: int, key: Key) -> Minibatches:
    """Another batch for every generation of `run`: some rows of this one, the same for all members.

    Rows are drawn without replacement, epoch by epoch, each in an order of its own; what is left
    over at an epoch's end, fewer than `rows`, is left out of that epoch. A generation's rows are a
    function of key and number alone, so that a resumed run is the one that was never interrupted.
    The whole stays in the host's memory; the rows travel to the devices.

    Args:
        batch: a tree of arrays (n, ...) of the same n.
        rows: in one batch, 1 to n.
        key: not the one that `run` is given.

    Raises:
        ValueError: more rows than there are, or leaves with different numbers of rows.
    """
    return Minibatches(jax.tree.map(_on_host, batch), rows, key)


class Source:
    """The batches of a run, on its devices.

    Attributes:
        changes: whether every generation has its own.
    """

    def __init__(self, batch: Any):
        self.changes = varies(batch)
        self._given = batch if self.changes else meshes.place(batch)
        self._shapes = None

    def __call__(self, generation: int) -> Any:
        """The batch of a generation.

        Raises:
            ValueError: one of other shapes than the first: everything would compile again.
        """
        if not self.changes:
            return self._given
        batch = at(self._given, generation)
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), batch
        )
        self._shapes = shapes if self._shapes is None else self._shapes
        if shapes != self._shapes:
            raise ValueError(
                f"the batch of generation {generation} is {shapes}, but an earlier one was "
                f"{self._shapes}; return the same shapes every time, padded if need be"
            )
        return meshes.place(batch)

    def final(self, given: Any, generations: int) -> Any:
        """What finalists are scored on after so many generations; see `final`."""
        last = max(generations - 1, 0)
        return meshes.place(final(self._given, given, last))


def varies(batch: Any) -> bool:
    """Whether it is a function of the generation, and no batch itself."""
    return callable(batch) and jax.tree_util.treedef_is_leaf(jax.tree.structure(batch))


def at(batch: Any, generation: int) -> Any:
    """The batch of a generation."""
    return batch(generation) if varies(batch) else batch


def final(batch: Any, given: Any, last: int) -> Any:
    """What finalists are scored on: as given, or all rows, or the batch of the last generation."""
    if given is not None:
        return given
    whole = getattr(batch, "whole", None) if varies(batch) else None
    return at(batch, last) if whole is None else whole


def _count(batch: Any) -> int:
    counts = {jnp.shape(x)[:1] for x in jax.tree.leaves(batch)}
    if len(counts) != 1 or counts == {()}:
        listed = ", ".join(sorted(str(jnp.shape(x)) for x in jax.tree.leaves(batch)))
        raise ValueError(
            f"leaves have shapes {listed or 'of nothing'}; expected the same number of rows, the "
            "leading axis, in all"
        )
    return counts.pop()[0]


def _on_host(x: Any) -> Any:
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return x
    return np.asarray(x, jax.dtypes.canonicalize_dtype(jnp.result_type(x)))


@functools.partial(jax.jit, static_argnums=2)
def _shuffled(key, epoch, count):
    return jax.random.permutation(jax.random.fold_in(key, epoch), count)
