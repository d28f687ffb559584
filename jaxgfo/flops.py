"""Floating-point operations of a function, counted from its shapes."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def flops(function: Callable[..., Any], *args: Any) -> int:
    """Operations in the matrix products and convolutions of function(*args), and in no others.

    A product of matrices (M, K) and (K, N) counts 2 M N K: a multiplication and an addition for
    each of its terms. A `scan` counts as often as it runs, a `while` loop once, `cond` and `switch`
    by their largest branch. cuDNN's attention counts as its two products in full, though it leaves
    out what a mask hides. Under `shard_map` the count is of one device, in a Pallas kernel of one
    program of its grid.

    Args:
        function: any that JAX traces; nothing is computed.
        args: trees of arrays, or of `jax.ShapeDtypeStruct`.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    return sum(map(_equation, jaxpr.eqns))


def _equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    shapes = [x.aval.shape for x in equation.invars]
    if name == "dot_general":
        (summed, _), _ = params["dimension_numbers"]
        return 2 * _size(equation) * math.prod(shapes[0][axis] for axis in summed)
    if name == "conv_general_dilated":
        features = shapes[1][params["dimension_numbers"].rhs_spec[0]]
        return 2 * _size(equation) * (math.prod(shapes[1]) // features)
    if name == "dot_product_attention_fwd_wrapper":
        axis = 1 if params["layout"] == 0 else 2  # (B, S, N, H) or (B, N, S, H)
        return 2 * shapes[1][axis] * (math.prod(shapes[0]) + _size(equation))
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in params["branches"])
    times = params["length"] if name == "scan" else 1
    return times * sum(_count(inner) for value in params.values() for inner in _within(value))


def _within(value: Any) -> list[Jaxpr]:
    """The programs in a parameter of an equation, for whatever it does with them."""
    if isinstance(value, tuple | list):
        return [inner for part in value for inner in _within(part)]
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    return [value] if isinstance(value, Jaxpr) else []


def _size(equation: Any) -> int:
    return math.prod(equation.outvars[0].aval.shape)
