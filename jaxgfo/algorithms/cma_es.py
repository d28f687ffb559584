"""CMA-ES with restarts (Hansen & Ostermeier, 2001, doi:10.1162/106365601750190398)."""

import dataclasses
import functools
import statistics
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import bounds as box
from .. import core, draws, tree
from ..bounds import Bounds
from ..core import Fitness, Key, Params, Population, Scalar, algorithm, static, within
from ..operators import cumulation, distribution, restarts, stopping
from ..operators.cumulation import CumulationInfo, Rates
from ..operators.restarts import Runs
from ..operators.stopping import History
from ..population import repeat
from ..shaping import differ

MOST_COORDINATES = 10_000
SMALLEST = 2.0**-126


class CMAState(NamedTuple):
    """State of `CMAES`, n coordinates; floats have the default dtype at least."""

    mean: Params  # m, (...)
    dtypes: tree.Dtypes  # of the candidate's leaves
    sigma: Float[Array, ""]  # σ, step size
    covariance: Float[Array, "n n"]  # C
    # As last computed; both are symmetric, and so continuous in C, as its eigenvectors are not.
    root: Float[Array, "n n"]  # C^(1/2)
    whitener: Float[Array, "n n"]  # C^(-1/2)
    axis_ratio: Float[Array, ""]  # square root of C's condition
    sigma_path: Float[Array, " n"]  # p_σ
    path: Float[Array, " n"]  # p_c
    history: History
    runs: Runs
    step: Int[Array, ""]  # generations told of this run
    drawn: Population | None  # the members last asked, before walls moved them; None: no walls


