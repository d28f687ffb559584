"""Random numbers as `jax.random` draws them, number for number, and many times as fast on a CPU.

JAX runs the rounds of threefry2x32 there as a loop over arrays, which is written and read anew in
every round and which nothing is fused into. Written out, they are a few vector instructions in the
loop that uses the number.
Elsewhere, with other generators and for other widths, `jax.random` is called.

Reference: Salmon, Moraes, Dror & Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3",
doi:10.1145/2063384.2063405.
"""

import functools
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
# So few are drawn apart: a number for every member would else be drawn again for every coordinate.
FEW = 2**12


def split(key: Array, count: int = 2) -> Array:
    """As many independent keys."""
    if not _written_out(key, (count,), jnp.uint32):
        return jax.random.split(key, count)
    return _split(key, count)


def fold_in(key: Array, number: Any) -> Array:
    """The key that belongs to this number, an integer of 32 bits."""
    if not _written_out(key, (), jnp.uint32):
        return jax.random.fold_in(key, number)
    return _fold_in(key, jnp.asarray(number).astype(jnp.uint32))


def bits(key: Array, shape: tuple[int, ...], dtype: Any = jnp.uint32) -> UInt[Array, "..."]:
    """Random words of 8, 16 or 32 bits."""
    if not _written_out(key, shape, dtype):
        return jax.random.bits(key, shape, dtype)
    return _bits(key, shape).astype(dtype)


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


def normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "..."]:
    """Standard normal."""
    if not _written_out(key, shape, dtype):
        return jax.random.normal(key, shape, dtype)
    low = jnp.nextafter(jnp.float32(-1), jnp.float32(0))
    u = jnp.maximum(low, _fraction(bits(key, shape)) * (1 - low) + low)
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


# Each a program of its own where nothing else is compiled around it, as in `jax.random`.
@functools.partial(jax.jit, static_argnums=1)
def _split(key: Array, count: int) -> Array:
    return _key(key, lax.broadcast_in_dim(_counts((count,)), (count, 2), (0,)))


@jax.jit
def _fold_in(key: Array, number: Array) -> Array:
    return _key(key, jnp.broadcast_to(number, (2,)))


@functools.partial(jax.jit, static_argnums=1)
def _bits(key: Array, shape: tuple[int, ...]) -> Array:
    first, second = _words(key, _counts(shape))
    words = first ^ second
    return _apart(key, words) if math.prod(shape) <= FEW else words


def _data(key: Array) -> Array:
    return jax.random.key_data(key) if _typed(key) else key


def _key(key: Array, counts: Array) -> Array:
    """The keys that belong to counts (..., 2), each of them twice."""
    # Both words of a key from one expression: compiled in half the time of two in a `jnp.stack`.
    place = lax.broadcasted_iota(jnp.uint32, counts.shape, counts.ndim - 1)
    words = _apart(key, jnp.where(place == 0, *_words(key, counts)))
    return jax.random.wrap_key_data(words, impl="threefry2x32") if _typed(key) else words


def _counts(shape: tuple[int, ...]) -> Array:
    return lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)


def _words(key: Array, counts: Array) -> tuple[Array, Array]:
    data = _data(key)
    return _threefry2x32(data[0], data[1], jnp.zeros_like(counts), counts)


def _apart(key: Array, words: Array) -> Array:
    """The same words, in an array of their own.

    XLA fuses what is cheap into all that reads it, be it read once for every coordinate, and
    through an `optimization_barrier` too; but not a division by what may be any number. This one
    is 1, as LLVM knows: a word has at most 32 leading zeros.
    """
    one = 1 + (lax.clz(_data(key)[0]) >> 6)
    return lax.div(words, jnp.broadcast_to(one, words.shape))


def _written_out(key: Array, shape: tuple[int, ...], dtype: Any) -> bool:
    name, config = "threefry2x32", cast(Any, jax.config)
    raw = config.jax_default_prng_impl == name
    return (
        jax.default_backend() == "cpu"
        and config.jax_threefry_partitionable
        and jnp.dtype(dtype) in (jnp.float32, jnp.uint32, jnp.uint16, jnp.uint8)
        and 0 < math.prod(shape) < 2**32
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
