"""The functions themselves, on batches of points."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .instances import Instance

Points = Float[Array, "*pop d"]
Values = Float[Array, "*pop"]

NAMES = (
    "sphere",
    "ellipsoid",
    "Rastrigin",
    "Büche-Rastrigin",
    "linear slope",
    "attractive sector",
    "step ellipsoid",
    "Rosenbrock",
    "Rosenbrock, turned",
    "ellipsoid, turned",
    "discus",
    "bent cigar",
    "sharp ridge",
    "different powers",
    "Rastrigin, turned",
    "Weierstrass",
    "Schaffer F7",
    "Schaffer F7, ill-conditioned",
    "Griewank-Rosenbrock",
    "Schwefel",
    "Gallagher, 101 peaks",
    "Gallagher, 21 peaks",
    "Katsuura",
    "Lunacek bi-Rastrigin",
)


def regret(function: int | Array, it: Instance, x: Points) -> Values:
    """f(x) - f_opt of bbob's function 1 to 24; a traced number runs that function alone."""
    x, it = jnp.asarray(x), jax.tree.map(jnp.asarray, it)
    if isinstance(function, int):
        return _FUNCTIONS[function - 1](it, x)
    return jax.lax.switch(function - 1, _FUNCTIONS, it, x)


def _line(x: Points) -> Float[np.ndarray, " d"]:
    return np.linspace(0, 1, x.shape[-1])


def _conditioned(alpha: float, x: Points) -> Points:
    """Λ^α x."""
    return jnp.asarray(alpha ** (_line(x) / 2)) * x


def _oscillated(x: Array) -> Array:
    """T_osz: 0 stays, and smooth becomes irregular."""
    size = jnp.where(x == 0, 1.0, jnp.abs(x))
    log = jnp.log(size)
    one, two = jnp.where(x > 0, 10.0, 5.5), jnp.where(x > 0, 7.9, 3.1)
    moved = jnp.exp(log + 0.049 * (jnp.sin(one * log) + jnp.sin(two * log)))
    return jnp.sign(x) * moved


def _asymmetric(beta: float, x: Points) -> Points:
    """T_asy: the positive side is stretched."""
    positive = jnp.where(x > 0, x, 1.0)
    return jnp.where(x > 0, positive ** (1 + beta * _line(x) * jnp.sqrt(positive)), x)


def _outside(x: Points) -> Values:
    """f_pen."""
    return jnp.sum(jnp.maximum(0, jnp.abs(x) - 5) ** 2, -1)


def _turned(it: Instance, x: Points) -> Points:
    return (x - it.optimum) @ it.first.T


def _ripples(z: Points) -> Values:
    return 10 * (z.shape[-1] - jnp.sum(jnp.cos(2 * jnp.pi * z), -1))


def _sphere(it, x):
    return jnp.sum((x - it.optimum) ** 2, -1)


def _ellipsoid(it, x):
    return jnp.sum(1e6 ** _line(x) * _oscillated(x - it.optimum) ** 2, -1)


def _rastrigin(it, x):
    z = _conditioned(10, _asymmetric(0.2, _oscillated(x - it.optimum)))
    return _ripples(z) + jnp.sum(z**2, -1)


def _bueche(it, x):
    z = _oscillated(x - it.optimum)
    odd = np.arange(x.shape[-1]) % 2 == 0  # counted from 1
    z = _conditioned(10, jnp.where(odd & (z > 0), 10 * z, z))
    return _ripples(z) + jnp.sum(z**2, -1) + 100 * _outside(x)


def _slope(it, x):
    slope = jnp.sign(it.optimum) * 10 ** _line(x)
    z = jnp.where(it.optimum * x < 25, x, it.optimum)
    return jnp.sum(5 * jnp.abs(slope) - slope * z, -1)


def _sector(it, x):
    z = _conditioned(10, _turned(it, x)) @ it.second.T
    z = jnp.where(z * it.optimum > 0, 100 * z, z)
    return _oscillated(jnp.sum(z**2, -1)) ** 0.9


def _steps(it, x):
    smooth = _conditioned(10, _turned(it, x))
    coarse = jnp.floor(0.5 + smooth)
    z = jnp.where(jnp.abs(smooth) > 0.5, coarse, jnp.floor(0.5 + 10 * smooth) / 10) @ it.second.T
    bowl = jnp.sum(100 ** _line(x) * z**2, -1)
    return 0.1 * jnp.maximum(jnp.abs(smooth[..., 0]) / 1e4, bowl) + _outside(x)


def _valley(z: Points) -> Points:
    return 100 * (z[..., :-1] ** 2 - z[..., 1:]) ** 2 + (z[..., :-1] - 1) ** 2


def _stretch(x: Points) -> float:
    return max(1.0, x.shape[-1] ** 0.5 / 8)


def _rosenbrock(it, x):
    return jnp.sum(_valley(_stretch(x) * (x - it.optimum) + 1), -1)


