"""Where parameters lie on a mesh of devices."""

import re
from collections.abc import Callable
from typing import Any, cast

import jax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

AXIS = "model"  # of the mesh: the one that large weights are split over
# Path -> the axis of the array, counted from its end, that is split (Shoeybi et al., 2019,
# arXiv:1909.08053): outputs of what widens, inputs of what narrows, the vocabulary.
SPLIT = {
    r".*\.(query|key|value|gate|up)\.(kernel|bias)": 1,
    r".*\.(out|down)\.kernel": 2,
    r"embed\.embedding": 2,
    r"head\.kernel": 1,
}


Placement = Callable[[str, tuple[int, ...]], Sharding | None]  # path and shape of a parameter


def placement(sharding: Any) -> Placement:
    """A function (path, shape) -> sharding from what `load_model` takes.

    Raises:
        TypeError: none of a mesh, a sharding or a function.
        ValueError: a mesh without an axis "model".
    """
    if sharding is None or isinstance(sharding, Sharding):
        return lambda path, shape: sharding
    if isinstance(sharding, jax.sharding.Mesh):
        return over(sharding)
    if callable(sharding):
        return cast(Placement, sharding)
    raise TypeError(
        "sharding: expected a jax.sharding.Mesh, a jax.sharding.Sharding or a function (path, "
        f"shape) -> sharding, got {type(sharding).__name__}"
    )


def over(mesh: jax.sharding.Mesh) -> Placement:
    """Large weights split over the axis "model" of `mesh`, where they divide; the rest on all."""
    if AXIS not in mesh.shape:
        raise ValueError(f"the mesh has axes {tuple(mesh.shape)}; expected one called {AXIS!r}")

    def place(path: str, shape: tuple[int, ...]) -> Sharding:
        spec: list[str | None] = [None] * len(shape)
        for pattern, axis in SPLIT.items():
            if re.fullmatch(pattern, path) and shape[-axis] % mesh.shape[AXIS] == 0:
                spec[-axis] = AXIS
        return NamedSharding(mesh, PartitionSpec(*spec))

    return place
