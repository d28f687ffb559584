"""Settings for real vectors in a box, from the box and the number of coordinates alone.

An algorithm's own defaults are for a model's parameters: small steps around a start that is good
already. In a box with no such start the first population fills the box. The settings come from the
papers named in each algorithm's docstring or, where it says so below, from `python -m benchmarks
quality --first 101`: instances of bbob that its published table does not use.
"""

import math
from typing import Any

import jax
import numpy as np

from .algorithms import REGISTRY
from .bounds import Bounds


def for_box(
    name: str, dim: int, bounds: Bounds, pop_size: int | None = None, **changes: Any
) -> Any:
    """An algorithm by its name in the registry, set up to search a box from anywhere in it.

    Args:
        name: `ga`, `de`, `shade`, `pso`, `dual`, `sa`, `gsa`, `cma`, `sepcma`, `snes` or `xnes`.
        dim: coordinates n.
        bounds: finite on both sides; a length below is a share of its narrowest width w.
        pop_size: members; None: a number that depends on n.
        changes: fields of the algorithm that take precedence.

    Settings, with w for the width:

    - `ga`: 32 members, parents from the best eighth, self-adapted mutation of half of the
      coordinates with c = 2 that begins at 0.1 w (tuned on bbob).
    - `de`: max(16, 4 n) members (Storn & Price, 1997, have 5 n to 10 n).
    - `shade`: max(8, 2 n) members (tuned on bbob; the paper has 100).
    - `pso`: 12 particles, von Neumann neighbourhoods, inertia 0.6, c1 = c2 = 1.7, guaranteed
      convergence that begins at 0.01 w (tuned on bbob).
    - `dual`: n + 1 members, as a gradient takes; first moves of 0.1 w.
    - `sa`, `gsa`: one chain, steps of 0.02 w.
    - `cma`: 4 + floor(3 ln n) members (Hansen, 2016), five generations of scouts in every run, then
      first steps of 0.1 w around the best (tuned on bbob).
    - `sepcma`, `snes`, `xnes`: as many members, first steps of 0.2 w around the start.

    Raises:
        ValueError: a name without such settings, or a box that is not finite.
    """
    width = _width(bounds)
    settings = _settings(name, dim, width)
    if settings is None:
        known = [n for n in REGISTRY if _settings(n, 2, 1.0) is not None]
        raise ValueError(
            f"for_box has no settings for {name!r}; choose one of {', '.join(known)}, or construct "
            "the algorithm yourself"
        )
    if pop_size is not None:
        settings["pop_size"] = pop_size
    return REGISTRY[name](**(settings | {"bounds": bounds} | changes))


def _width(bounds: Bounds) -> float:
    lower, upper = (
        [np.inf if x is None else np.asarray(x, float) for x in _leaves(side)]
        for side in (bounds.lower, bounds.upper)
    )
    if len(lower) != len(upper):  # one of them is a number for all leaves
        lower, upper = lower * len(upper), upper * len(lower)
    width = float(min(np.min(high - low) for low, high in zip(lower, upper)))
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"for_box needs finite bounds with lower < upper, got {bounds}")
    return width


def _leaves(side: Any) -> list[Any]:
    return jax.tree.leaves(side, is_leaf=lambda x: x is None)


def _settings(name: str, n: int, width: float) -> dict[str, Any] | None:
    log_size = 4 + math.floor(3 * math.log(n))
    if name == "ga":
        return {
            "pop_size": 32,
            "selection": "truncation",
            "truncation": 1 / 8,
            "mutation_rate": 0.5,
            "mutation_scale": 0.1 * width,
            "adaptation": 2.0,
            "init_scale": None,
        }
    if name == "de":
        return {"pop_size": max(16, 4 * n), "init_scale": None}
    if name == "shade":
        return {"pop_size": max(8, 2 * n), "init_scale": None}
    if name == "pso":
        return {
            "pop_size": 12,
            "topology": "von_neumann",
            "inertia": 0.6,
            "cognitive": 1.7,
            "social": 1.7,
            "guaranteed": True,
            "reach": 0.01 * width,
            "init_scale": None,
        }
    if name == "dual":
        return {"pop_size": n + 1, "radius": 0.1 * width, "init_scale": None}
    if name in ("sa", "gsa"):
        return {"pop_size": 1, "scale": 0.02 * width, "init_scale": None}
    if name == "cma":
        return {"pop_size": log_size, "init_scale": 0.1 * width, "scouts": 5}
    if name in ("sepcma", "snes", "xnes"):
        return {"pop_size": log_size, "init_scale": 0.2 * width}
    return None
