"""Problems of bits whose optimum is known: generators of instances, fitness, and the optimum.

Fitness is minimised and a whole number, so that reaching the optimum is exact. It is written once,
for JAX and NumPy alike: `xp` is `jax.numpy` or `numpy`, and x (..., size) are zeros and ones.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

Bits = Shaped[Any, "*rows size"]
BLOCK = 5  # bits of a trap
LEVELS = 1024  # of a contribution to an NK landscape
WIDTH = 4  # of the grid of a cut


class Instance(NamedTuple):
    """A problem's numbers, and the lowest fitness there is."""

    data: dict[str, np.ndarray]
    optimum: int


class Problem(NamedTuple):
    """A class of problems."""

    make: Callable[[np.random.Generator, int], Instance]
    fitness: Callable[[Any, dict[str, Any], Bits], Any]  # (xp, data, x) -> (...)


def instance(name: str, size: int, number: int) -> Instance:
    """The same for the same arguments, on every machine."""
    seed = [number, size, *name.encode()]
    return PROBLEMS[name].make(np.random.default_rng(seed), size)


def _hidden(rng: np.random.Generator, size: int) -> Instance:
    """The best candidate is a random string, not all ones."""
    return Instance({"best": rng.integers(0, 2, size, np.int32)}, 0)


def _right(data: dict[str, Any], x: Bits) -> Any:
    return 1 - (x ^ data["best"])


def _onemax(xp: Any, data: dict[str, Any], x: Bits) -> Any:
    """Bits that are wrong."""
    return xp.sum(1 - _right(data, x), axis=-1)


def _leading_ones(xp: Any, data: dict[str, Any], x: Bits) -> Any:
    """Bits from the first wrong one on."""
    return x.shape[-1] - xp.sum(xp.cumprod(_right(data, x), axis=-1), axis=-1)


def _trap(xp: Any, data: dict[str, Any], x: Bits) -> Any:
    """Deceptive blocks of five (Deb & Goldberg, 1993): 0 if all are right, else 1 + how many."""
    right = _right(data, x)
    ones = xp.sum(right.reshape(*right.shape[:-1], -1, BLOCK), axis=-1)
    return xp.sum(xp.where(ones == BLOCK, 0, 1 + ones), axis=-1)


def _make_trap(rng: np.random.Generator, size: int) -> Instance:
    if size % BLOCK:
        raise ValueError(f"a trap has {size} bits; expected a multiple of {BLOCK}")
    return _hidden(rng, size)


def _nk(xp: Any, data: dict[str, Any], x: Bits) -> Any:
    """NK landscape (Kauffman & Weinberger, 1989): bit i contributes by itself and the next k."""
    size, states = data["table"].shape
    window = sum(xp.roll(x, -j, axis=-1) << j for j in range(states.bit_length() - 1))
    return xp.sum(data["table"][np.arange(size), window], axis=-1)


def _make_nk(rng: np.random.Generator, size: int, k: int = 4) -> Instance:
    table = rng.integers(0, LEVELS, (size, 2 ** (k + 1)), np.int32)
    return Instance({"table": table}, _lowest_nk(table, k))


