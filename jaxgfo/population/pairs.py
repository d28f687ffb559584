"""Which noise a member has, and with which sign: center + sign * scale * noise.

Antithetic members 2k and 2k + 1 share noise k with opposite signs; otherwise member k has noise k
of its own. Member 0 has the sign `lead`: with 0, the default, it is the center itself.
"""

import re
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import tree
from ..core import Scalar
from ..noise import Noise

SIGNS = Noise("signs")  # the default of the populations that are a center and a key
ROWS = re.compile(r"\.\d+[,-][\d,-]*\.")  # in a path: some of the rows of a stacked leaf


def place(
    population: Any, index: Int[Array, "*members"]
) -> tuple[Int[Array, "*members"], Float[Array, "*members"]]:
    """The numbers of members' noise, and its signs."""
    noise = index // 2 if population.antithetic else index
    return noise, signs(index, population.lead, population.antithetic)


def signs(
    index: Int[Array, "*members"], lead: Scalar = 0.0, antithetic: bool = True
) -> Float[Array, "*members"]:
    """The sign of members' noise: `lead` for member 0, then -1, +1, -1, ... or always +1."""
    # Bits, not remainders: it is computed again wherever it is read.
    rest = 1 - 2 * (index & 1) if antithetic else jnp.ones_like(index)
    dtype = jnp.result_type(float)
    return jnp.where(index == 0, jnp.asarray(lead, dtype), rest.astype(dtype))


def members(pairs: Int[Array, " pairs"]) -> Int[Array, " members"]:
    """The numbers of members, two by two."""
    return (2 * pairs[:, None] + jnp.arange(2)).reshape(-1)


def factors(population: Any, weights: Float[Array, " pop"]) -> Float[Array, " noises"]:
    """The factor of every noise in a weighted sum over members."""
    _, sign = place(population, jnp.arange(weights.shape[0]))
    signed = weights * sign.astype(weights.dtype)
    if not population.antithetic:
        return signed
    return jnp.sum(jnp.pad(signed, (0, weights.shape[0] % 2)).reshape(-1, 2), axis=1)


def stacked(path: str) -> bool:
    """Whether the first axis of a leaf counts layers, or other things that stand alone."""
    return tree.STACK in path or ROWS.search(path) is not None
