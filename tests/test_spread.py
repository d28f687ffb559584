"""Populations over simulated devices and over two processes: what comes out, and what travels."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import write
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from spread import ALGORITHMS, BATCH, loss, outcome, weights

import jaxgfo
from jaxgfo import cli, core, evaluate, mesh, run, tree
from jaxgfo.evaluation import compiled

POP = 64


def mesh_of(**axes):
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))


@pytest.fixture(scope="module")
def alone():
    return {name: outcome(name, None) for name in ALGORITHMS}


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("de", {"pop": 8}),
        ("openes", {"pop": 8}),
        ("openes", {"pop": 2, "model": 4}),
        ("lowrank-es", {"pop": 2, "model": 4}),
    ],
    ids=str,
)
def test_a_run_does_not_depend_on_the_number_of_devices(alone, name, axes):
    found, expected = outcome(name, mesh_of(**axes), "model" in axes), alone[name]
    assert found.keys() == expected.keys()
    for what, values in expected.items():
        np.testing.assert_allclose(found[what], values, rtol=2e-5, atol=1e-6, err_msg=what)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_fitness_does_not_depend_on_devices_or_chunks(name):
    algorithm = ALGORITHMS[name](pop_size=21)
    population, _ = core.ask(algorithm, jax.random.key(1), core.init(algorithm, KEY, weights()))
    expected = evaluate(loss, weights(), population, BATCH, chunk_size=1)
    assert expected.shape == (21,)
    found = evaluate(loss, weights(), population, BATCH, chunk_size=3, mesh=mesh_of(pop=8))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


KEY = jax.random.key(0)
COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|"
    r"collective-broadcast|ragged-all-to-all)(?:-start)?\("
)


def travelling(program):
    """Numbers in every collective of a compiled program."""
    found = []
    for line in program.as_text().splitlines():
        if match := COLLECTIVE.search(line):
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            found.append(max(math.prod(map(int, filter(None, s.split(",")))) for s in shapes))
    return found


def programs(name, devices):
    """Evaluation and tell, compiled for a mesh."""
    algorithm = core.strong(ALGORITHMS[name](pop_size=POP))
    with mesh.use(mesh_of(pop=devices)):
        space, batch, key = mesh.place((weights(), BATCH, KEY))
        state = core.init(algorithm, key, space)
        population, state = core.ask(algorithm, key, state)
        evaluation = compiled(loss, space, population, batch)
        fitness = mesh.place(jnp.arange(POP, dtype=jnp.float32))
        tell = jax.jit(lambda *told: core.tell(algorithm, key, *told))
        tell = tell.lower(state, population, fitness).compile()
    return evaluation, tell


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_only_fitness_and_one_reduction_travel(name):
    evaluation, tell = programs(name, 8)
    assert travelling(evaluation) == [POP]
    size = tree.size(weights())
    assert size > 4 * POP
    # An all-reduce of the parameters is a reduce-scatter and an all-gather.
    moved = travelling(tell)
    assert sum(moved) <= (2 * size if name in ("openes", "lowrank-es") else 0)


def test_a_collective_of_the_populations_size_would_be_seen():
    over = mesh_of(pop=8)
    rows = jax.device_put(jnp.zeros((POP, 100)), NamedSharding(over, PartitionSpec("pop")))
    order = jax.device_put(jnp.arange(POP)[::-1], NamedSharding(over, PartitionSpec()))
    look_up = jax.jit(lambda x, i: x[i], out_shardings=NamedSharding(over, PartitionSpec()))
    assert max(travelling(look_up.lower(rows, order).compile())) >= POP * 100


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("name", ["openes", "lowrank-es"])
def test_the_update_is_shared_among_devices(name):
    def work(devices):
        return programs(name, devices)[1].cost_analysis()["flops"]

    assert work(8) < work(1) / 4
    state = run(
        ALGORITHMS[name](pop_size=8),
        weights(),
        loss,
        BATCH,
        key=KEY,
        num_generations=1,
        mesh=mesh_of(pop=8),
    ).state
    momentum = jax.tree.leaves(state.optimizer)
    kernels = [x for x in momentum if x.shape == weights()["in"]["kernel"].shape]
    assert kernels
    for kernel in kernels:
        assert kernel.addressable_shards[0].data.size == kernel.size // 8


def test_a_mesh_that_cannot_serve_is_refused():
    population = jax.tree.map(lambda x: x[None], weights())
    with pytest.raises(ValueError, match=r"axes \('model',\); expected one called 'pop'"):
        evaluate(loss, weights(), population, BATCH, mesh=mesh_of(model=2))
    named = jax.make_mesh((2,), ("pop",), axis_types=(AxisType.Explicit,))
    with (
        jax.set_mesh(named),
        pytest.raises(ValueError, match="type Explicit; make the mesh with"),
    ):
        evaluate(loss, weights(), population, BATCH)
    # Given as an argument it is used with types of its own.
    assert evaluate(loss, weights(), population, BATCH, mesh=named).shape == (1,)
    inside = jax.jit(lambda p: evaluate(loss, weights(), p, BATCH, mesh=mesh_of(pop=2)))
    with pytest.raises(ValueError, match=r"set the mesh outside, with `jax\.set_mesh\(mesh\)`"):
        inside(population)


def test_under_jit_the_mesh_in_use_counts():
    algorithm = ALGORITHMS["lowrank-es"](pop_size=8)
    population, _ = core.ask(algorithm, KEY, core.init(algorithm, KEY, weights()))
    expected = evaluate(loss, weights(), population, BATCH)
    score = jax.jit(lambda p, batch: evaluate(loss, weights(), p, batch))
    with mesh.use(mesh_of(pop=4)):
        found = score(*mesh.place((population, BATCH)))
        assert found.sharding.device_set == {*mesh_of(pop=4).devices.flat}
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def two_processes(command, folder, **variables):
    """Both of a command's processes, one after the other in the result: errors and what is shown.

    Their output goes to files: a full pipe that nobody reads would stop both.
    """
    both = []
    for rank in range(2):
        shown, told = (folder / f"{rank}.{kind}" for kind in ("out", "err"))
        with shown.open("w") as out, told.open("w") as err:
            own = {name: value.format(rank=rank) for name, value in variables.items()}
            # As `conftest.py` has it: most of the time goes into compiling.
            env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
            env |= own
            line = [sys.executable, *(str(word).format(rank=rank) for word in command)]
            both.append((subprocess.Popen(line, stdout=out, stderr=err, env=env), shown, told))
    codes = [process.wait(timeout=300) for process, *_ in both]
    assert codes == [0, 0], [told.read_text()[-3000:] for *_, told in both]
    return [(shown.read_text(), told.read_text()) for _, shown, told in both]


@pytest.mark.slow
def test_two_processes_find_what_one_finds(alone, tmp_path):
    script = Path(__file__).with_name("spread.py")
    found = tmp_path / "{rank}.json"
    two_processes([script, f"127.0.0.1:{_free_port()}", "{rank}", found], tmp_path)
    for rank in range(2):
        outcomes = json.loads(Path(str(found).format(rank=rank)).read_text())
        for name, expected in alone.items():
            for what, values in expected.items():
                np.testing.assert_allclose(outcomes[name][what], values, rtol=2e-5, atol=1e-6)


def test_tune_in_two_processes_writes_what_one_writes(tmp_path, monkeypatch, capfd):
    """As Open MPI starts them; each process holds half of every large weight."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "model", num_hidden_layers=1)
    Path("text.txt").write_text("A hat was lost near the old inn, and all were asked for it. " * 30)
    line = "tune --algorithm lowrank-es --model model --data text.txt --length 16 --rows 2 --json"
    line += " --space full --pop-size 8 --generations 3 --out"
    assert cli.main([*line.split(), "one"]) == 0
    expected = json.loads(capfd.readouterr().out)
    cluster = {
        "OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:1",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "{rank}",
        "OMPI_COMM_WORLD_LOCAL_RANK": "{rank}",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}",
    }
    command = ["-m", "jaxgfo.cli", *line.split(), "two", "--distributed", "--model-shards", "2"]
    (first, told), (second, silent) = two_processes(command, tmp_path, **cluster)
    found = json.loads(first.splitlines()[-1])
    assert "{" not in second
    assert "perplexity" not in silent
    assert "on each of 2 devices" in told
    assert (found["devices"], found["out"], found["stopped"]) == (2, "two", "generations")
    for figure in ("train_before", "train_after", "perplexity_before", "perplexity_after"):
        np.testing.assert_allclose(found[figure], expected[figure], rtol=1e-5)
    assert not os.path.exists("runs")
    one, two = (jaxgfo.load_model(folder).params for folder in ("one", "two"))
    tree_close(one, two)


def tree_close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


def _free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
