"""Hyperparameters that change as a search goes on: a factor for every generation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# `constant`; the name of a schedule in optax with its numbers after the first value, which is 1,
# like `cosine_decay_schedule:500:0.1`; or, in Python, a function of the generation's number.
Schedule = str | Callable[[Any], Any]


def factor(schedule: Schedule, step: Int[Array, ""]) -> Float[Array, ""]:
    """What a hyperparameter is multiplied by in a generation.

    Raises:
        ValueError: a schedule that optax does not know, or numbers that do not suit it.
    """
    if schedule == "constant":
        return jnp.ones(())
    rule: Any = _named(schedule) if isinstance(schedule, str) else schedule
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        return jnp.asarray(rule(step)).astype(jnp.result_type(float))


def _named(text: str) -> Any:
    import optax

    name, *words = text.split(":")
    make: Any = getattr(optax, name, None)
    example = "expected 'constant', or a schedule of optax and its numbers after the first value, "
    example += "which is 1, like 'cosine_decay_schedule:500:0.1'"
    if make is None:
        raise ValueError(f"schedule is {text!r}; {example}")
    try:
        rule = make(1.0, *(int(w) if w.isdecimal() else float(w) for w in words))
        rule(0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"schedule is {text!r}: {error}; {example}") from error
    return rule
