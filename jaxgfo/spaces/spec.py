"""A space from a few words, for the command line."""

from typing import Any

from ..core import Key, Params
from .base import Space
from .flat import Flat
from .full import Full
from .select import GROUPS, Select
from .subspace import Subspace

SPECS = (
    "full, select:PATTERN[,PATTERN...], flat[:PATTERN,...] or subspace:DIM[:PATTERN,...], where "
    f"PATTERN is {', '.join(GROUPS)}, last-N, or a shell pattern on parameter paths"
)


def parse(spec: str, params: Params, key: Key) -> Space:
    """The space that `spec` names, on `params`.

    `full`, `select:norms`, `select:norms&last-1,head`, `flat`, `flat:norms`, `subspace:64`,
    `subspace:64:attention`.

    Raises:
        ValueError: a spec that is none of these; the message says what there is.
    """
    name, *words = spec.split(":")
    if name == "full" and not words:
        return Full(params)
    if name == "select" and len(words) == 1:
        return Select(params, words[0].split(","))
    if name == "flat" and len(words) <= 1:
        return Flat(_part(params, words))
    if name == "subspace" and 1 <= len(words) <= 2 and words[0].isdecimal():
        return Subspace(_part(params, words[1:]), int(words[0]), key)
    raise ValueError(f"space {spec!r} is not known; expected {SPECS}")


def _part(params: Params, words: list[str]) -> Any:
    return Select(params, words[0].split(",")) if words else params
