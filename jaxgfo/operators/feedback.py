"""Integers that follow moves smaller than one: what is not moved yet is kept (error feedback).

Reference: Seide et al. (2014), "1-bit stochastic gradient descent and its application to
data-parallel distributed training of speech DNNs", doi:10.21437/Interspeech.2014-274.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import Params, Scalar
from ..noise import LARGEST

# Residuals are counted in these parts of a step, in int16: the same resolution at 0.9 as at 0.1,
# which neither bf16 nor fp16 has, and the bytes of either.
PARTS = 2**15
MOST = PARTS - 1


def nothing_left(center: Params) -> Params:
    """Residuals at the beginning: int16 zeros of the center's shapes."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.int16), center)


def whole_steps(
    center: Params, residual: Params, moves: Params, threshold: Scalar
) -> tuple[Params, Params]:
    """The whole steps (int8) to take of residual + moves, and what is left (int16).

    Nothing is taken as long as the sum is below the threshold in size; else as many steps as leave
    less than the threshold, at most 127. A center stops at -127 and 127, and what it is pushed
    beyond them is not kept, for it would have to be paid back.

    Args:
        center: leaves int8.
        residual: of `nothing_left` or of the call before.
        moves: real, in steps; what is smaller than 1 / 65536 is lost.
        threshold: from 0.5 (to the nearest integer) to 1 (towards zero).
    """

    def leaf(x, left, move):
        limit = jnp.asarray(threshold, jnp.float32)
        total = left.astype(jnp.float32) / PARTS + move.astype(jnp.float32)
        whole = jnp.sign(total) * jnp.maximum(jnp.floor(jnp.abs(total) - limit + 1), 0)
        low, high = _room(x)
        whole = jnp.clip(jnp.clip(whole, -LARGEST, LARGEST), low, high)
        left = jnp.round(jnp.clip(total - whole, -limit, limit) * PARTS)
        left = jnp.clip(left, -MOST, MOST)
        return whole.astype(jnp.int8), left.astype(jnp.int16)

    leaves, treedef = jax.tree.flatten(center)
    others = map(treedef.flatten_up_to, (residual, moves))
    taken = [leaf(*parts) for parts in zip(leaves, *others)]
    steps, rest = zip(*taken)
    return treedef.unflatten(steps), treedef.unflatten(rest)


def _room(x: Array) -> tuple[Array, Array]:
    """Steps down and up; a -128, which has no opposite, may stay."""
    wide = x.astype(jnp.float32)
    return jnp.minimum(-LARGEST - wide, 0), LARGEST - wide
