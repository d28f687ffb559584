"""A run that is repeated over devices and processes; as a script, one of two processes."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxgfo import REGISTRY, run

ALGORITHMS = {name: REGISTRY[name] for name in ("openes", "lowrank-es", "de")}
# Not on a device: a process may not touch one before it knows the other.
BATCH = tuple(np.random.default_rng(i).normal(size=(6, 8)).astype(np.float32) for i in range(2))


def weights():
    """Two layers whose kernels divide among eight devices."""
    draw = np.random.default_rng(2).normal
    return {
        "in": {"kernel": jnp.asarray(draw(size=(8, 32)), jnp.float32), "bias": jnp.zeros(32)},
        "out": {"kernel": jnp.asarray(draw(size=(32, 8)) / 6, jnp.float32), "bias": jnp.zeros(3)},
    }


def loss(params, batch):
    """Mean squared error of two layers."""
    x, y = batch
    hidden = jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"])
    return jnp.mean(
        jnp.square(hidden @ params["out"]["kernel"] + jnp.sum(params["out"]["bias"]) - y)
    )


def outcome(name, mesh, split=False):
    """Fitness, best candidate and state after three generations, as lists."""
    params = weights()
    if split:
        kernel = NamedSharding(mesh, PartitionSpec(None, "model"))
        params["in"]["kernel"] = jax.device_put(params["in"]["kernel"], kernel)
    result = run(
        ALGORITHMS[name](pop_size=7),
        params,
        loss,
        BATCH,
        key=jax.random.key(3),
        num_generations=3,
        mesh=mesh,
    )
    return {
        "best": [g.best for g in result.history],
        "mean": [g.mean for g in result.history],
        "params": _numbers(result.params),
        "state": _numbers(result.state),
    }


def _numbers(values):
    return [float(x) for leaf in jax.tree.leaves(values) for x in np.asarray(_all(leaf)).ravel()]


def _all(leaf):
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    return jax.jit(lambda x: x, out_shardings=NamedSharding(leaf.sharding.mesh, PartitionSpec()))(
        leaf
    )


if __name__ == "__main__":
    jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
    both = jax.make_mesh((2,), ("pop",), axis_types=(AxisType.Auto,))
    found = json.dumps({name: outcome(name, both) for name in ALGORITHMS})
    Path(sys.argv[3]).write_text(found)
