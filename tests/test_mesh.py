"""Loading onto a mesh of simulated devices, and saving from there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import CONFIG, random_tensors, write
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding
from problems import assert_equal
from safetensors.numpy import load_file

from jaxgfo import load_model, save_model, tree

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 512, (2, 16)), jnp.int32)
SPLIT = {  # path -> shape of the part that one of two devices holds
    "embed.embedding": (256, 12),
    "head.kernel": (12, 256),
    "layers.*.attention.query.kernel": (2, 12, 12),
    "layers.*.attention.key.kernel": (2, 12, 6),
    "layers.*.attention.value.kernel": (2, 12, 6),
    "layers.*.attention.out.kernel": (2, 12, 12),
    "layers.*.mlp.gate.kernel": (2, 12, 10),
    "layers.*.mlp.up.kernel": (2, 12, 10),
    "layers.*.mlp.down.kernel": (2, 10, 12),
}


def mesh_of(**axes):
    kinds = (jax.sharding.AxisType.Auto,) * len(axes)
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=kinds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("mesh") / "model")


@pytest.fixture(scope="module")
def plain(folder):
    return load_model(folder)


@pytest.mark.parametrize("axes", [{"model": 2}, {"pop": 4, "model": 2}, {"model": 2, "pop": 2}])
def test_large_weights_are_split_over_the_model_axis(folder, plain, axes, tmp_path):
    mesh = mesh_of(**axes)
    model = load_model(folder, sharding=mesh)
    assert_equal(jax.device_get(model.params), jax.device_get(plain.params))
    for path, leaf in tree.flat_paths(model.params).items():
        assert set(leaf.sharding.device_set) == set(mesh.devices.flat)
        shapes = {shard.data.shape for shard in leaf.addressable_shards}
        assert shapes == {SPLIT.get(path, leaf.shape)}, path
    logits = jax.jit(model.apply)(model.params, TOKENS)
    np.testing.assert_allclose(logits, plain.apply(plain.params, TOKENS), rtol=1e-4, atol=1e-4)
    before = load_file(folder / "model.safetensors")
    after = load_file(save_model(model, model.params, tmp_path / "saved") / "model.safetensors")
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


def test_what_does_not_divide_is_on_all_devices(folder, plain):
    model = load_model(folder, sharding=mesh_of(model=8), dtype="bfloat16")
    flat = tree.flat_paths(model.params)
    shapes = {path: leaf.addressable_shards[0].data.shape for path, leaf in flat.items()}
    assert shapes["embed.embedding"] == (64, 12)
    assert shapes["layers.*.attention.query.kernel"] == (2, 12, 3)
    assert shapes["layers.*.mlp.up.kernel"] == (2, 12, 20)  # 20 outputs over 8 devices
    assert {leaf.dtype for leaf in flat.values()} == {jnp.dtype("bfloat16")}
    cast = jax.tree.map(lambda x: x.astype(jnp.bfloat16), plain.params)
    assert_equal(jax.device_get(model.params), jax.device_get(cast))


def test_biases_are_split_like_the_outputs_they_belong_to(tmp_path):
    tensors = random_tensors()
    rows = {"q": 24, "k": 12, "v": 12, "o": 12}
    for i in range(CONFIG["num_hidden_layers"]):
        for name, size in rows.items():
            tensors[f"model.layers.{i}.self_attn.{name}_proj.bias"] = np.ones(size, np.float32)
    folder = write(tmp_path / "model", tensors, attention_bias=True)
    attention = load_model(folder, sharding=mesh_of(model=2)).params["layers"]["*"]["attention"]
    shapes = {n: attention[n]["bias"].addressable_shards[0].data.shape for n in attention}
    assert shapes == {"query": (2, 12), "key": (2, 6), "value": (2, 6), "out": (2, 12)}


@pytest.mark.parametrize("spec", [PartitionSpec(), SingleDeviceSharding])
def test_one_sharding_holds_for_all(folder, plain, spec):
    last = jax.devices()[-1]
    whole = spec is SingleDeviceSharding
    sharding = SingleDeviceSharding(last) if whole else NamedSharding(mesh_of(model=8), spec)
    params = load_model(folder, sharding=sharding).params
    assert {leaf.sharding for leaf in jax.tree.leaves(params)} == {sharding}
    assert_equal(jax.device_get(params), jax.device_get(plain.params))


def test_a_function_places_every_parameter(folder, plain):
    mesh, asked = mesh_of(model=2), {}
    split = NamedSharding(mesh, PartitionSpec("model"))

    def place(path, shape):
        asked[path] = shape
        return split if path.startswith("layers") else None

    params = load_model(folder, sharding=place).params
    flat = tree.flat_paths(params)
    assert asked == {path: leaf.shape for path, leaf in flat.items()}
    for path, leaf in flat.items():
        if path.startswith("layers"):
            assert leaf.sharding == split
        else:
            assert leaf.devices() == {jax.devices()[0]}
    assert_equal(jax.device_get(params), jax.device_get(plain.params))


def test_what_is_no_sharding_is_refused(folder):
    with pytest.raises(TypeError, match=r"expected a jax\.sharding\.Mesh, .* or a function .*str"):
        load_model(folder, sharding="model")
    message = r"the mesh has axes \('pop',\); expected one called 'model'"
    with pytest.raises(ValueError, match=message):
        load_model(folder, sharding=mesh_of(pop=8))
