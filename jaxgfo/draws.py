"""Random numbers as `jax.random` draws them, number for number, and many times as fast on a CPU.

JAX runs the rounds of threefry2x32 there as a loop over arrays, which is written and read anew in
every round and which nothing is fused into. Written out, they are a few vector instructions in the
loop that uses the number.
Elsewhere, with other generators and for other widths, `jax.random` is called.

Reference: Salmon, Moraes, Dror & Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3",
doi:10.1145/2063384.2063405.
"""

import math
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
# So few are drawn by `jax.random`, in a loop of its own, which nothing is fused out of: a number
# for every member would else be drawn again for every coordinate. So keys are split there too.
# `few` is less where what draws is in a loop already.
FEW = 2**12


def bits(
    key: Array, shape: tuple[int, ...], dtype: Any = jnp.uint32, few: int = FEW
) -> UInt[Array, "..."]:
    """Random words of 8, 16 or 32 bits."""
    if not _written_out(key, shape, dtype, few):
        return jax.random.bits(key, shape, dtype)
    first, second = _words(key, shape)
    return (first ^ second).astype(dtype)


def uniform(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "..."]:
    """Uniform on [0, 1)."""
    if not _written_out(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype)
    return _fraction(bits(key, shape))


def two_uniforms(
    key: Array, shape: tuple[int, ...]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two arrays, uniform on [0, 1) in steps of 2**-16: half of a random word each."""
    words = bits(key, shape)
    return _fraction(words & jnp.uint32(0xFFFF0000)), _fraction(words << 16)


def normal(
    key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32, few: int = FEW
) -> Float[Array, "..."]:
    """Standard normal."""
    if not _written_out(key, shape, dtype, few):
        return jax.random.normal(key, shape, dtype)
    low = jnp.nextafter(jnp.float32(-1), jnp.float32(0))
    u = jnp.maximum(low, _fraction(bits(key, shape, few=few)) * (1 - low) + low)
    return jnp.float32(math.sqrt(2)) * lax.erf_inv(u)


def coins(key: Array, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """Fair coins."""
    return uniform(key, shape) < 0.5


def integers(key: Array, shape: tuple[int, ...], count: int | Array) -> Int[Array, "..."]:
    """Uniform on 0 ... count - 1, in int32; these are not the numbers of `jax.random.randint`.

    Some are likelier than others by a share of count / 2**32; where that is more than 1 / 4096,
    `randint` is called, which compiles twice as long.
    """
    if isinstance(count, int) and count > 2**20:
        return jax.random.randint(key, shape, 0, count, jnp.int32)
    return (bits(key, shape) % jnp.asarray(count).astype(jnp.uint32)).astype(jnp.int32)


def _words(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    data = jax.random.key_data(key) if _typed(key) else key
    counts = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _threefry2x32(data[0], data[1], jnp.zeros_like(counts), counts)


def _written_out(key: Array, shape: tuple[int, ...], dtype: Any, few: int = FEW) -> bool:
    name, config = "threefry2x32", cast(Any, jax.config)
    raw = config.jax_default_prng_impl == name
    return (
        jax.default_backend() == "cpu"
        and config.jax_threefry_partitionable
        and jnp.dtype(dtype) in (jnp.float32, jnp.uint32, jnp.uint16, jnp.uint8)
        and few < math.prod(shape) < 2**32
        and (str(jax.random.key_impl(key)) == name if _typed(key) else raw)
    )


def _typed(key: Array) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _fraction(words: UInt[Array, "..."]) -> Float[Array, "..."]:
    """23 bits of a word, as a number in [0, 1)."""
    return lax.bitcast_convert_type((words >> 9) | jnp.uint32(0x3F800000), jnp.float32) - 1


def _threefry2x32(a: Array, b: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Twenty rounds on the counter (x, y) with the key (a, b)."""
    keys = (a, b, a ^ b ^ jnp.uint32(PARITY))
    x, y = x + a, y + b
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            x = x + y
            y = ((y << turn) | (y >> (32 - turn))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y
