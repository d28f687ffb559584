"""Some of the parameters, the others frozen."""

import fnmatch
import re
from collections.abc import Sequence
from typing import Any

import jax

from .. import tree
from ..core import Params
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


@space(static=("patterns",))
class Select:
    """A candidate is the parameters whose paths match: {path: array}; the others are frozen.

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
        paths = list(tree.flat_paths(base.start(self.inner)))
        chosen: set[str] = set()
        for pattern in patterns:
            found = set.intersection(*(_matching(part, paths) for part in pattern.split("&")))
            if not found:
                shown = ", ".join(paths[:12]) + (", ..." if len(paths) > 12 else "")
                raise ValueError(
                    f"select: {pattern!r} matches no parameter; expected a group "
                    f"({', '.join(GROUPS)}), last-N, or a pattern on paths like: {shown}"
                )
            chosen |= found
        # What is kept is the answer, not the question: decode must not search again.
        set_field(self, "patterns", tuple(path for path in paths if path in chosen))

    def start(self) -> Params:
        """The chosen parameters by path."""
        flat = tree.flat_paths(base.start(self.inner))
        return {path: flat[path] for path in self.patterns}

    def decode(self, z: Params) -> Params:
        """The whole tree with the chosen parameters replaced."""
        whole = base.start(self.inner)
        flat = {**tree.flat_paths(whole), **z}
        return base.decode(self.inner, jax.tree.unflatten(jax.tree.structure(whole), flat.values()))


def _matching(pattern: str, paths: list[str]) -> set[str]:
    if last := LAST.fullmatch(pattern):
        layer = {path: int(match[1]) for path in paths if (match := LAYER.search(path))}
        first = max(layer.values(), default=0) + 1 - int(last[1])
        return {path for path, index in layer.items() if index >= first}
    globs = GROUPS.get(pattern, (pattern,))
    return {p for p in paths for g in globs if fnmatch.fnmatchcase(p.lower(), g.lower())}
