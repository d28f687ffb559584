"""Any Flax module, Linen or NNX, as a pure function of its parameters."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..core import Params


class Function(NamedTuple):
    """A module without its parameters, and the parameters without the module."""

    params: Params  # nested dicts of arrays
    apply: Callable[..., Any]  # apply(params, *args, method="__call__", **kwargs)


def functional(module: Any, variables: Mapping[str, Any] | None = None) -> Function:
    """`module` as `apply(params, *args)` and its `params`.

    Args:
        module: a `flax.nnx.Module` that holds its arrays, or a `flax.linen.Module`.
        variables: for Linen, what `module.init` returned. Collections beside "params" (batch
            statistics, ...) are kept as they are and frozen, as are NNX variables that are not
            `nnx.Param`: what the module writes to them in a call is dropped.

    `apply` takes `method=` with a method's name, as Linen's does. Put dropout to sleep first: for
    NNX with `module.eval()`, for Linen with the module's own argument.

    Raises:
        ValueError: `variables` missing for Linen, or given for NNX, or without "params".
        TypeError: not a Flax module.
    """
    from flax import linen, nnx

    if isinstance(module, nnx.Module):
        if variables is not None:
            raise ValueError("an NNX module holds its own arrays: call functional(module) alone")
        return _nnx(module)
    if isinstance(module, linen.Module):
        if variables is None or "params" not in variables:
            raise ValueError(
                "a Linen module needs its variables: functional(module, module.init(key, inputs)), "
                'a mapping with "params"'
            )
        return _linen(module, variables)
    raise TypeError(f"expected a flax.nnx or flax.linen module, got {type(module).__name__}")


def _linen(module: Any, variables: Mapping[str, Any]) -> Function:
    frozen = {name: value for name, value in variables.items() if name != "params"}

    def apply(params: Params, *args: Any, **kwargs: Any) -> Any:
        # What may be written must be said; what was written comes back beside the output.
        mutable = {"mutable": list(frozen)} if frozen else {}
        output = module.apply({**frozen, "params": params}, *args, **mutable, **kwargs)
        return output[0] if frozen else output

    return Function(variables["params"], apply)


def _nnx(module: Any) -> Function:
    from flax import nnx

    graph, state, frozen = nnx.split(module, nnx.Param, ...)

    def apply(params: Params, *args: Any, method: str = "__call__", **kwargs: Any) -> Any:
        # Copies: under a transformation, variables from outside may not be written.
        merged = nnx.merge(graph, _filled(state, params), nnx.clone(frozen))
        return getattr(merged, method)(*args, **kwargs)

    return Function(nnx.to_pure_dict(state), apply)


def _filled(state: Any, params: Params) -> Any:
    from flax import nnx

    new = nnx.clone(state)
    nnx.replace_by_pure_dict(new, params)
    return new
