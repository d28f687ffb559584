"""Any JAX function, evaluated on weights that are kept as their parts."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.extend.core import Literal as Constant

from .factored import SMALL, Factored
from .lazy import Drawn, Stored
from .rules import RULES

Fallback = Literal["materialise", "refuse"]
INLINED = {"jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint"} | {
    "custom_jvp_call",  # what they say of derivatives is of no use here
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
}


def apply(function: Callable[..., Any], *args: Any, fallback: Fallback = "materialise") -> Any:
    """function(*args), where leaves of the arguments may be `Factored`, `Drawn` or `Stored`.

    The function is not touched: its program is captured on plain arrays, and a product, lookup,
    transposition, ... of a weight becomes the same of its parts. Layers under `scan` stay there.

    Args:
        function: any function of arrays that JAX can trace.
        args: pytrees.
        fallback: what happens to a `Factored` weight that is used in a way that has no rule:
            `materialise` it there, with a warning that names it, or `refuse`.

    Raises:
        NotImplementedError: such a use, under `refuse`.
    """
    leaves, treedef = jax.tree.flatten(args, is_leaf=_is_lazy)
    shapes = [_shape(leaf) for leaf in leaves]
    flat = lambda *leaves: function(*treedef.unflatten(leaves))  # noqa: E731
    program, out = jax.make_jaxpr(flat, return_shape=True)(*shapes)
    results = _Interpreter(fallback).run(program, leaves)
    return jax.tree.unflatten(jax.tree.structure(out), map(materialise, results))


def materialise(x: Any) -> Any:
    """A weight as one array; anything else unchanged."""
    return x.materialise() if _is_lazy(x) else x


def _is_lazy(x: Any) -> bool:
    return isinstance(x, Factored | Drawn | Stored)


def _shape(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if _is_lazy(x) else x


class _Interpreter:
    def __init__(self, fallback: Fallback):
        self.fallback = fallback

    def run(self, program: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
        return self.evaluate(program.jaxpr, program.consts, args)

    def evaluate(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args]))

        def read(atom):
            return atom.val if isinstance(atom, Constant) else values[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            with equation.ctx.manager:
                outputs = self.step(equation, inputs)
            values.update(zip(equation.outvars, outputs))
        return [read(atom) for atom in jaxpr.outvars]

    def step(self, equation: Any, inputs: list[Any]) -> Sequence[Any]:
        primitive, params = equation.primitive, equation.params
        if any(map(_is_lazy, inputs)):
            name = primitive.name
            if name in INLINED:
                inner = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
                closed = isinstance(inner, ClosedJaxpr)
                return self.run(inner, inputs) if closed else self.evaluate(inner, (), inputs)
            if control := getattr(self, f"_{name}", None):
                return control(params, inputs)
            inputs = [x.materialise() if isinstance(x, Drawn | Stored) else x for x in inputs]
            if any(map(_is_lazy, inputs)):
                result = RULES[name](params, *inputs) if name in RULES else NotImplemented
                if result is not NotImplemented:
                    return result if primitive.multiple_results else [result]
            inputs = [self.given_up(x, name) for x in inputs]
        output = primitive.bind(*inputs, **primitive.get_bind_params(params))
        return output if primitive.multiple_results else [output]

    def given_up(self, x: Any, use: str) -> Any:
        if not isinstance(x, Factored):
            return x
        vector = sum(n > 1 for n in x.shape) < 2  # as small as its factors
        if not vector and (x.base.size > SMALL or self.fallback == "refuse"):
            said = (
                f"{x.name} {x.dtype}{list(x.shape)} is used in {use!r}, which has no low-rank rule"
            )
            if self.fallback == "refuse":
                raise NotImplementedError(
                    f"{said}; fallback='materialise' computes it for every member instead"
                )
            warnings.warn(
                f"{said}: it is materialised there, for every member", UserWarning, stacklevel=2
            )
        return x.materialise()

    def _scan(self, params: Any, inputs: list[Any]) -> Sequence[Any]:
        consts, carry, xs = _split(inputs, _scan_sizes(params, len(inputs)))
        carry = [materialise(x) for x in carry]
        walks = [x.walk() if _is_lazy(x) else None for x in xs]
        xs = [w[0] if w else materialise(x) for w, x in zip(walks, xs)]

        def body(carry, sliced):
            sliced = [w[1](x) if w else x for w, x in zip(walks, sliced)]
            outputs = map(materialise, self.run(params["jaxpr"], [*consts, *carry, *sliced]))
            new, seen = _split(list(outputs), [len(carry)])
            return new, seen

        options = {name: params[name] for name in ("length", "reverse", "unroll")}
        carry, ys = jax.lax.scan(body, carry, xs, **options)
        return [*carry, *ys]

    def _while(self, params: Any, inputs: list[Any]) -> Sequence[Any]:
        sizes = [params["cond_nconsts"], params["body_nconsts"]]
        cond, body, carry = _split(inputs, sizes)

        def go_on(carry):
            return materialise(self.run(params["cond_jaxpr"], [*cond, *carry])[0])

        def step(carry):
            return [materialise(x) for x in self.run(params["body_jaxpr"], [*body, *carry])]

        return jax.lax.while_loop(go_on, step, [materialise(x) for x in carry])

    def _cond(self, params: Any, inputs: list[Any]) -> Sequence[Any]:
        index, *operands = inputs

        def branch(program):
            return lambda: [materialise(x) for x in self.run(program, operands)]

        return jax.lax.switch(index, [branch(p) for p in params["branches"]])


def _scan_sizes(params: Any, total: int) -> list[int]:
    """How many of the operands are constants, and how many are carried."""
    if "num_consts" in params:
        return [params["num_consts"], params["num_carry"]]
    return [len(group) for group in params["ft_in"].unpack()][:2]  # since JAX 0.11


def _split(values: list[Any], sizes: Sequence[int]) -> list[list[Any]]:
    groups, start = [], 0
    for size in sizes:
        groups.append(values[start : start + size])
        start += size
    return [*groups, values[start:]]