@algorithm
class CMAES:
    """Covariance matrix adaptation with active weights, for up to some thousand coordinates.

    Members are N(m, σ² C). All learning rates follow from the numbers of coordinates and members.
    C^(1/2) is computed again every 1 / (10 n (c_1 + c_μ)) generations. What is learnt from is
    what was evaluated, as it was rounded; but a coordinate that a wall of the bounds moved counts
    where it was drawn, so that f(the point inside) is what is minimised, without walls. The mean
    stays within so many of its deviations of the box that one member of a generation, on average,
    lies at every wall beyond which the mean is: without that, an optimum in a corner would only be
    reached as σ shrinks.

    `Info.stopped` is 1 where a run has nothing left to find (criteria of Hansen, 2009). `run` then
    asks `restart` for the next one: another mean (uniform in the bounds where they are finite, else
    start + init_scale N(0, 1)) and another population. `ipop` doubles it every time (Auger &
    Hansen, 2005, doi:10.1109/CEC.2005.1554902). `bipop` (Hansen, 2009,
    doi:10.1145/1570256.1570333) shares evaluations evenly between such runs and runs with small
    populations, small first steps and half the evaluations of the last large run at most; the
    first run counts among the small ones. Both end after nine doublings.

    Where little is known of the start, every run may begin with `scouts` generations of members
    drawn as the means of restarts are; the best of them, or the start, is the first mean. A local
    search from the best of a random sample is Rinnooy Kan & Timmer's (1987,
    doi:10.1007/BF02592070).

    Attributes:
        init_scale: σ of the first generation; a third of the distance to the optimum is good.
        active: whether the worse half teaches too, where not to go.
        restarts: `ipop`, `bipop` or `none`.
        scouts: generations of every run that are drawn far and wide, 0 to 100.
        bounds: the box searched; None: unbounded.
        pop_size: members of the first run, at least 4; the paper has 4 + floor(3 ln n).

    Reference: Hansen (2016), The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772, from which
    all defaults but pop_size are.
    """

    init_scale: Scalar = within(0.05, SMALLEST)
    active: bool = static(True)
    restarts: Literal["none", "ipop", "bipop"] = static("ipop")
    scouts: int = static(0)
    bounds: Bounds | None = None
    pop_size: int = static(16)

    least_members = 4

    def __post_init__(self) -> None:
        """The history of a run holds all that its scouts found."""
        if not 0 <= self.scouts <= 100:
            raise ValueError(f"CMAES: scouts is {self.scouts}; expected 0 to 100 generations")

    def init(self, key: Key, start: Params) -> CMAState:
        """Begin at `start`; see `jaxgfo.init`.

        Raises:
            ValueError: more coordinates than a covariance matrix makes sense for.
        """
        tree.require(tree.is_float, start, "CMAES moves real numbers")
        n = tree.size(start)
        if n > MOST_COORDINATES:
            gigabytes = 3 * n**2 * jnp.finfo(jnp.result_type(float)).bits / 8 / 2**30
            raise ValueError(
                f"CMAES: a candidate has {n} coordinates; expected at most {MOST_COORDINATES}. The "
                f"covariance, its eigenvectors and their update would take {gigabytes:.3g} GiB: "
                "search a subspace (space subspace:DIM), or use sepcma or lmma, whose memory grows "
                "with n alone"
            )
        mean, zero = jax.tree.map(tree.wide, start), jnp.zeros(n)
        return CMAState(
            mean=mean,
            dtypes=tree.dtypes(start),
            sigma=cumulation.first_sigma(self.init_scale),
            covariance=jnp.eye(n),
            root=jnp.eye(n),
            whitener=jnp.eye(n),
            axis_ratio=jnp.ones(()),
            sigma_path=zero,
            path=zero,
            history=stopping.begin(n, self.pop_size),
            runs=restarts.first(self.pop_size),
            step=jnp.zeros((), jnp.int32),
            drawn=None if self.bounds is None else repeat(start, self.pop_size),
        )

    def ask(self, key: Key, state: CMAState) -> tuple[Population, CMAState]:
        """Members m + σ C^(1/2) N(0, I); row 0 of the first population of all is the start."""
        drawn = self._drawn
        if self.scouts:
            drawn = functools.partial(jax.lax.cond, state.step < self.scouts, self._scouts, drawn)
        begins = (state.step == 0) & (state.runs.index == 0)
        start = state.dtypes.cast(state.mean)
        population = drawn(key, state)
        inside = distribution.led_by(box.apply(self.bounds, population), start, begins)
        return inside, state._replace(drawn=None if self.bounds is None else population)

    def _drawn(self, key: Key, state: CMAState) -> Population:
        center = self._center(state)
        normal = draws.normal(key, (self.pop_size, state.path.size), state.sigma.dtype)
        with jax.default_matmul_precision("highest"):
            steps = state.sigma * (normal @ state.root)
        moves = tree.from_matrix(steps, center)
        return state.dtypes.cast(jax.tree.map(jnp.add, center, moves))

    def _scouts(self, key: Key, state: CMAState) -> Population:
        def one(key: Key) -> Params:
            return restarts.elsewhere(key, mean, self.init_scale, self.bounds)

        mean = state.dtypes.cast(state.mean)
        return jax.vmap(one)(draws.split(key, self.pop_size))

    def _center(self, state: CMAState) -> Params:
        """The mean, at most so far outside that a member lies at all of n walls once in λ."""
        if self.bounds is None:
            return state.mean
        share = self.pop_size ** (-1 / state.path.size)
        far = max(0.0, statistics.NormalDist().inv_cdf(share)) * state.sigma
        far = tree.from_matrix((far * jnp.sqrt(jnp.diagonal(state.covariance)))[None], state.mean)

        def leaf(mean, inside, far):
            return inside + jnp.clip(mean - inside, -far[0], far[0])

        walls = dataclasses.replace(self.bounds, mode="clip")
        return jax.tree.map(leaf, state.mean, box.apply(walls, state.mean), far)

    def tell(
        self, key: Key, state: CMAState, population: Population, fitness: Fitness
    ) -> tuple[CMAState, CumulationInfo]:
        """Move the mean, the step size and the covariance towards the better half."""
        n, learnt = state.path.size, differ(fitness)
        history = stopping.record(state.history, fitness)
        rates = cumulation.rates(n, self.pop_size, active=self.active)
        gap = max(1, int(1 / (10 * n * (rates.rank_one + rates.rank_mu))))
        due = learnt & ((state.step + 1) % gap == 0)
        with jax.default_matmul_precision("highest"):
            moved = self._moved(rates, state, population, fitness)
            if self.scouts:
                scouted = self._scouted(state, population, fitness)
                moved = tree.where(state.step < self.scouts, scouted, moved)
            moved = tree.where(learnt, moved, state)
            state = jax.lax.cond(due, _decomposed, lambda same: same, moved)
        state = state._replace(history=history, step=state.step + 1)
        info = CumulationInfo(
            sigma=state.sigma,
            axis_ratio=state.axis_ratio,
            learnt=learnt.astype(fitness.dtype),
            stopped=self._stopped(state, fitness).astype(fitness.dtype),
        )
        return state, info

    def center(self, state: CMAState) -> Params:
        """The mean, inside the bounds and in the candidates' dtypes."""
        return box.apply(self.bounds, state.dtypes.cast(state.mean))

    def restart(self, key: Key, state: CMAState, start: Params) -> tuple["CMAES", CMAState] | None:
        """The next run, after one whose `Info.stopped` was 1; None: there is none.

        It has a population of its own size, so it is an algorithm of its own, whose first `ask`
        and `tell` compile again. Not for use within jit.

        Args:
            key: of the mean, and of `bipop`'s draws.
            state: of the run that ended.
            start: the candidate that the search began with.
        """
        if self.restarts == "none":
            return None
        mean_key, size_key, init_key = draws.split(key, 3)
        evaluations = int(state.step) * self.pop_size
        bipop = self.restarts == "bipop"
        following = restarts.following(size_key, state.runs, evaluations, bipop=bipop)
        if following is None:
            return None
        runs, pop_size, factor = following
        begun = dataclasses.replace(self, pop_size=pop_size)
        mean = restarts.elsewhere(mean_key, start, self.init_scale, self.bounds)
        fresh = core.init(begun, init_key, mean)
        return begun, fresh._replace(sigma=fresh.sigma * factor, runs=runs)

    def _moved(
        self, rates: Rates, state: CMAState, population: Population, fitness: Fitness
    ) -> CMAState:
        if state.drawn is not None:
            inside = tree.matrix(box.apply(self.bounds, state.drawn))
            asked = jnp.all(inside == tree.matrix(population), axis=1)
            population = tree.where(asked, state.drawn, box.apply(self.bounds, population))
        center, away = cumulation.steps(self._center(state), state.sigma, population, None)
        steps = tree.matrix(away)
        whitened = steps @ state.whitener
        reach = cumulation.within_reach(rates, jnp.sum(jnp.square(whitened), axis=1))[:, None]
        steps, whitened = reach * steps, reach * whitened
        better = cumulation.weigh(rates.better, fitness)
        step = better @ steps
        sigma, sigma_path, path, kept = cumulation.adapt(
            rates,
            state.sigma,
            state.sigma_path,
            state.path,
            better @ whitened,
            step,
            jnp.maximum(state.step - self.scouts, 0),
        )
        move = tree.from_matrix((state.sigma * step)[None], center)
        # However far away the worse are, they take away no more than is there.
        square = jnp.maximum(jnp.sum(jnp.square(whitened), axis=1), jnp.finfo(sigma.dtype).eps)
        weights = better + cumulation.weigh(rates.worse, fitness) * (rates.n / square)
        decay = rates.rank_one + rates.rank_mu * float(rates.better.sum() + rates.worse.sum())
        covariance = (1 - decay + rates.rank_one * kept) * state.covariance
        covariance += rates.rank_one * jnp.outer(path, path)
        covariance += rates.rank_mu * ((steps.T * weights) @ steps)
        return state._replace(
            mean=jax.tree.map(lambda m, d: m + d[0], center, move),
            sigma=sigma,
            covariance=(covariance + covariance.T) / 2,
            sigma_path=sigma_path,
            path=path,
        )

    def _scouted(self, state: CMAState, population: Population, fitness: Fitness) -> CMAState:
        best = jnp.argmin(fitness)
        found = jax.tree.map(lambda x: tree.wide(x[best]), population)
        better = fitness[best] < jnp.min(state.history[0])
        return state._replace(mean=tree.where(better, found, state.mean))

    def _stopped(self, state: CMAState, fitness: Fitness) -> Bool[Array, ""]:
        mean = tree.matrix(jax.tree.map(lambda m: m[None], state.mean))[0]
        deviation = jnp.sqrt(jnp.diagonal(state.covariance))
        return (
            stopping.stagnates(state.history, fitness, mean.size, state.step)
            | stopping.degenerates(mean, deviation, state.path, state.sigma, self.init_scale)
            | stopping.ill_conditioned(state.axis_ratio)
            | (state.step >= state.runs.limit // self.pop_size)
        )


def _decomposed(state: CMAState) -> CMAState:
    """With the roots of the covariance, which is made positive definite again."""
    values, axes = jnp.linalg.eigh(state.covariance, symmetrize_input=False)
    limit = cumulation.largest(values.dtype)
    # Rounding leaves no more digits than this, and may leave eigenvalues below 0.
    least = jnp.maximum(jnp.finfo(values.dtype).eps * values[-1], 1 / limit)
    clipped = jnp.clip(values, least, limit)
    scales = jnp.sqrt(clipped)
    repaired = (axes * clipped) @ axes.T
    found = state._replace(
        covariance=jnp.where(jnp.all(clipped == values), state.covariance, repaired),
        root=(axes * scales) @ axes.T,
        whitener=(axes / scales) @ axes.T,
        axis_ratio=scales[-1] / scales[0],
    )
    return tree.where(jnp.isfinite(jnp.sum(found.root)), found, state)