def _rosenbrock_turned(it, x):
    return jnp.sum(_valley(_stretch(x) * x @ it.first.T + 0.5), -1)


def _ellipsoid_turned(it, x):
    return jnp.sum(1e6 ** _line(x) * _oscillated(_turned(it, x)) ** 2, -1)


def _discus(it, x):
    z = _oscillated(_turned(it, x)) ** 2
    return 1e6 * z[..., 0] + jnp.sum(z[..., 1:], -1)


def _cigar(it, x):
    z = (_asymmetric(0.5, _turned(it, x)) @ it.first.T) ** 2
    return z[..., 0] + 1e6 * jnp.sum(z[..., 1:], -1)


def _ridge(it, x):
    z = (_conditioned(10, _turned(it, x)) @ it.second.T) ** 2
    return z[..., 0] + 100 * jnp.sqrt(jnp.sum(z[..., 1:], -1))


def _powers(it, x):
    return jnp.sqrt(jnp.sum(jnp.abs(_turned(it, x)) ** (2 + 4 * _line(x)), -1))


def _rastrigin_turned(it, x):
    z = _asymmetric(0.2, _oscillated(_turned(it, x))) @ it.second.T
    z = _conditioned(10, z) @ it.first.T
    return _ripples(z) + jnp.sum(z**2, -1)


def _weierstrass(it, x):
    z = _conditioned(0.01, _oscillated(_turned(it, x)) @ it.second.T) @ it.first.T
    waves = sum(0.5**k * jnp.cos(2 * jnp.pi * 3**k * (z + 0.5)) for k in range(12))
    least = sum(0.5**k * np.cos(np.pi * 3**k) for k in range(12))
    return 10 * (jnp.mean(waves, -1) - least) ** 3 + 10 / x.shape[-1] * _outside(x)


def _schaffer(alpha: float) -> Callable[[Instance, Points], Values]:
    def function(it, x):
        z = _conditioned(alpha, _asymmetric(0.5, _turned(it, x)) @ it.second.T)
        s = jnp.sqrt(z[..., :-1] ** 2 + z[..., 1:] ** 2)
        return jnp.mean(jnp.sqrt(s) * (1 + jnp.sin(50 * s**0.2) ** 2), -1) ** 2 + 10 * _outside(x)

    return function


def _griewank(it, x):
    s = _valley(_stretch(x) * x @ it.first.T + 0.5)
    return 10 * jnp.mean(s / 4000 - jnp.cos(s), -1) + 10


def _schwefel(it, x):
    twice = 2 * jnp.abs(it.optimum)
    z = 2 * it.signs * x
    z = z.at[..., 1:].add(0.25 * (z[..., :-1] - twice[:-1]))
    z = 100 * (_conditioned(10, z - twice) + twice)
    waves = jnp.mean(z * jnp.sin(jnp.sqrt(jnp.abs(z))), -1)
    return 0.01 * (418.9828872724339 - waves) + 100 * _outside(z / 100)


def _gallagher(it, x):
    away = (x @ it.first.T)[..., None, :] - it.peaks
    near = jnp.exp(-0.5 * jnp.mean(it.curvatures * away**2, -1))
    return _oscillated(10 - jnp.max(it.heights * near, -1)) ** 2 + _outside(x)


def _katsuura(it, x):
    dim = x.shape[-1]
    z = _conditioned(100, _turned(it, x)) @ it.second.T
    powers = 2.0 ** np.arange(1, 33)[:, None]
    far = powers * z[..., None, :]
    rough = jnp.sum(jnp.abs(far - jnp.floor(far + 0.5)) / powers, -2)
    product = jnp.prod((1 + np.arange(1.0, dim + 1) * rough) ** (10 / dim**1.2), -1)
    return 10 / dim**2 * (product - 1) + _outside(x)


def _lunacek(it, x):
    dim = x.shape[-1]
    s = 1 - 1 / (2 * (dim + 20) ** 0.5 - 8.2)
    mirrored = 2 * it.signs * x
    z = _conditioned(100, (mirrored - 2.5) @ it.first.T) @ it.second.T
    near = jnp.sum((mirrored - 2.5) ** 2, -1)
    far = dim + s * jnp.sum((mirrored + ((2.5**2 - 1) / s) ** 0.5) ** 2, -1)
    return jnp.minimum(near, far) + _ripples(z) + 1e4 * _outside(x)


_FUNCTIONS = (
    _sphere,
    _ellipsoid,
    _rastrigin,
    _bueche,
    _slope,
    _sector,
    _steps,
    _rosenbrock,
    _rosenbrock_turned,
    _ellipsoid_turned,
    _discus,
    _cigar,
    _ridge,
    _powers,
    _rastrigin_turned,
    _weierstrass,
    _schaffer(10),
    _schaffer(1000),
    _griewank,
    _schwefel,
    _gallagher,
    _gallagher,
    _katsuura,
    _lunacek,
)
