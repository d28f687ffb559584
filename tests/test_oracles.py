"""Every algorithm against plain loops over numbers, written from its paper.

The loops draw the same raw random numbers from the same keys as the package; all arithmetic and
every decision is their own, in double precision. Candidates are one flat vector.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import sphere
from scipy import optimize
from scipy.optimize._dual_annealing import VisitingDistribution

import jaxgfo
from jaxgfo.algorithms.generalized_annealing import visiting_steps

POP, SIZE, GENERATIONS = 7, 5, 4
START = jnp.linspace(-0.4, 0.6, SIZE)


def split(key, num=2):
    return list(jax.random.split(key, num))


def uniform(key, *shape):
    return np.asarray(jax.random.uniform(key, shape), float)


def normal(key, *shape):
    return np.asarray(jax.random.normal(key, shape), float)


def integers(key, shape, low, high):
    return low + np.asarray(jax.random.bits(key, shape), np.int64) % (high - low)


def scattered(key, scale, pop=POP, start=START):
    x = np.asarray(start, float) + scale * normal(key, pop, SIZE)
    x[0] = start
    return x


def energy(x):
    """A tilted bowl with ripples: no two members are equal, and some trials are worse."""
    return ((x - 0.25) ** 2).sum(axis=1) + 0.1 * np.sin(9 * x).sum(axis=1)


def follow(algorithm, oracle, start=START, fitness=energy, seed=0):
    """Run the package and the oracle side by side; they must ask for the same candidates."""
    key = jax.random.key(seed)
    state = jaxgfo.init(algorithm, key, start)
    oracle.init(key)
    for step, generation_key in enumerate(jax.random.split(key, GENERATIONS)):
        ask_key, tell_key = split(generation_key)
        population, state = jaxgfo.ask(algorithm, ask_key, state)
        x = oracle.x if step == 0 else oracle.ask(ask_key)
        np.testing.assert_allclose(np.asarray(population, float), x, rtol=2e-5, atol=2e-6)
        told = jnp.asarray(fitness(np.asarray(population, float)), jnp.float32)
        state, info = jaxgfo.tell(algorithm, tell_key, state, population, told)
        oracle.tell(tell_key, np.asarray(population, float), np.asarray(told, float))
        for name, value in getattr(oracle, "info", {}).items():
            assert getattr(info, name) == pytest.approx(value, rel=1e-4, abs=1e-6), name
    return state


# ------------------------------------------------------------------------------ genetic algorithm


class Genetic:
    def __init__(self, a, bits=False):
        self.a, self.bits = a, bits

    def init(self, key):
        if self.bits:
            self.x = np.asarray(jax.random.bernoulli(key, 0.5, (POP, SIZE)), int)
            self.x[0] = 0
        else:
            self.x = scattered(key, self.a.init_scale)

    def parents(self, key, num):
        f = self.f
        if self.a.selection == "tournament":
            drawn = integers(key, (num, self.a.tournament_size), 0, POP)
            return [min(row, key=lambda i: f[i]) for row in drawn]
        if self.a.selection == "truncation":
            best = sorted(range(POP), key=lambda i: f[i])[: round(self.a.truncation * POP)]
            return [best[i] for i in integers(key, (num,), 0, len(best))]
        weights, chosen = [max(f) - value for value in f], []
        for ball in uniform(key, num) * sum(weights):
            i = 0
            while ball >= weights[i]:
                ball -= weights[i]
                i += 1
            chosen.append(i)
        return chosen

    def masks(self, key, pairs):
        takes = np.zeros((pairs, SIZE), bool)
        if self.a.crossover == "uniform":
            return np.asarray(jax.random.bernoulli(key, 0.5, takes.shape))
        if self.a.crossover == "single_point":
            for row, cut in zip(takes, integers(key, (pairs,), 1, SIZE)):
                row[cut:] = True
            return takes
        one, two = split(key)
        places = list(range(1, SIZE))
        firsts = integers(one, (pairs,), 1, SIZE)
        seconds = integers(two, (pairs,), 1, SIZE - 1)
        for row, a, b in zip(takes, firsts, seconds):
            b = [p for p in places if p != a][b - 1]
            row[min(a, b) : max(a, b)] = True
        return takes

    def ask(self, key):
        select, mask_key, rate_key, mutate, _ = split(key, 5)
        pairs = math.ceil(POP / 2)
        chosen = self.parents(select, 2 * pairs)
        crossed = uniform(rate_key, pairs) < self.a.crossover_rate
        arithmetic = self.a.crossover == "arithmetic"
        blend = uniform(mask_key, pairs) if arithmetic else self.masks(mask_key, pairs)
        firsts, seconds = [], []
        for i in range(pairs):
            a, b = self.x[chosen[i]].copy(), self.x[chosen[pairs + i]].copy()
            if crossed[i] and arithmetic:
                a, b = blend[i] * a + (1 - blend[i]) * b, blend[i] * b + (1 - blend[i]) * a
            elif crossed[i]:
                for j in range(SIZE):
                    if blend[i][j]:
                        a[j], b[j] = b[j], a[j]
            firsts.append(a)
            seconds.append(b)
        return self.mutate(mutate, np.array(firsts + seconds)[:POP])

    def mutate(self, key, x):
        rate = self.a.mutation_rate
        if rate is None:
            rate = 1 / SIZE if self.bits else 1
        hit = np.ones((POP, SIZE), bool)
        if rate < 1:
            hit_key, key = split(key)
            hit = uniform(hit_key, POP, SIZE) < rate
        reset = self.a.mutation == "uniform_reset"
        if self.bits:
            new = np.asarray(jax.random.bernoulli(key, 0.5, x.shape)) if reset else 1 - x
        elif reset:
            low, high = self.a.bounds.lower, self.a.bounds.upper
            new = low + (high - low) * uniform(key, POP, SIZE)
        else:
            new = x + self.a.mutation_scale * normal(key, POP, SIZE)
        return np.where(hit, new, x)

    def tell(self, key, x, f):
        x, f = x.copy(), f.copy()
        if hasattr(self, "f"):
            elites = sorted(range(POP), key=lambda i: self.f[i])[: self.a.elites]
            losers = sorted(range(POP), key=lambda i: -f[i])[: self.a.elites]
            for old, new in zip(elites, losers):
                if self.f[old] < f[new]:
                    x[new], f[new] = self.x[old], self.f[old]
        self.x, self.f = x, f


GENETIC = [
    {"selection": s, "crossover": c, "mutation": m, "mutation_rate": r}
    for (s, c), (m, r) in zip(
        itertools.product(
            ("tournament", "roulette", "truncation"),
            ("uniform", "single_point", "two_point", "arithmetic"),
        ),
        itertools.cycle([("gaussian", 0.4), ("uniform_reset", 0.3), ("auto", None)]),
    )
]


@pytest.mark.parametrize("fields", GENETIC, ids=lambda f: "-".join(map(str, f.values())))
def test_genetic_algorithm(fields):
    algorithm = jaxgfo.GeneticAlgorithm(
        pop_size=POP,
        init_scale=0.3,
        mutation_scale=0.2,
        crossover_rate=0.7,
        tournament_size=3,
        truncation=0.4,
        elites=2,
        bounds=jaxgfo.Bounds(-9.0, 9.0),
        **fields,
    )
    follow(algorithm, Genetic(algorithm))


@pytest.mark.parametrize("kind", ["auto", "bit_flip", "uniform_reset"])
@pytest.mark.parametrize("cross", ["uniform", "single_point", "two_point"])
def test_genetic_algorithm_on_bits(kind, cross):
    algorithm = jaxgfo.GeneticAlgorithm(pop_size=POP, mutation=kind, crossover=cross)
    oracle, weights = Genetic(algorithm, bits=True), np.array([1.0, -2.0, 4.1, 8.2, -16.4])
    follow(algorithm, oracle, jnp.zeros(SIZE, bool), lambda x: x @ weights)


# ------------------------------------------------------------------------- differential evolution


def distinct(key, pools):
    """For each member indices that differ from it and from each other: r-th of those free."""
    drawn = [
        integers(k, (POP,), 0, pool - 1 - i)
        for i, (k, pool) in enumerate(zip(split(key, len(pools)), pools))
    ]
    rows = []
    for i in range(POP):
        taken = [i]
        for column, pool in zip(drawn, pools):
            taken.append([j for j in range(pool) if j not in taken][column[i]])
        rows.append(taken[1:])
    return rows


def binomial(key, rates):
    noise_key, sure_key = split(key)
    sure = integers(sure_key, (POP,), 0, SIZE)
    noise = uniform(noise_key, POP, SIZE)
    return [[noise[i][j] < rates[i] or j == sure[i] for j in range(SIZE)] for i in range(POP)]


def exponential(key, rate):
    start_key, length_key = split(key)
    starts, u = integers(start_key, (POP,), 0, SIZE), 1 - uniform(length_key, POP)
    masks = np.zeros((POP, SIZE), bool)
    for i in range(POP):
        length = 1
        while length < SIZE and u[i] <= rate**length:
            length += 1
        for step in range(length):
            masks[i][(starts[i] + step) % SIZE] = True
    return masks


class Differential:
    def __init__(self, a):
        self.a = a

    def init(self, key):
        self.x, self.f = scattered(key, self.a.init_scale), np.full(POP, np.inf)

    def ask(self, key):
        mutant_key, cross_key = split(key)
        index_key, best_key = split(mutant_key)
        a, x = self.a, self.x
        ranked = sorted(range(POP), key=lambda i: self.f[i])
        count = max(1, round(a.p * POP))
        leaders = [ranked[math.floor(u * count)] for u in uniform(best_key, POP)]
        index = distinct(index_key, [POP] * (3 if a.strategy == "rand/1" else 2))
        cross = exponential if a.recombination == "exponential" else binomial
        rates = a.crossover if cross is exponential else [a.crossover] * POP
        masks = cross(cross_key, rates)
        trials = x.copy()
        for i in range(POP):
            r = index[i]
            for j in range(SIZE):
                if not masks[i][j]:
                    continue
                pair = a.weight * (x[r[-2]][j] - x[r[-1]][j])
                if a.strategy == "rand/1":
                    trials[i][j] = x[r[0]][j] + pair
                elif a.strategy == "best/1":
                    trials[i][j] = x[ranked[0]][j] + pair
                else:
                    pbest = a.strategy == "current-to-pbest/1"
                    leader = x[leaders[i] if pbest else ranked[0]][j]
                    trials[i][j] = x[i][j] + a.weight * (leader - x[i][j]) + pair
        return trials

    def tell(self, key, x, f):
        for i in range(POP):
            if f[i] <= self.f[i]:
                self.x[i], self.f[i] = x[i], f[i]


@pytest.mark.parametrize("recombination", ["binomial", "exponential"])
@pytest.mark.parametrize(
    "strategy", ["rand/1", "best/1", "current-to-best/1", "current-to-pbest/1"]
)
def test_differential_evolution(strategy, recombination):
    algorithm = jaxgfo.DifferentialEvolution(
        pop_size=POP,
        strategy=strategy,
        recombination=recombination,
        weight=0.7,
        crossover=0.6,
        p=0.45,
        init_scale=0.3,
    )
    follow(algorithm, Differential(algorithm))


class SuccessHistory:
    def __init__(self, a):
        self.a = a

    def init(self, key):
        self.x, self.f = scattered(key, self.a.init_scale), np.full(POP, np.inf)
        self.memory_f, self.memory_cr = [0.5] * self.a.memory_size, [0.5] * self.a.memory_size
        self.slot, self.active, self.spent, self.archive = 0, POP, 0, []

    def ask(self, key):
        draw_key, index_key, best_key, cross_key = split(key, 4)
        entry_key, weight_key, cr_key = split(draw_key, 3)
        entry = integers(entry_key, (POP,), 0, self.a.memory_size)
        u, n = uniform(weight_key, POP), normal(cr_key, POP)
        self.F, self.CR = [], []
        for i in range(POP):
            # F: the Cauchy law around M_F, given that it is positive; cut at 1.
            middle = self.memory_f[entry[i]]
            below = math.atan(-middle / 0.1) / math.pi + 0.5
            quantile = below + (1 - below) * u[i]
            self.F.append(min(1, middle + 0.1 * math.tan(math.pi * (quantile - 0.5))))
            middle = self.memory_cr[entry[i]]
            self.CR.append(0 if middle is None else min(1, max(0, middle + 0.1 * n[i])))
        pool = list(self.x[: self.active]) + self.archive
        index = distinct(index_key, [self.active, len(pool)])
        ranked = sorted(range(self.active), key=lambda i: self.f[i])
        count = max(2, round(self.a.p * self.active))
        leaders = [ranked[math.floor(v * count)] for v in uniform(best_key, POP)]
        masks, trials = binomial(cross_key, self.CR), self.x.copy()
        for i in range(POP):
            if i >= self.active:
                trials[i] = self.x[ranked[0]]
                continue
            for j in range(SIZE):
                if masks[i][j]:
                    toward = self.x[leaders[i]][j] - self.x[i][j]
                    pair = self.x[index[i][0]][j] - pool[index[i][1]][j]
                    trials[i][j] = self.x[i][j] + self.F[i] * (toward + pair)
        return trials

    def tell(self, key, x, f):
        first = self.spent == 0
        wins, self.beaten = [], []
        for i in range(self.active):
            if f[i] < self.f[i] and not first:
                wins.append((self.f[i] - f[i], self.F[i], self.CR[i]))
                self.beaten.append(self.x[i].copy())
            if f[i] <= self.f[i]:
                self.x[i], self.f[i] = x[i], f[i]
        if wins:
            total = sum(gain for gain, _, _ in wins)

            def lehmer(k):
                above = sum(win[0] / total * win[k] ** 2 for win in wins)
                return above / sum(win[0] / total * win[k] for win in wins)

            self.memory_f[self.slot] = lehmer(1)
            dead = self.memory_cr[self.slot] is None or max(win[2] for win in wins) == 0
            self.memory_cr[self.slot] = None if dead else lehmer(2)
            self.slot = (self.slot + 1) % self.a.memory_size
        self.spent += self.active
        if self.a.final_pop_size is not None:
            order = sorted(range(self.active), key=lambda i: self.f[i])
            order += list(range(self.active, POP))
            self.x, self.f = self.x[order], self.f[order]
            share = min(1, self.spent / self.a.max_evaluations)
            self.active = round(POP + (self.a.final_pop_size - POP) * share)
        self.info = {"active": self.active, "weight": np.mean(self.memory_f)}
        self.info["crossover"] = np.mean([0 if m is None else m for m in self.memory_cr])


@pytest.mark.parametrize("archive_rate", [0, 0.6, 2.0])
@pytest.mark.parametrize("shrink", [{}, {"final_pop_size": 4, "max_evaluations": 20}])
def test_success_history(archive_rate, shrink):
    algorithm = jaxgfo.SHADE(
        pop_size=POP, memory_size=2, archive_rate=archive_rate, p=0.3, init_scale=0.3, **shrink
    )
    oracle, key = SuccessHistory(algorithm), jax.random.key(3)
    state = jaxgfo.init(algorithm, key, START)
    oracle.init(key)
    filled = 0
    for step, generation_key in enumerate(split(key, 8)):
        ask_key, tell_key = split(generation_key)
        population, state = jaxgfo.ask(algorithm, ask_key, state)
        x = oracle.x if step == 0 else oracle.ask(ask_key)
        np.testing.assert_allclose(np.asarray(population, float), x, rtol=1e-4, atol=1e-5)
        told = jnp.asarray(energy(np.asarray(population, float)), jnp.float32)
        room = round(archive_rate * oracle.active)
        state, info = jaxgfo.tell(algorithm, tell_key, state, population, told)
        oracle.tell(tell_key, np.asarray(population, float), np.asarray(told, float))
        for name, value in oracle.info.items():
            assert getattr(info, name) == pytest.approx(value, rel=1e-4), name
        # Which rows a full archive forgets is chance; that it holds no others is not.
        rows = [np.asarray(r, float) for r in np.asarray(state.archive)[np.asarray(state.archived)]]
        pool = [tuple(r.round(4)) for r in oracle.archive + oracle.beaten]
        assert all(tuple(r.round(4)) in pool for r in rows)
        assert len(rows) == min(room, len(pool))
        kept = {tuple(r.round(4)) for r in rows}
        assert sum(tuple(r.round(4)) in kept for r in oracle.beaten) >= min(
            room, len(oracle.beaten)
        )
        oracle.archive, filled = rows, max(filled, len(rows))
    if archive_rate < 1 and not shrink:
        assert filled == round(archive_rate * POP)  # it was full: forgetting was tested


# -------------------------------------------------------------------------------------- annealing


class Chains:
    def __init__(self, a):
        self.a, self.step, self.known = a, 0, 0.0

    def init(self, key):
        self.x, self.f = scattered(key, self.a.init_scale), np.full(POP, np.inf)

    def ask(self, key):
        return self.x + self.a.scale * normal(key, POP, SIZE)

    def calibrated(self, f):
        """Solve mean exp(-rise / T) = acceptance over the rises, unless T is known."""
        if self.a.temperature is not None:
            return self.a.temperature
        rises = [new - old for new, old in zip(f, self.f) if new > old]
        if not self.known and rises:
            gap = lambda t: np.mean(np.exp(-np.array(rises) / t)) - self.a.acceptance  # noqa: E731
            self.known = optimize.brentq(gap, 1e-6 * max(rises), 1e6 * max(rises))
        return self.known

    def metropolis(self, key, x, f, temperatures):
        u, self.accepted = uniform(key, POP), 0
        for i in range(POP):
            rise = f[i] - self.f[i]
            if rise <= 0 or (temperatures[i] > 0 and u[i] < math.exp(-rise / temperatures[i])):
                self.x[i], self.f[i] = x[i], f[i]
                self.accepted += 1 / POP

    def tell(self, key, x, f):
        start = self.calibrated(f)
        k = max(0, self.step - 1) // self.a.steps_per_temperature
        temperature = {
            "geometric": start * self.a.cooling_rate**k,
            "linear": start * max(0, 1 - k / self.a.num_steps),
            "logarithmic": start * math.log(2) / math.log(k + 2),
        }[self.a.cooling]
        self.metropolis(key, x, f, [temperature] * POP)
        self.step += 1
        self.info = {"temperature": temperature, "accepted": self.accepted}


@pytest.mark.parametrize("temperature", [None, 0.3])
@pytest.mark.parametrize("cooling", ["geometric", "linear", "logarithmic"])
def test_simulated_annealing(cooling, temperature):
    algorithm = jaxgfo.SimulatedAnnealing(
        pop_size=POP,
        cooling=cooling,
        temperature=temperature,
        acceptance=0.6,
        cooling_rate=0.7,
        num_steps=3,
        steps_per_temperature=2 if temperature is None else 1,
        scale=0.2,
        init_scale=0.3,
    )
    follow(algorithm, Chains(algorithm))


class Replicas(Chains):
    def tell(self, key, x, f):
        accept_key, exchange_key = split(key)
        hottest, ratio = self.calibrated(f), self.a.coldest_ratio
        ladder = [hottest * ratio ** (1 - i / (POP - 1)) for i in range(POP)]
        self.metropolis(accept_key, x, f, ladder)
        u, moved = uniform(exchange_key, POP), 0
        for i in range(self.step % 2, POP - 1, 2):
            chance = 1.0
            if hottest > 0:
                gain = (1 / ladder[i] - 1 / ladder[i + 1]) * (self.f[i] - self.f[i + 1])
                chance = math.exp(min(0, gain))
            if u[i] < chance:
                self.x[[i, i + 1]], self.f[[i, i + 1]] = self.x[[i + 1, i]], self.f[[i + 1, i]]
                moved += 2 / POP
        self.step += 1
        self.info = {"hottest": hottest, "accepted": self.accepted, "exchanged": moved}


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_parallel_tempering(temperature):
    algorithm = jaxgfo.ParallelTempering(
        pop_size=POP, temperature=temperature, coldest_ratio=0.05, scale=0.2, init_scale=0.3
    )
    follow(algorithm, Replicas(algorithm))


class Replayed:
    """Hands SciPy's visiting distribution the normal numbers the package drew."""

    def __init__(self, key, num):
        self.pairs = np.stack([normal(k, num) for k in split(key)], axis=1)

    def normal(self, size):
        assert size == self.pairs.shape
        return self.pairs

    def uniform(self, size=None):
        return np.ones(size) if size else 1.0  # a step beyond the tail limit stays at it


