"""A population over many devices: members lie along the mesh's axis "pop".

Between devices along that axis travel fitness values and, for the sum of an evolution strategy, one
array of the parameters' size. What lies along other axes, "model" for one, is JAX's own affair: it
follows where the arrays are.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from .core import Params

POP, MODEL = "pop", "model"


def use(mesh: Mesh | None) -> Any:
    """A context in which evaluation and updates are spread over the mesh; None: no other than now.

    Raises:
        ValueError: a mesh without an axis "pop".
    """
    if mesh is None:
        return contextlib.nullcontext()
    if POP not in mesh.shape:
        raise ValueError(f"the mesh has axes {mesh.axis_names}; expected one called {POP!r}")
    # Rows of what is sharded are looked up freely: types that name the sharding would refuse that.
    automatic = (AxisType.Auto,) * len(mesh.axis_names)
    return jax.set_mesh(Mesh(mesh.devices, mesh.axis_names, axis_types=automatic))


def over(num_devices: int | None = None, model_shards: int = 1) -> Mesh:
    """A mesh ("pop", "model") of some devices, those of other processes among them.

    Args:
        num_devices: None: all.
        model_shards: devices that large weights are split over; neighbours, of one process if it
            has as many.

    Raises:
        ValueError: more devices than there are, or a number that model_shards does not divide.
    """
    there = jax.devices()
    count = len(there) if num_devices is None else num_devices
    if not 1 <= count <= len(there):
        raise ValueError(f"{count} devices are asked for; expected 1 to {len(there)}")
    if model_shards < 1 or count % model_shards:
        raise ValueError(f"{count} devices cannot be divided into shards of {model_shards}")
    axes = (count // model_shards, model_shards)
    return Mesh(np.asarray(there[:count]).reshape(axes), (POP, MODEL))


def place(values: Any) -> Any:
    """Arrays on all devices of the mesh in use, as copies, unless they lie there already."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return values
    devices = {*mesh.devices.flat}

    def leaf(x):
        if not isinstance(x, jax.Array) or x.sharding.device_set != devices:
            return _copied(x, NamedSharding(mesh, PartitionSpec()))
        if isinstance(x.sharding, NamedSharding) and x.sharding.mesh != mesh:
            return jax.device_put(x, NamedSharding(mesh, x.sharding.spec))
        return x

    return jax.tree.map(leaf, values)


def _copied(x: Any, everywhere: NamedSharding) -> Array:
    if jax.process_count() == 1:
        return jax.device_put(x, everywhere)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = _copied(jax.random.key_data(x), everywhere)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, everywhere, lambda index: host[index])


def shards() -> int:
    """Devices along the axis "pop" of the mesh in use; 1 where there is none.

    Raises:
        ValueError: the axis has type Explicit, which refuses to look up rows of a sharded array.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if POP not in mesh.shape:
        return 1
    if dict(zip(mesh.axis_names, mesh.axis_types))[POP] == AxisType.Explicit:
        raise ValueError(
            f"axis {POP!r} of the mesh in use has type Explicit; make the mesh with "
            "axis_types=(jax.sharding.AxisType.Auto,) * its axes, or give it to `evaluate` or `run`"
        )
    return mesh.shape[POP]


def spread(function: Callable[[Any, Any], Array], rows: Any, shared: Any) -> Array:
    """function(rows, shared), each device with its part of the rows; the result on all of them.

    Args:
        function: (n rows, shared) -> (k * n,), for any n.
        rows: leaves (n, ...).
        shared: any pytree, known to all devices.
    """
    count, parts = jax.tree.leaves(rows)[0].shape[0], shards()
    if parts == 1:
        return function(rows, shared)
    extra = -count % parts

    def pad(x):
        return jnp.concatenate([x, jnp.broadcast_to(x[-1:], (extra, *x.shape[1:]))])

    rows = jax.tree.map(pad, rows) if extra else rows

    def local(rows, shared):
        return jax.lax.all_gather(function(rows, shared), POP, tiled=True)

    specs = (PartitionSpec(POP), PartitionSpec())
    found = _manual(local, specs, PartitionSpec())(rows, shared)
    return found[: found.shape[0] * count // (count + extra)]


def total(
    function: Callable[[Int[Array, " n"], Float[Array, " n"], Any], Params],
    factors: Float[Array, " noises"],
    population: Any,
) -> Params:
    """function(which, factors, population), a sum over noises: each device does its part.

    Each leaf of the result lies along "pop" on its first axis that divides; see `whole`.
    """
    parts = shards()
    which = jnp.arange(factors.shape[0])
    if parts == 1:
        return function(which, factors, population)
    rest = (0, -factors.shape[0] % parts)
    which, factors = jnp.pad(which, rest), jnp.pad(factors, rest)

    def local(which, factors, population):
        return jax.tree.map(_reduced, function(which, factors, population))

    specs = (PartitionSpec(POP), PartitionSpec(POP), PartitionSpec())
    out = jax.tree.map(_spec, population.center)
    return _manual(local, specs, out)(which, factors, population)


def whole(values: Params) -> Params:
    """Leaves that lie along "pop", as `total` leaves them, on all devices."""
    if shards() == 1:
        return values

    def leaf(x, axis):
        return x if axis is None else jax.lax.all_gather(x, POP, axis=axis, tiled=True)

    leaves, treedef = jax.tree.flatten(values)
    axes = [_axis(x) for x in leaves]
    gather = _manual(
        lambda leaves: [leaf(x, axis) for x, axis in zip(leaves, axes)],
        ([_spec(x) for x in leaves],),
        PartitionSpec(),
    )
    return treedef.unflatten(gather(leaves))


def split(values: Any) -> Any:
    """Leaves kept along "pop" as `total` leaves them, whatever else they lie along."""
    if shards() == 1:
        return values
    free = PartitionSpec.UNCONSTRAINED

    def leaf(x):
        axis = _axis(x)
        spec = [POP if i == axis else free for i in range(jnp.ndim(x))]
        return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))

    return jax.tree.map(leaf, values)


def _axis(x: Any) -> int | None:
    """The first axis that can be divided among the devices."""
    found = [i for i, n in enumerate(jnp.shape(x)) if n and n % shards() == 0]
    return found[0] if found else None


def _spec(x: Any) -> PartitionSpec:
    axis = _axis(x)
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, POP)


def _reduced(x: Array) -> Array:
    axis = _axis(x)
    if axis is None:
        return jax.lax.psum(x, POP)
    return jax.lax.psum_scatter(x, POP, scatter_dimension=axis, tiled=True)


def _manual(f: Any, in_specs: Any, out_specs: Any) -> Any:
    """f seen from one device along "pop", while other axes stay with the compiler."""
    return jax.shard_map(
        f, in_specs=in_specs, out_specs=out_specs, axis_names={POP}, check_vma=False
    )
