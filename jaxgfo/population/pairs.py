"""Antithetic pairs: members 2k and 2k + 1 are center ± scale * noise_k; member 0 is the center."""

import re

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import tree
from ..noise import Noise

SIGNS = Noise("signs")  # the default of the populations that are pairs
ROWS = re.compile(r"\.\d+[,-][\d,-]*\.")  # in a path: some of the rows of a stacked leaf


def signs(index: Int[Array, "*members"]) -> Float[Array, "*members"]:
    """The sign of members' noise: 0 for member 0, then -1, +1, -1, ..."""
    # Bits, not remainders: it is computed again wherever it is read.
    sign = jnp.where(index == 0, 0, 1 - 2 * (index & 1))
    return sign.astype(jnp.result_type(float))


def members(pairs: Int[Array, " pairs"]) -> Int[Array, " members"]:
    """The numbers of the members of some pairs."""
    return (2 * pairs[:, None] + jnp.arange(2)).reshape(-1)


def factors(weights: Float[Array, " pop"]) -> Float[Array, " pairs"]:
    """The factor of every pair's noise in a weighted sum over members."""
    signed = weights * signs(jnp.arange(weights.shape[0]))
    return jnp.sum(jnp.pad(signed, (0, weights.shape[0] % 2)).reshape(-1, 2), axis=1)


def stacked(path: str) -> bool:
    """Whether the first axis of a leaf counts layers, or other things that stand alone."""
    return tree.STACK in path or ROWS.search(path) is not None
