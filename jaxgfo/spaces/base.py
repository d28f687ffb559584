"""The protocol of a space."""

import dataclasses
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax

from ..core import Params

Class = TypeVar("Class", bound=type)


@runtime_checkable
class Space(Protocol):
    """What a candidate means."""

    def start(self) -> Params:
        """The candidate that is the unchanged model."""
        ...

    def decode(self, z: Params) -> Params:
        """The parameters of the model that candidate `z` stands for."""
        ...


def space(*, static: tuple[str, ...] = ()) -> Any:
    """Make a class a frozen dataclass that is a pytree; fields named `static` are the compile key.

    Rebuilding one inside JAX passes by `__init__`: a space may check and prepare its arguments.
    """

    def decorate(cls: Class) -> Class:
        cls = dataclasses.dataclass(frozen=True, eq=False)(cls)  # type: ignore[assignment]
        names = [f.name for f in dataclasses.fields(cls) if f.name not in static]

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

    return decorate


def start(inner: Any) -> Params:
    """The unchanged candidate of a space, or of a tree of parameters."""
    return inner.start() if isinstance(inner, Space) else inner


def decode(inner: Any, z: Params) -> Params:
    """Parameters from a candidate of a space, or of a tree of parameters."""
    return inner.decode(z) if isinstance(inner, Space) else z


def set_field(instance: Any, name: str, value: Any) -> None:
    """Prepare a field of a frozen space in its `__post_init__`."""
    object.__setattr__(instance, name, value)
