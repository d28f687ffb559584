"""Runtime distributions: which targets a run has hit, after how many evaluations.

Reference: Hansen, Auger, Ros, Mersmann, Tušar & Brockhoff (2021), COCO: a platform for comparing
continuous optimizers in a black-box setting, doi:10.1080/10556788.2020.1808977.
"""

import numpy as np
from jaxtyping import Float

TARGETS = 10.0 ** np.linspace(2, -8, 51)  # of f - f_opt
POINTS = 31  # at which a curve is kept


def hits(regrets: Float[np.ndarray, " evaluations"]) -> Float[np.ndarray, " targets"]:
    """Evaluations until each target was hit; +inf: never."""
    best = np.minimum.accumulate(np.nan_to_num(np.asarray(regrets, float), nan=np.inf))
    first = np.searchsorted(-best, -TARGETS) + 1.0
    return np.where(first > best.size, np.inf, first)


def area(hits: Float[np.ndarray, "*runs targets"], dim: int, budget: int) -> np.ndarray:
    """Area under the curve of a run over the logarithm of evaluations from dim to budget, 0 to 1.

    It is the share of all pairs of a target and a (logarithmic) number of evaluations at which the
    target has been hit.
    """
    with np.errstate(divide="ignore"):
        spent = np.log(np.maximum(hits, dim) / dim) / np.log(budget / dim)
    return np.mean(np.clip(1 - spent, 0, 1), axis=-1)


def grid(dim: int, budget: int) -> Float[np.ndarray, " points"]:
    """Numbers of evaluations, evenly spaced in their logarithm."""
    return np.geomspace(dim, budget, POINTS)


def curve(hits: Float[np.ndarray, "*runs targets"], dim: int, budget: int) -> np.ndarray:
    """Share of targets (of all runs) hit at each point of the grid."""
    return np.mean(hits.reshape(-1, 1) <= grid(dim, budget), axis=0)
