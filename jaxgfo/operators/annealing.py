"""Metropolis acceptance, cooling schedules and the starting temperature."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import draws
from ..core import Fitness, Key, Scalar


def uphill(current: Fitness, proposed: Fitness) -> Fitness:
    """The rise ΔE (pop,): 0 where the proposal is no worse, +inf where it failed; never NaN."""
    rise = jnp.where(proposed <= current, 0.0, proposed - current)
    return jnp.where(jnp.isposinf(proposed), jnp.inf, rise)


def metropolis(
    key: Key, current: Fitness, proposed: Fitness, temperature: Scalar
) -> Bool[Array, " pop"]:
    """Accept if ΔE < 0, else with probability exp(-ΔE / T); only improvements and ties at T = 0.

    Reference: Metropolis et al. (1953), doi:10.1063/1.1699114. A failed proposal (+inf) is always
    refused: a chain that stands on a failure tries again from there and does not wander off.
    """
    rise = uphill(current, proposed)
    tiny = jnp.finfo(rise.dtype).tiny
    chance = jnp.where(rise > 0, jnp.exp(-rise / jnp.maximum(temperature, tiny)), 1.0)
    return draws.uniform(key, chance.shape, chance.dtype) < chance


def level(step: Int[Array, ""], steps_per_temperature: Scalar) -> Float[Array, ""]:
    """Temperatures left behind, k: the first tell only measures where the chains stand."""
    compared = jnp.maximum(step - 1, 0).astype(jnp.result_type(float))
    return jnp.floor(compared / steps_per_temperature)


def geometric(start: Array, step: Array, rate: Scalar) -> Array:
    """T_k = T_0 rate^k (Kirkpatrick et al., 1983, doi:10.1126/science.220.4598.671)."""
    return start * rate**step


def linear(start: Array, step: Array, num_steps: Scalar) -> Array:
    """T_k = T_0 (1 - k / num_steps), 0 from num_steps on."""
    return start * jnp.maximum(0.0, 1.0 - step / num_steps)


def logarithmic(start: Array, step: Array) -> Array:
    """T_k = T_0 ln 2 / ln(k + 2) (Geman & Geman, 1984, doi:10.1109/TPAMI.1984.4767596)."""
    return start * jnp.log(2.0) / jnp.log(step + 2.0)


def calibrate(current: Fitness, proposed: Fitness, acceptance: Scalar) -> Float[Array, ""]:
    """The temperature at which the given rises are accepted at the mean rate `acceptance`; or 0.

    Solves mean exp(-ΔE / T) = acceptance over the members with a finite rise ΔE > 0, by bisection
    of ln T (Ben-Ameur, 2004, doi:10.1023/B:COAP.0000044187.23143.bd). 0 when no member rose: no
    temperature is needed yet.
    """
    rise = uphill(current, proposed)
    counted = (rise > 0) & jnp.isfinite(rise)
    count = jnp.maximum(jnp.sum(counted), 1).astype(rise.dtype)
    mean = jnp.sum(jnp.where(counted, rise, 0.0) / count)
    # Rises in units of their mean: one bracket serves every scale of fitness.
    unit = jnp.where(counted, rise / jnp.where(mean > 0, mean, 1.0), 0.0)

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        accepted = jnp.sum(jnp.where(counted, jnp.exp(-unit / jnp.exp(middle)), 0.0)) / count
        return jnp.where(accepted < acceptance, middle, low), jnp.where(
            accepted < acceptance, high, middle
        )

    edge = jnp.asarray(20.0, rise.dtype)
    low, high = jax.lax.fori_loop(0, 40, halve, (-edge, edge))
    return jnp.where(jnp.any(counted), mean * jnp.exp((low + high) / 2), 0.0)


def start_temperature(
    given: Scalar | None,
    known: Float[Array, ""],
    current: Fitness,
    proposed: Fitness,
    acceptance: Scalar,
) -> Float[Array, ""]:
    """T_0: as given, else as already known, else calibrated; 0 while nothing has risen."""
    if given is not None:
        return jnp.asarray(given, known.dtype)
    return jnp.where(known > 0, known, calibrate(current, proposed, acceptance))
