"""What the processes of a distributed run have to agree on."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def join() -> None:
    """Become one process of a distributed run, before anything else is done with JAX.

    JAX itself finds the others under SLURM, Open MPI, Kubernetes and on TPU pods.

    Raises:
        ValueError: there is none of these.
    """
    if jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise ValueError(
            f"JAX does not know of other processes ({error}); start this under SLURM, Open MPI, "
            "Kubernetes or on a TPU pod, or call jax.distributed.initialize in a script of your own"
        ) from error


def agreed(*flags: bool) -> list[bool]:
    """What the first process says, on all of them: clocks and signals differ."""
    if jax.process_count() == 1:
        return list(flags)
    return [bool(flag) for flag in multihost_utils.broadcast_one_to_all(np.array(flags))]


def least(value: int) -> int:
    """The lowest of what the processes of the mesh in use say: free memory differs."""
    if not getattr(jax.sharding.get_mesh(), "is_multi_process", False):
        return value
    return int(multihost_utils.process_allgather(np.float32(value)).min())


def on_host(values: Any) -> Any:
    """Arrays that any process can read: what lies on devices of others is gathered, on all."""

    def leaf(x):
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return x
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(leaf, values)