def scipy_steps(key, temperature, visit, num):
    walls = np.full(num, 1e9)
    law = VisitingDistribution(-walls, walls, visit, Replayed(key, num))
    return np.clip(law.visit_fn(temperature, num), -1e8, 1e8)


@pytest.mark.parametrize("visit", [1.1, 1.45, 5 / 3 + 1e-6, 2.0, 2.62, 2.9])
@pytest.mark.parametrize("temperature", [5230.0, 1.0, 1e-3])
def test_visiting_law_is_that_of_scipy(visit, temperature):
    key = jax.random.key(5)
    got = np.asarray(visiting_steps(key, (500,), temperature, visit), float)
    # fp32 against fp64: near q_v = 1 and 3 the exponents are large, and so is the rounding.
    want = scipy_steps(key, temperature, visit, 500)
    np.testing.assert_allclose(got, want, rtol=5e-3, atol=1e-37)


def test_visiting_law_where_the_paper_divides_zero_by_zero():
    got = visiting_steps(jax.random.key(5), (500,), 1.0, 5 / 3)
    assert np.isfinite(got).all()
    near = scipy_steps(jax.random.key(5), 1.0, 5 / 3 + 1e-5, 500)
    np.testing.assert_allclose(got, near, rtol=1e-3)


class Generalized(Chains):
    def temperature(self):
        k = max(0, self.step - 1) // self.a.steps_per_temperature
        power = self.a.visit - 1
        return k, self.a.temperature * (2**power - 1) / ((k + 2) ** power - 1)

    def ask(self, key):
        visit_key, site_key = split(key)
        site = integers(site_key, (POP,), 0, SIZE)
        steps = scipy_steps(visit_key, self.temperature()[1], self.a.visit, POP * SIZE).reshape(
            POP, SIZE
        )
        x = self.x.copy()
        for i in range(POP):
            for j in range(SIZE):
                if self.step % 2 == 1 or j == site[i]:
                    x[i][j] += self.a.scale * steps[i][j]
        return x

    def tell(self, key, x, f):
        k, temperature = self.temperature()
        u, q = uniform(key, POP), self.a.accept
        for i in range(POP):
            rise = f[i] - self.f[i]
            bracket = 1 - (1 - q) * rise / (temperature / (k + 1))
            if rise <= 0 or (bracket > 0 and u[i] <= bracket ** (1 / (1 - q))):
                self.x[i], self.f[i] = x[i], f[i]
        self.step += 1
        self.info = {"temperature": temperature}


