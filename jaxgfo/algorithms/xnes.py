"""Exponential natural evolution strategy (Wierstra et al., 2014, JMLR 15, 949-980)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import lu_factor, lu_solve
from jaxtyping import Array, Float, Int

from .. import bounds as box
from .. import draws, shaping, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import distribution
from ..tree import Dtypes

MOST_COORDINATES = 2_000  # the matrix is 16 MB, and a generation some 10^11 operations
RENEWED = 32  # generations after which B^-1 and det B are computed anew
LARGEST_STEP = 3.0  # norm of the exponent: what noise asks for is far below
MOST_TERMS = 48  # of a series in such exponents, more than any dtype can tell


class XNESState(NamedTuple):
    """State of `XNES`."""

    mean: Params  # (...) of the distribution, in wide precision
    sigma: Float[Array, ""]  # step size
    shape: Float[Array, "n n"]  # B, of determinant 1
    inverse: Float[Array, "n n"]  # of B
    noise: Float[Array, "pop n"]  # s of the members last asked
    dtypes: Dtypes  # dtypes of the candidate
    step: Int[Array, ""]  # generations told


class XNESInfo(NamedTuple):
    """What a generation of `XNES` shows."""

    sigma: Float[Array, ""]  # geometric mean of the standard deviations along the axes
    condition: Float[Array, ""]  # norm of B times norm of its inverse, over n: 1 for a sphere
    learnt: Float[Array, ""]  # 1, or 0 where no member was better than another


@algorithm
class XNES:
    """Exponential natural evolution strategy: a normal distribution with a full covariance.

    x = mean + sigma B s with s ~ N(0, I) and det B = 1. With utilities u of the ranks and
    G = sum u (s s^T - I): mean <- mean + eta_mu sigma B sum u s, sigma <- sigma exp(eta_sigma / 2
    tr(G) / n), B <- B exp(eta_B / 2 (G - tr(G) / n I)), with the exponential of a matrix. Memory is
    quadratic in the n coordinates, and so is time where members are few beside them: G has the rank
    of their number, and its exponential is that of a matrix of their size. Else time is cubic.

    In one generation sigma changes by a factor of e at most, and the exponent's norm is at most 3;
    B is kept where its condition would become so large that its inverse is lost in rounding.

    Attributes:
        mean_rate: eta_mu.
        sigma_rate: eta_sigma; None: 3 (3 + ln n) / (5 n sqrt(n)) for n coordinates.
        shape_rate: eta_B; None: the same.
        init_scale: first standard deviation of every coordinate.
        bounds: the box searched; None: unbounded. The mean follows members to where it moved them;
            sigma and B learn what was drawn.
        pop_size: members, at least 2; the paper's choice is 4 + floor(3 ln n).

    Reference: Wierstra et al. (2014), "Natural evolution strategies", JMLR 15, 949-980, algorithm
    5; the defaults are those of its table 1.
    """

    mean_rate: Scalar = within(1.0, 0)
    sigma_rate: Scalar | None = within(None, 0)
    shape_rate: Scalar | None = within(None, 0)
    init_scale: Scalar = within(0.05, 1e-12)
    bounds: Bounds | None = None
    pop_size: int = static(16)

    least_members = 2

    def init(self, key: Key, start: Params) -> XNESState:
        """Begin at `start` with a sphere; see `jaxgfo.init`.

        Raises:
            ValueError: a leaf that is not real, or more than 2,000 coordinates.
        """
        mean, dtypes = distribution.begin(start, "XNES")
        size, dtype = tree.size(mean), jnp.result_type(float)
        if size > MOST_COORDINATES:
            raise ValueError(
                f"start has {size} coordinates, and XNES keeps a matrix of their square; expected "
                f"at most {MOST_COORDINATES}: use SNES ('snes') or LMMAES ('lmma'), or search a "
                "subspace"
            )
        sigma = jnp.asarray(self.init_scale, dtype)
        shape, noise = jnp.eye(size, dtype=dtype), jnp.zeros((self.pop_size, size), dtype)
        inverse, step = jnp.copy(shape), jnp.zeros((), jnp.int32)
        return XNESState(mean, sigma, shape, inverse, noise, dtypes, step)

    def ask(self, key: Key, state: XNESState) -> tuple[Population, XNESState]:
        """Draw the members."""
        flat, unravel = ravel_pytree(state.mean)
        noise = draws.normal(key, (self.pop_size, flat.size), flat.dtype)
        noise = noise.at[0].multiply(jnp.where(state.step == 0, 0.0, 1.0))
        steps = jax.vmap(unravel)(state.sigma * _times(noise, state.shape.T))
        population = distribution.members(state.mean, steps, state.dtypes, state.step, self.bounds)
        return population, state._replace(noise=noise)

    def center(self, state: XNESState) -> Params:
        """The mean, in the candidates' dtypes."""
        return state.dtypes.cast(state.mean)

    def tell(
        self, key: Key, state: XNESState, population: Population, fitness: Fitness
    ) -> tuple[XNESState, XNESInfo]:
        """One step along the natural gradient, in exponential coordinates."""
        weights = shaping.by_rank(distribution.utilities(self.pop_size), fitness)
        learnt, size = shaping.differ(fitness), tree.size(state.mean)
        move = distribution.weighted(
            weights, population, lambda x: distribution.deviations(x, state.mean)
        )
        moved = tree.lift(lambda m, d: m + self.mean_rate * d, state.mean, move)
        mean = box.apply(self.bounds, moved)

        # Not where the box or rounding took them: in a narrow direction that is far outside of the
        # distribution, which would stretch without end towards the walls.
        # Utilities sum to 0, so I falls out of G.
        weighted = weights[:, None] * state.noise
        growth = jnp.sum(weighted * state.noise) / size
        rate = 3 * (3 + math.log(size)) / (5 * size * math.sqrt(size))
        sigma_rate = rate if self.sigma_rate is None else self.sigma_rate
        shape_rate = rate if self.shape_rate is None else self.shape_rate
        sigma = distribution.grown(state.sigma, 0.5 * sigma_rate * growth)
        turn = _turned_thin if 4 * self.pop_size <= size else _turned
        shape, inverse, volume = turn(state, weighted, growth, jnp.asarray(0.5 * shape_rate))
        before, after = _condition(state.shape, state.inverse), _condition(shape, inverse)
        sound = (after < 0.1 / jnp.finfo(shape.dtype).eps) | (after < before)
        sigma = distribution.grown(sigma * jnp.where(sound, volume, 1.0), 0.0)
        condition = jnp.where(sound, after, before)

        mean = tree.where(learnt, mean, state.mean)
        sigma = jnp.where(learnt, sigma, state.sigma)
        shape = jnp.where(learnt & sound, shape, state.shape)
        inverse = jnp.where(learnt & sound, inverse, state.inverse)
        info = XNESInfo(sigma, condition, learnt.astype(fitness.dtype))
        step = state.step + 1
        return XNESState(mean, sigma, shape, inverse, state.noise, state.dtypes, step), info


