"""Which noise a member has, and with which sign: center + sign * scale * noise.

Antithetic members 2k and 2k + 1 share noise k with opposite signs; otherwise member k has noise k
of its own. Member 0 has the sign `lead`: with 0, the default, it is the center itself.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import tree
from ..core import Params, Scalar
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


def indices(pairs: Int[Array, " pairs"]) -> Int[Array, " members"]:
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


def summed(
    terms: Callable[[Array, Array], list[Array]],
    which: Int[Array, " noises"],
    factors: Float[Array, " noises"],
    group: int,
    center: Params,
) -> Params:
    """The sum of `terms` of all noises and their factors, in fp32, a group of them at a time.

    Args:
        terms: the sum over a group, for each leaf, of its noises (group,) and factors (group,).
        which: the noises.
        factors: of each.
        group: how many at most; at least one.
        center: of the shapes of the sum.
    """
    count, leaves = which.shape[0], jax.tree.leaves(center)
    group = max(1, min(count, group))
    rest = (0, -count % group)
    which, factors = (jnp.pad(x, rest).reshape(-1, group) for x in (which, factors))
    if which.shape[0] == 1:
        total = terms(which[0], factors[0])
    else:
        total, _ = jax.lax.scan(
            lambda t, item: ([a + b for a, b in zip(t, terms(*item))], None),
            [jnp.zeros(x.shape, jnp.float32) for x in leaves],
            (which, factors),
        )
    return jax.tree.unflatten(jax.tree.structure(center), total)