@pytest.mark.parametrize("accept", [-5.0, -0.5, 0.6])
def test_generalized_annealing(accept):
    algorithm = jaxgfo.GeneralizedAnnealing(
        pop_size=POP, temperature=2.0, visit=2.2, accept=accept, scale=0.05, init_scale=0.3
    )
    follow(algorithm, Generalized(algorithm))


# ----------------------------------------------------------------------------------------- swarms


def neighbourhood(topology, i):
    """Particles that inform particle i. Six particles make a torus of two rows of three."""
    if topology == "global":
        return range(SWARM)
    if topology == "ring":
        return [i, (i - 1) % SWARM, (i + 1) % SWARM]
    row, column = divmod(i, 3)
    return [i, (1 - row) * 3 + column, row * 3 + (column - 1) % 3, row * 3 + (column + 1) % 3]


SWARM = 6


class Swarm:
    def __init__(self, a, bits=False):
        self.a, self.bits, self.step = a, bits, 0

    def init(self, key):
        if self.bits:
            self.x = np.asarray(jax.random.bernoulli(key, 0.5, (SWARM, SIZE)), float)
            self.x[0] = 0
        else:
            self.x = scattered(key, self.a.init_scale, SWARM)
        self.v, self.p, self.f = np.zeros((SWARM, SIZE)), self.x.copy(), np.full(SWARM, np.inf)

    def ask(self, key):
        velocity_key, bit_key = split(key) if self.bits else (key, key)
        words = np.asarray(jax.random.bits(velocity_key, (SWARM, SIZE)), np.int64)
        r1, r2 = words // 2**16 / 2**16, words % 2**16 / 2**16
        coin = uniform(bit_key, SWARM, SIZE)
        a, w, chi = self.a, self.a.inertia, 1.0
        if a.final_inertia is not None:
            w += (a.final_inertia - w) * min(1, self.step / a.num_steps)
        if a.constriction:
            phi = a.cognitive + a.social
            w, chi = 1.0, 2 / abs(2 - phi - math.sqrt(phi**2 - 4 * phi))
        clamp = a.bit_velocity_clamp if self.bits else a.velocity_clamp
        x = self.x.copy()
        for i in range(SWARM):
            g = self.p[min(neighbourhood(a.topology, i), key=lambda n: self.f[n])]
            for j in range(SIZE):
                pull = a.cognitive * r1[i][j] * (self.p[i][j] - x[i][j])
                pull += a.social * r2[i][j] * (g[j] - x[i][j])
                v = chi * (w * self.v[i][j] + pull)
                if clamp is not None:
                    v = max(-clamp, min(clamp, v))
                if self.bits:
                    x[i][j] = coin[i][j] < 1 / (1 + math.exp(-v))
                else:
                    x[i][j] += v
                    low, high = (-np.inf, np.inf) if a.bounds is None else (-0.2, 0.5)
                    if not low <= x[i][j] <= high:
                        clipped = a.bounds.mode == "clip"
                        wall = low if x[i][j] < low else high
                        x[i][j] = wall if clipped else 2 * wall - x[i][j]
                        v = 0 if clipped else -v
                self.v[i][j] = v
        self.x = x
        return x

    def tell(self, key, x, f):
        improved = 0
        for i in range(SWARM):
            if f[i] < self.f[i]:
                self.p[i], self.f[i], improved = x[i], f[i], improved + 1 / SWARM
        self.step += 1
        self.info = {"improved": improved, "speed": math.sqrt((self.v**2).mean())}