def _lowest_nk(table: Int[np.ndarray, "size states"], k: int) -> int:
    """Dynamic programming along the ring, for each value of the first k bits."""
    size, lowest = table.shape[0], None
    for first in range(2**k):
        best = np.full(
            2**k, np.iinfo(np.int64).max // 2
        )  # by bits i ... i + k - 1, i at the bottom
        best[first] = 0
        for i in range(size):
            bits = [0, 1] if i + k < size else [first >> (i + k - size) & 1]
            following = np.full_like(best, np.iinfo(np.int64).max // 2)
            for state, bit in itertools.product(range(2**k), bits):
                window = state | bit << k
                after = window >> 1
                following[after] = min(following[after], best[state] + table[i, window])
            best = following
        found = int(best[first])
        lowest = found if lowest is None else min(lowest, found)
    assert lowest is not None
    return lowest


def _knapsack(xp: Any, data: dict[str, Any], x: Bits) -> Any:
    """Minus the value; where it is too heavy, plus a penalty that grows with the overrun.

    Each unit too many costs more than any item's value per weight, and the first one the largest
    value besides: by the bound of Dantzig (1957) no overfull knapsack beats the best that closes.
    """
    value, over = xp.sum(x * data["value"], axis=-1), xp.sum(x * data["weight"], axis=-1)
    over = over - data["capacity"]
    penalty = data["rate"] * over + data["largest"]
    return xp.where(over > 0, penalty, 0) - value


def _make_knapsack(rng: np.random.Generator, size: int) -> Instance:
    """Values weakly correlated with weights (Martello & Toth, 1990); half of the weight fits."""
    weight = rng.integers(10, 101, size).astype(np.int32)
    value = np.maximum(1, weight + rng.integers(-10, 11, size)).astype(np.int32)
    capacity = int(weight.sum() // 2)
    best = np.zeros(capacity + 1, np.int64)
    for w, v in zip(weight, value):
        best[w:] = np.maximum(best[w:], best[:-w] + v)
    data = {
        "value": value,
        "weight": weight,
        "capacity": np.int32(capacity),
        "rate": np.int32(np.ceil(np.max(value / weight))),
        "largest": np.int32(value.max()),
    }
    return Instance(data, -int(best[-1]))


def _cut(xp: Any, data: dict[str, Any], x: Bits) -> Any:
    """Minus the weight of the edges between zeros and ones."""
    apart = x[..., data["edges"][:, 0]] ^ x[..., data["edges"][:, 1]]
    return -xp.sum(data["weight"] * apart, axis=-1)


def _make_grid(rng: np.random.Generator, size: int) -> Instance:
    """A grid four nodes wide with weights of -1 and 1: the ground state of a spin glass."""
    if size % WIDTH:
        raise ValueError(f"a grid has {size} nodes; expected a multiple of {WIDTH}")
    node = np.arange(size).reshape(-1, WIDTH)
    down = np.stack([node[:, :-1].ravel(), node[:, 1:].ravel()], axis=1)
    along = np.stack([node[:-1].ravel(), node[1:].ravel()], axis=1)
    edges = np.concatenate([down, along]).astype(np.int32)
    weight = rng.choice(np.array([-1, 1], np.int32), len(edges))
    inside = weight[: len(down)].reshape(-1, WIDTH - 1)
    between = weight[len(down) :].reshape(-1, WIDTH)
    return Instance({"edges": edges, "weight": weight}, -_largest_cut(inside, between))


def _largest_cut(inside: np.ndarray, between: np.ndarray) -> int:
    """Dynamic programming from column to column: over the 2^WIDTH states of each."""
    states = np.array(list(itertools.product([0, 1], repeat=WIDTH)))
    best = np.zeros(len(states), np.int64)
    for column in range(len(inside)):
        if column:
            apart = states[:, None] ^ states[None]
            best = np.max(best[:, None] + apart @ between[column - 1], axis=0)
        best = best + (states[:, :-1] ^ states[:, 1:]) @ inside[column]
    return int(best.max())


def _make_graph(rng: np.random.Generator, size: int) -> Instance:
    """Half of all pairs of nodes joined, weights of 1 to 10; the optimum by trying all cuts."""
    if size > 24:
        raise ValueError(f"a graph has {size} nodes; expected at most 24, to try all cuts")
    pairs = np.array(list(itertools.combinations(range(size), 2)), np.int32)
    edges = pairs[np.sort(rng.permutation(len(pairs))[: len(pairs) // 2])]
    weight = rng.integers(1, 11, len(edges)).astype(np.int32)
    best, chunk = 0, 2**14
    for begin in range(0, 2 ** (size - 1), chunk):  # the last node on one side
        number = np.arange(begin, min(begin + chunk, 2 ** (size - 1)))
        cuts = np.zeros(len(number), np.int64)
        for (u, v), w in zip(edges, weight):
            cuts += w * ((number >> u ^ number >> v) & 1)
        best = max(best, int(cuts.max()))
    return Instance({"edges": edges, "weight": weight}, -best)


PROBLEMS = {
    "onemax": Problem(_hidden, _onemax),
    "leading ones": Problem(_hidden, _leading_ones),
    "trap": Problem(_make_trap, _trap),
    "nk": Problem(_make_nk, _nk),
    "knapsack": Problem(_make_knapsack, _knapsack),
    "cut, graph": Problem(_make_graph, _cut),
    "cut, grid": Problem(_make_grid, _cut),
}
