"""One case of `ask_tell` in this process: both sides interleaved, a line for each phase."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from . import resident

LOOP, LOOP_NUMBERS = 4, 2e7  # generations in one compiled loop; numbers of a population, at most
ROUNDS = 2, 200
COMPILED = 3  # times, each time anew
COPIES = 8  # of the population that a side may hold


def results(name: str, dims: int, pop_size: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Records of the phases `generation`, `compile`, `loop` and `done`, or one of `skipped`."""
    import jax

    from jaxgfo.clock import CompileClock

    from . import namesakes

    pair = namesakes.pairs()[name]
    facts = {"algorithm": name, "peer": pair.evosax, "dims": dims, "pop_size": pop_size}
    if reason := refusal(pair, dims, pop_size):
        yield facts | {"phase": "skipped", "reason": reason}
        return
    makers = {"jaxgfo": namesakes.ours, "evosax": namesakes.theirs}
    sides: dict[str, Any] = {}
    states: dict[str, Any] = {}
    compiling: dict[str, list[float]] = {who: [] for who in makers}
    for _ in range(COMPILED):
        jax.clear_caches()
        # What this benchmark itself compiles is no side's: the generator, keys one by one, a start.
        keys = [*jax.random.split(jax.random.key(2), 8)]
        jax.block_until_ready((jax.random.normal(keys[0], (pop_size,)), jax.numpy.zeros(dims)))
        for who, make in makers.items():  # evosax comes second: what both need is there already
            states.pop(who, None)
            clock = CompileClock()
            sides[who] = make(pair, dims, pop_size)
            states[who] = sides[who].begin()
            for key in keys[:2]:
                states[who] = sides[who].generation(key, states[who])
            jax.block_until_ready(states[who])
            compiling[who].append(clock.seconds)
    block = _generations(pair, dims, pop_size)

    def call(who: str) -> Callable[[], None]:
        def some() -> None:
            for index in range(block):
                states[who] = sides[who].generation(keys[index % len(keys)], states[who])
            jax.block_until_ready(states[who])

        return some

    times = _race({who: call(who) for who in sides}, seconds)
    times = {who: [t / block for t in took] for who, took in times.items()}
    yield facts | {"phase": "generation", **_compared(times)}
    yield facts | {"phase": "compile", **_compared(compiling)}
    if dims * pop_size <= LOOP_NUMBERS:
        yield facts | {"phase": "loop", **_loops(sides, states, keys, block, seconds)}
    yield facts | {"phase": "done"}


def _loops(
    sides: dict[str, Any], states: dict[str, Any], keys: Any, block: int, seconds: float
) -> dict[str, Any]:
    """The same generations inside one jit."""
    import jax

    some = jax.numpy.stack(keys[: max(LOOP, min(block, len(keys)))])

    def loop(who: str) -> Callable[[], None]:
        def many() -> None:
            states[who] = jax.block_until_ready(sides[who].loop(some, states[who]))

        return many

    calls = {who: loop(who) for who in sides}
    for run in calls.values():
        run()
    times = _race(calls, seconds)
    return _compared({who: [t / len(some) for t in took] for who, took in times.items()})


def memory(who: str, name: str, dims: int, pop_size: int) -> int:
    """Most bytes that two generations of one side add to this process."""
    import jax

    from . import namesakes

    make = {"jaxgfo": namesakes.ours, "evosax": namesakes.theirs}[who]
    state = None
    for n in (10, dims):  # the first is for what a process needs anyway
        before = resident.now()
        resident.begin_anew()
        side = make(namesakes.pairs()[name], n, pop_size)
        state = side.begin()
        for key in jax.random.split(jax.random.key(2), 2):
            state = side.generation(key, state)
        jax.block_until_ready(state)
    return resident.peak() - before


def refusal(pair: Any, dims: int, pop_size: int) -> str | None:
    """Why a case is left out; None: it is not."""
    if pair.most is not None and dims > pair.most:
        return f"a matrix of the square of {dims} coordinates; here at most {pair.most}"
    needed = 4 * pop_size * dims * COPIES
    if pair.jaxgfo == "xnes":  # evosax has the outer products of all members at once
        needed += 8 * pop_size * dims**2
    if needed > (free := psutil.virtual_memory().available) * 0.9:
        return f"needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    return None


def _generations(pair: Any, dims: int, pop_size: int) -> int:
    """Of a block: those from one decomposition of a covariance to the next."""
    if pair.jaxgfo != "cma":
        return 1
    from jaxgfo.operators.cumulation import rates

    learnt = rates(dims, pop_size, active=True)
    return max(1, int(1 / (10 * dims * (learnt.rank_one + learnt.rank_mu))))


def _race(calls: dict[str, Callable[[], None]], seconds: float) -> dict[str, list[float]]:
    """Seconds of every call, round by round, for about so many seconds."""
    times: dict[str, list[float]] = {who: [] for who in calls}
    begun, rounds = time.perf_counter(), 0
    while rounds < ROUNDS[0] or (rounds < ROUNDS[1] and time.perf_counter() - begun < seconds):
        for who, call in calls.items():
            before = time.perf_counter()
            call()
            times[who].append(time.perf_counter() - before)
        rounds += 1
    return times


def _compared(times: dict[str, list[float]]) -> dict[str, Any]:
    ours, theirs = times["jaxgfo"], times["evosax"]
    ratios = [b / a for a, b in zip(ours, theirs)]
    return {
        "seconds": statistics.median(ours),
        "peer_seconds": statistics.median(theirs),
        "figure": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "rounds": len(ratios),
    }


if __name__ == "__main__":
    task, given = sys.argv[1], json.loads(sys.argv[2])
    if task == "memory":
        print(json.dumps(memory(*given)))
    else:
        for number, case in enumerate(given["cases"]):
            print(json.dumps({"begins": number}), flush=True)
            name, dims, pop_size = case
            for result in results(name, dims, pop_size, given["seconds"]):
                print(json.dumps(result), flush=True)
