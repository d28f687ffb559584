"""What a primitive does to a weight that is kept as its parts, by the name of the primitive."""

from collections.abc import Callable
from typing import Any

from . import products, shapes

# rule(parameters, *operands) -> result, or NotImplemented where it does not apply
RULES: dict[str, Callable[..., Any]] = {
    "dot_general": products.dot_general,
    "gather": products.gather,
    "conv_general_dilated": products.conv_general_dilated,
    "transpose": shapes.transpose,
    "convert_element_type": shapes.convert_element_type,
    "copy": shapes.same,
    "copy_p": shapes.same,
    "reshape": shapes.reshape,
    "squeeze": shapes.squeeze,
    "broadcast_in_dim": shapes.broadcast_in_dim,
    "slice": shapes.slice_,
    "dynamic_slice": shapes.dynamic_slice,
    "split": shapes.split,
    "concatenate": shapes.concatenate,
    "mul": shapes.mul,
    "div": shapes.div,
    "neg": shapes.neg,
    "add": shapes.add,
    "sub": shapes.sub,
}
