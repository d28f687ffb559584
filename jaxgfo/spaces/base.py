"""The protocol of a space."""

from typing import Any, Protocol, runtime_checkable

from ..core import Params
from ..tree import node as space

__all__ = ["Space", "decode", "set_field", "space", "start"]


@runtime_checkable
class Space(Protocol):
    """What a candidate means."""

    def start(self) -> Params:
        """The candidate that is the unchanged model."""
        ...

    def decode(self, z: Params) -> Params:
        """The parameters of the model that candidate `z` stands for."""
        ...


def start(inner: Any) -> Params:
    """The unchanged candidate of a space, or of a tree of parameters."""
    return inner.start() if isinstance(inner, Space) else inner


def decode(inner: Any, z: Params) -> Params:
    """Parameters from a candidate of a space, or of a tree of parameters."""
    return inner.decode(z) if isinstance(inner, Space) else z


def set_field(instance: Any, name: str, value: Any) -> None:
    """Prepare a field of a frozen space in its `__post_init__`."""
    object.__setattr__(instance, name, value)