def _turned(
    state: XNESState, weighted: Array, growth: Array, rate: Array
) -> tuple[Array, Array, Array]:
    """B exp(rate (G - growth I)) of determinant 1, its inverse, and what that took from its volume.

    Args:
        weighted: utilities times the noise of the members (pop, n); G is weighted^T noise.
    """
    slope = _times(weighted.T, state.noise)
    exponent = rate * (slope - growth * jnp.eye(slope.shape[0], dtype=slope.dtype))
    exponent *= _limit(jnp.linalg.norm(exponent))
    turned = state.shape + _times(state.shape, _times(exponent, _phi(exponent[None])[0]))
    return _renewed(turned)


def _turned_thin(
    state: XNESState, weighted: Array, growth: Array, rate: Array
) -> tuple[Array, Array, Array]:
    """The same by exp(X Y) = I + X phi(Y X) Y with phi(z) = (exp(z) - 1) / z: for few members."""
    size = state.noise.shape[1]
    inner = _times(weighted, state.noise.T)
    squares = jnp.sum(inner * inner.T) - size * jnp.square(growth)
    rate = rate * _limit(rate * jnp.sqrt(jnp.maximum(squares, 0.0)))
    signs = jnp.asarray([1.0, -1.0], inner.dtype)[:, None, None]
    ahead, back = _times(_phi(signs * rate * inner), signs * rate * weighted)
    shrink = jnp.exp(-rate * growth)
    turned = shrink * (state.shape + _times(_times(state.shape, state.noise.T), ahead))
    inverse = (state.inverse + _times(state.noise.T, _times(back, state.inverse))) / shrink
    kept = turned, inverse, jnp.ones((), turned.dtype)
    return jax.lax.cond(state.step % RENEWED == RENEWED - 1, lambda: _renewed(turned), lambda: kept)


def _renewed(turned: Array) -> tuple[Array, Array, Array]:
    """A matrix of determinant 1 but for rounding, made so; its inverse; its volume before."""
    factors = lu_factor(turned)
    volume = jnp.exp(jnp.mean(jnp.log(jnp.abs(jnp.diagonal(factors[0])))))
    volume = jnp.where(jnp.isfinite(volume) & (volume > 0), volume, 1.0)
    inverse = lu_solve(factors, jnp.eye(turned.shape[0], dtype=turned.dtype))
    return turned / volume, inverse * volume, volume


def _limit(norm: Array) -> Array:
    """The factor that makes an exponent's norm at most `LARGEST_STEP`."""
    return jnp.minimum(1.0, LARGEST_STEP / jnp.maximum(norm, LARGEST_STEP))


def _phi(matrices: Array) -> Array:
    """(exp(z) - 1) / z = sum z^k / (k + 1)! of some square matrices (k, n, n).

    As many terms as their norm asks for, three of them in a product (Paterson & Stockmeyer, 1973,
    doi:10.1137/0202007). With `expm` of `jax.scipy` a generation takes a second longer to compile.
    """
    dtype, powers = matrices.dtype, jnp.arange(3, MOST_TERMS, 3)
    factors = jnp.asarray([1 / math.factorial(k + 1) for k in range(MOST_TERMS)], dtype)
    norm = jnp.max(jnp.linalg.norm(matrices, axis=(1, 2)))
    left_out = norm ** powers.astype(dtype) * factors[powers]
    more = jnp.sum(left_out > jnp.finfo(dtype).eps / 8, dtype=jnp.int32)
    eye, square = jnp.eye(matrices.shape[-1], dtype=dtype), _times(matrices, matrices)
    cube = _times(matrices, square)

    def three(at: Array) -> Array:
        one, two, three = (factors[3 * at + k] for k in range(3))
        return one * eye + two * matrices + three * square

    def add(number: Array, total: Array) -> Array:
        return three(more - 1 - number) + _times(cube, total)

    return jax.lax.fori_loop(0, more, add, three(more))


def _condition(matrix: Array, inverse: Array) -> Float[Array, ""]:
    return jnp.linalg.norm(matrix) * jnp.linalg.norm(inverse) / matrix.shape[0]


def _times(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
