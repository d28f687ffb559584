"""Some of the parameters, the others frozen."""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import jax
import numpy as np

from .. import tree
from ..core import Params
from ..tree import STACK
from . import base
from .base import set_field, space

GROUPS = {  # names for the usual parts of a decoder, on the paths that Flax modules have
    "norms": ("*norm*", "*ln_*"),
    "attention": ("*attention.*", "*attention_[0-9]*.*", "*attn.*", "*attn_[0-9]*.*"),
    "mlp": ("*mlp.*", "*mlp_[0-9]*.*"),
    "embeddings": ("*embed*",),
    "head": ("*head.*",),
}
LAYER = re.compile(r"(?:^|\.)(?:\w*layers?|\w*blocks?|h)[._](\d+)(?=\.|$)", re.IGNORECASE)
LAST = re.compile(r"last-(\d+)")


Rows = tuple[int, ...] | None  # of a stacked leaf: which are chosen; None: the leaf as it is


@space(static=("patterns",))
class Select:
    """A candidate is the parameters whose paths match: {path: array}; the others are frozen.

    Layers that are stacked in one leaf, `layers.*.mlp.up.kernel`, are chosen by their number as if
    each had a leaf of its own, `layers.3.mlp.up.kernel`. Where some are chosen and others are not,
    the candidate holds those rows of the leaf: `layers.0,2-3.mlp.up.kernel`.

    Attributes:
        inner: a tree of parameters, or a space.
        patterns: one or more of a group ("norms", "attention", "mlp", "embeddings", "head"),
            "last-N" (the last N layers), or a shell pattern on the path, upper and lower case
            alike: "layers.*.attention.query.kernel". "a&b" takes what both match: "norms&last-1".

    Raises:
        ValueError: a pattern that matches nothing; the message lists the paths there are.
    """

    inner: Any
    patterns: Sequence[str] | str

    def __post_init__(self) -> None:
        """Find what matches."""
        patterns = [self.patterns] if isinstance(self.patterns, str) else list(self.patterns)
        leaves = tree.flat_paths(base.start(self.inner))
        places = {name: place for path in leaves for name, place in _places(path, leaves[path])}
        chosen: set[str] = set()
        for pattern in patterns:
            found = set.intersection(*(_matching(part, places) for part in pattern.split("&")))
            if not found:
                shown = ", ".join([*leaves][:12]) + (", ..." if len(leaves) > 12 else "")
                raise ValueError(
                    f"select: {pattern!r} matches no parameter; expected a group "
                    f"({', '.join(GROUPS)}), last-N, or a pattern on paths like: {shown}"
                )
            chosen |= found
        rows: dict[str, list[int | None]] = {path: [] for path in leaves}
        for name, (path, row) in places.items():
            if name in chosen:
                rows[path].append(row)
        # What is kept is the answer, not the question: decode must not search again.
        answer = [(path, _some(r, leaves[path])) for path, r in rows.items() if r]
        set_field(self, "patterns", tuple(answer))

    @property
    def chosen(self) -> tuple[tuple[str, Rows], ...]:
        """The paths that match, each with the rows that do where not all of them do."""
        return cast(tuple[tuple[str, Rows], ...], self.patterns)

    def start(self) -> Params:
        """The chosen parameters by path."""
        flat = tree.flat_paths(base.start(self.inner))
        return {
            _label(path, rows): flat[path] if rows is None else flat[path][_index(rows)]
            for path, rows in self.chosen
        }

    def decode(self, z: Params) -> Params:
        """The whole tree with the chosen parameters replaced."""
        whole = base.start(self.inner)
        flat = tree.flat_paths(whole)
        for path, rows in self.chosen:
            new = z[_label(path, rows)]
            flat[path] = new if rows is None else flat[path].at[_index(rows)].set(new)
        return base.decode(self.inner, jax.tree.unflatten(jax.tree.structure(whole), flat.values()))


def _places(path: str, leaf: Any) -> list[tuple[str, tuple[str, int | None]]]:
    """The names by which a leaf, or each row of a stacked one, may be chosen."""
    if STACK not in path:
        return [(path, (path, None))]
    return [(path.replace(STACK, f".{row}.", 1), (path, row)) for row in range(leaf.shape[0])]


def _matching(pattern: str, names: Iterable[str]) -> set[str]:
    if last := LAST.fullmatch(pattern):
        layer = {name: int(match[1]) for name in names if (match := LAYER.search(name))}
        first = max(layer.values(), default=0) + 1 - int(last[1])
        return {name for name, index in layer.items() if index >= first}
    globs = GROUPS.get(pattern, (pattern,))
    return {n for n in names for g in globs if fnmatch.fnmatchcase(n.lower(), g.lower())}


def _some(rows: list[Any], leaf: Any) -> Rows:
    return None if rows[0] is None or len(rows) == leaf.shape[0] else tuple(rows)


def _spans(rows: tuple[int, ...]) -> list[tuple[int, int]]:
    """Runs of rows as (first, last)."""
    starts = [r for r in rows if r - 1 not in rows]
    return list(zip(starts, [r for r in rows if r + 1 not in rows]))


def _label(path: str, rows: Rows) -> str:
    if rows is None:
        return path
    spans = (str(a) if a == b else f"{a}-{b}" for a, b in _spans(rows))
    return path.replace(STACK, f".{','.join(spans)}.", 1)


def _index(rows: tuple[int, ...]) -> Any:
    spans = _spans(rows)
    return slice(rows[0], rows[-1] + 1) if len(spans) == 1 else np.asarray(rows)
