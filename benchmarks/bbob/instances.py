"""What makes an instance of a bbob function: its optimum, rotations and peaks (in NumPy).

Reference: Finck, Hansen, Ros & Auger (2009), Real-parameter black-box optimization benchmarking
2009: noiseless functions definitions, INRIA RR-6829. The numbers are those of COCO's generator:
Park and Miller's minimal standard (1988) with a shuffle of Bays and Durham (1976).
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

PEAKS = 101  # the most that a function has
RUGGED, TWO_FUNNELS = 20, 24


class Instance(NamedTuple):
    """An instance in d dimensions; what a function does not use is there all the same."""

    optimum: Float[np.ndarray, " d"]  # x_opt
    lowest: Float[np.ndarray, ""]  # f_opt
    first: Float[np.ndarray, "d d"]  # R
    second: Float[np.ndarray, "d d"]  # Q
    signs: Float[np.ndarray, " d"]  # -1 and 1
    peaks: Float[np.ndarray, "peaks d"]  # where they are, rotated
    curvatures: Float[np.ndarray, "peaks d"]
    heights: Float[np.ndarray, " peaks"]  # 0: no peak


@functools.cache
def instance(function: int, number: int, dim: int) -> Instance:
    """Instance `number` (from 1) of bbob's function 1 to 24 in `dim` dimensions (from 2)."""
    seed = {4: 3, 18: 17}.get(function, function) + 10_000 * number
    first, second = rotation(seed + 1_000_000, dim), rotation(seed, dim)
    if function in (6, 7, 13, 23, 24):
        first, second = second, first
    optimum = _optimum(seed, dim)
    signs = np.where(uniform(dim, seed) < 0.5, -1.0, 1.0)
    peaks = curvatures = np.zeros((PEAKS, dim))
    heights = np.zeros(PEAKS)
    if function == 4:
        optimum[::2] = np.abs(optimum[::2])
    elif function == 5:
        optimum = np.where(optimum < 0, -5.0, 5.0)
    elif function == 8:
        optimum *= 0.75
    elif function in (9, 19):
        first = second
        optimum = first.T @ np.full(dim, 0.5) / max(1.0, dim**0.5 / 8)  # where z = 1
    elif function == 12:
        optimum = _optimum(seed + 1_000_000, dim)
    elif function == RUGGED:
        optimum = signs * 4.2096874637 / 2
    elif function in (21, 22):
        first = second
        optimum, peaks, curvatures, heights = _peaks(function, seed, dim, first)
    elif function == TWO_FUNNELS:
        signs = np.where(normal(dim, seed) < 0, -1.0, 1.0)
        optimum = signs * 1.25
    return Instance(optimum, _lowest(seed), first, second, signs, peaks, curvatures, heights)


def _optimum(seed: int, dim: int) -> Float[np.ndarray, " d"]:
    """x_opt, on a grid of 8e-4 in [-4, 4]."""
    optimum = 8 * np.floor(1e4 * uniform(dim, seed)) / 1e4 - 4
    optimum[optimum == 0] = -1e-5
    return optimum


def uniform(count: int, seed: int) -> Float[np.ndarray, " count"]:
    """Numbers in (0, 1)."""
    state = max(1, abs(seed))
    shuffled = np.zeros(32, np.int64)
    for slot in range(39, -1, -1):
        state = 16807 * state % 2147483647
        if slot < 32:
            shuffled[slot] = state
    last, drawn = int(shuffled[0]), np.empty(count)
    for i in range(count):
        state = 16807 * state % 2147483647
        slot = last // 67108865
        last = int(shuffled[slot])
        shuffled[slot] = state
        drawn[i] = last / 2147483647
    return np.where(drawn == 0, 1e-99, drawn)


def normal(count: int, seed: int) -> Float[np.ndarray, " count"]:
    """Normal numbers, by Box and Muller."""
    u = uniform(2 * count, seed)
    drawn = np.sqrt(-2 * np.log(u[:count])) * np.cos(2 * np.pi * u[count:])
    return np.where(drawn == 0, 1e-99, drawn)


@functools.lru_cache(maxsize=8)
def rotation(seed: int, dim: int) -> Float[np.ndarray, "d d"]:
    """An orthogonal matrix, by Gram and Schmidt on the columns of a normal one."""
    matrix = normal(dim * dim, seed).reshape(dim, dim).T.copy()
    for i in range(dim):
        for j in range(i):
            matrix[:, i] -= (matrix[:, i] @ matrix[:, j]) * matrix[:, j]
        matrix[:, i] /= np.linalg.norm(matrix[:, i])
    return matrix


def _lowest(seed: int) -> Float[np.ndarray, ""]:
    ratio = normal(1, seed)[0] / normal(1, seed + 1)[0]
    # Halves are rounded up, as in COCO, and not to the even digit.
    return np.clip(np.floor(10_000 * ratio + 0.5) / 100, -1000, 1000)


def _peaks(function: int, seed: int, dim: int, turn: np.ndarray) -> tuple[np.ndarray, ...]:
    """Optimum, peaks, curvatures and heights of Gallagher's functions."""
    count, width = {21: (101, 10.0), 22: (21, 9.8)}[function]
    most = {21: 1000**0.5, 22: 1000.0}[function]
    order = np.argsort(uniform(count - 1, seed), kind="stable")
    conditions = np.concatenate([[most], 1000 ** (order / (count - 2))])
    curvatures, heights, peaks = np.zeros((PEAKS, dim)), np.zeros(PEAKS), np.zeros((PEAKS, dim))
    for i, condition in enumerate(conditions):
        order = np.argsort(uniform(dim, seed + 1000 * i), kind="stable")
        curvatures[i] = condition ** (order / (dim - 1) - 0.5)
    heights[0] = 10.0
    heights[1:count] = np.linspace(1.1, 9.1, count - 1)
    places = width * uniform(dim * count, seed).reshape(count, dim) - width / 2
    places[0] *= 0.8
    peaks[:count] = places @ turn.T
    return places[0], peaks, curvatures, heights