PARTICLES = [
    {},
    {"topology": "ring"},
    {"topology": "von_neumann"},
    {"inertia": 0.9, "final_inertia": 0.4, "num_steps": 2},
    {"constriction": True, "cognitive": 2.05, "social": 2.05},
    {"velocity_clamp": 0.05},
]


@pytest.mark.parametrize("fields", PARTICLES, ids=str)
def test_particle_swarm(fields):
    algorithm = jaxgfo.ParticleSwarm(pop_size=SWARM, init_scale=0.3, **fields)
    follow(algorithm, Swarm(algorithm))


@pytest.mark.parametrize("mode", ["clip", "reflect"])
def test_particle_swarm_at_walls(mode):
    start, box = START.clip(-0.1, 0.4), jaxgfo.Bounds(-0.2, 0.5, mode)
    algorithm = jaxgfo.ParticleSwarm(pop_size=SWARM, init_scale=0.02, bounds=box, inertia=1.3)
    oracle = Swarm(algorithm)
    oracle.init = lambda key: (Swarm.init(oracle, key), place(oracle, key, start))
    follow(algorithm, oracle, start, lambda x: -np.abs(x).sum(axis=1))


def place(oracle, key, start):
    oracle.x = scattered(key, 0.02, SWARM, start)
    oracle.p = oracle.x.copy()


@pytest.mark.parametrize("clamp", [6.0, 0.5])
def test_binary_particle_swarm(clamp):
    algorithm = jaxgfo.ParticleSwarm(pop_size=SWARM, bit_velocity_clamp=clamp)
    weights = np.array([1.0, -2.0, 4.1, 8.2, -16.4])
    follow(algorithm, Swarm(algorithm, True), jnp.zeros(SIZE, bool), lambda x: x @ weights)


# ---------------------------------------------------------------------------------- random search


def test_random_search():
    algorithm, start = jaxgfo.RandomSearch(pop_size=POP, init_scale=0.3), np.asarray(START, float)
    state = jaxgfo.init(algorithm, jax.random.key(0), START)
    for step, key in enumerate(split(jax.random.key(1), 3)):
        population, state = jaxgfo.ask(algorithm, key, state)
        want = start + 0.3 * normal(key, POP, SIZE)
        want = [start, *want[1:]] if step == 0 else want
        np.testing.assert_allclose(population, want, rtol=1e-5, atol=1e-6)
        fitness = sphere(population).at[:2].set(jnp.inf)
        state, info = jaxgfo.tell(algorithm, key, state, population, fitness)
        assert info.failed == pytest.approx(2 / POP)
