"""The mirror of COCO's bbob functions against COCO; runtime distributions against a plain loop."""

import functools
import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parent.parent))

import jaxgfo
from benchmarks import bbob, bbob_runs, ecdf

REFERENCES = load_file(Path(__file__).parent / "references" / "bbob.safetensors")
INSTANCES = (1, 2, 101)


@functools.cache
def mirror(dim):
    with jax.enable_x64(True):
        return jax.jit(bbob.regret)


def mirrored(dim, function, instance, points):
    it = bbob.instance(function, instance, dim)
    with jax.enable_x64(True):
        return np.asarray(mirror(dim)(jnp.asarray(function, jnp.int32), it, points)) + it.lowest


@pytest.mark.parametrize("dim", [2, 5, 10])
def test_every_function_equals_coco_at_points_in_and_around_the_box(dim):
    points, values = REFERENCES[f"{dim}.points"], REFERENCES[f"{dim}.values"]
    ours = [[mirrored(dim, f, i, points) for i in INSTANCES] for f in range(1, 25)]
    # Weierstrass and Katsuura lose five digits to the large multiples of x in their waves.
    np.testing.assert_allclose(np.array(ours), values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dim", [2, 5])
def test_the_optimum_is_where_it_is_said_to_be(dim):
    for function in range(1, 25):
        it = bbob.instance(function, 3, dim)
        with jax.enable_x64(True):
            regret = mirror(dim)(jnp.asarray(function, jnp.int32), it, it.optimum[None])
        assert abs(float(regret[0])) < 1e-7, bbob.NAMES[function - 1]


@pytest.mark.skipif(importlib.util.find_spec("cocoex") is None, reason="needs coco-experiment")
def test_the_references_are_cocos():
    import cocoex

    for dim in (2, 5, 10):
        points = REFERENCES[f"{dim}.points"]
        for function in range(1, 25):
            wanted = f"dimensions: {dim} function_indices: {function}"
            problem = cocoex.Suite("bbob", "instances: 101", wanted).get_problem(0)
            values = REFERENCES[f"{dim}.values"][function - 1, 2]
            assert [problem(x) for x in points] == pytest.approx(list(values), rel=1e-12)


def test_hits_are_the_evaluations_of_a_plain_loop():
    regrets = 10.0 ** np.random.default_rng(0).uniform(-9, 4, 40)
    expected = [
        next((i + 1 for i, r in enumerate(regrets) if r <= target), np.inf)
        for target in ecdf.TARGETS
    ]
    np.testing.assert_array_equal(ecdf.hits(regrets), expected)
    assert ecdf.hits(np.full(5, np.nan)).tolist() == [np.inf] * 51


def test_area_is_the_mean_of_the_curve_over_log_evaluations():
    hits = np.array([1.0, 7.0, 90.0, 2000.0, np.inf])
    fine = np.geomspace(2, 2000, 200_001)
    share = np.mean(hits[:, None] <= fine, axis=0)
    assert ecdf.area(hits, 2, 2000) == pytest.approx(share[:-1].mean(), abs=1e-4)


@pytest.mark.parametrize("name", ["pso", "cma"])
def test_runs_count_evaluations_and_nothing_more(name):
    # CMA-ES starts again where it ends; others run instances side by side.
    search = jaxgfo.for_box(name, 2, jaxgfo.Bounds(-5.0, 5.0))
    with jax.enable_x64(True):
        hits = bbob_runs.hits(search, 1, 2, [1, 2], 600)
    assert hits.shape == (2, 51)
    assert np.all(hits[:, 1:] >= hits[:, :-1])
    assert np.all((hits <= 600) | np.isinf(hits))
    assert np.all(hits[:, 10] <= 100)  # within 1 of the sphere's optimum
