"""Noise that is never stored: it is drawn again wherever it is needed, and is the same there."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from . import draws
from .core import Key

Kind = Literal["normal", "signs", "table"]
Generator = Literal["threefry2x32", "threefry4x32", "rbg", "unsafe_rbg"]
WORDS = {"threefry2x32": 2, "threefry4x32": 4, "rbg": 4, "unsafe_rbg": 4}  # of a key
LARGEST = 127  # of int8 numbers that have an opposite
TABLE, BLOCK = 2**20, 2**12  # numbers in a table, and of them those copied at a time


@dataclasses.dataclass(frozen=True)
class Noise:
    """How noise of mean 0 and variance 1 is made; hashable, so it may be part of a compile key.

    `normal` numbers are the textbook's. `signs` are +1 or -1 with equal chance (Rademacher), 32 of
    them from one random word. `table`: a table of 2**20 normal numbers is drawn anew for every
    generation, and blocks of it are copied from random places (Salimans et al., 2017,
    arXiv:1703.03864, section 2.1): numbers of one member repeat, not those of two members in the
    same place, but for one chance in a million.

    `rbg` and `unsafe_rbg` give other numbers when mapped, so they are drawn one key at a time.

    Attributes:
        kind: `normal`, `signs` or `table`.
        generator: of `jax.random` the one that random words come from.

    Raises:
        ValueError: an unknown kind or generator, or one that this JAX does not have.
    """

    kind: Kind = "normal"
    generator: Generator = "threefry2x32"

    def __post_init__(self) -> None:
        """Check both names; JAX 0.10.0 lacks one of the generators."""
        for name, allowed in (("kind", Kind), ("generator", Generator)):
            value = getattr(self, name)
            if value not in get_args(allowed):
                listed = ", ".join(map(repr, get_args(allowed)))
                raise ValueError(f"noise: {name} is {value!r}; choose one of {listed}")
        if self.generator == "threefry4x32":
            try:
                jax.eval_shape(lambda: jax.random.key(0, impl="threefry4x32"))
            except ValueError as error:
                raise ValueError(
                    f"noise: JAX {jax.__version__} has no generator 'threefry4x32'; upgrade it, or "
                    "choose 'threefry2x32'"
                ) from error

    def table(self, key: Key) -> Float[Array, " table"] | None:
        """What `draw` copies from, where it does."""
        if self.kind != "table":
            return None
        return Noise("normal", self.generator).draw(key, (TABLE,), None)

    def draw(
        self, key: Key, shape: tuple[int, ...], table: Float[Array, " table"] | None
    ) -> Float[Array, "..."]:
        """Noise of this shape in fp32, the same for the same key.

        Args:
            key: for this noise alone; best of the generator threefry2x32, see `root`.
            shape: of the result.
            table: what `table` gave for all noise of a generation.
        """
        return self._made(key, shape, table, None)

    def steps(
        self,
        key: Key,
        shape: tuple[int, ...],
        table: Float[Array, " table"] | None,
        scale: Float[Array, ""],
    ) -> Int8[Array, "..."]:
        """scale * noise in whole steps from -127 to 127, the same for the same key.

        Each is rounded up or down at random, so that the mean is right: floor(scale * noise + u), u
        uniform among the 256 odd multiples of 1/512.

        Args:
            key, shape, table: as in `draw`.
            scale: what it makes larger than 127 is cut off.
        """
        return self._made(key, shape, table, scale)

    def _made(self, key: Key, shape: tuple[int, ...], table: Any, scale: Any) -> Array:
        """What `draw` gives, or with a scale `steps`."""
        size, number = math.prod(shape), WORDS[self.generator]
        half = -(-size // 2)

        def made(words, table, scale):
            key = jax.random.wrap_key_data(words[:number], impl=self.generator)
            if self.kind == "signs":
                noise = _signs(key, half)
            elif table is not None:
                noise = _copied(key, half, table)
            else:
                noise = draws.normal(key, (half,))
            if scale is None:
                return noise
            return _rounded(
                jax.random.wrap_key_data(words[number:], impl=self.generator), noise, scale
            )

        if not size:
            return jnp.zeros(shape, jnp.float32 if scale is None else jnp.int8)
        if self.generator in ("rbg", "unsafe_rbg"):
            # What it reads are arguments: it may not close over what is being traced.
            made = jax.custom_batching.sequential_vmap(made)
        words = draws.bits(key, (2, number if scale is None else 2 * number))
        # Two halves, so that there can be a loop. On a CPU, XLA fuses noise into all that reads it
        # and draws it again for every number read, behind an optimization_barrier too; but never
        # out of a loop.
        halves = in_turn(lambda words: made(words, table, scale), words)
        return halves.reshape(-1)[:size].reshape(shape)


def root(key: Key) -> Key:
    """A key of the generator threefry2x32, from any key.

    Keys are derived with it alone: chains of `fold_in` with threefry4x32 are fused on a CPU into a
    program whose time grows exponentially with their length.
    """
    words = draws.bits(key, (2,))
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def in_turn(f: Callable[[Any], Any], x: Any) -> Any:
    """f for every row: one after the other on a CPU, side by side elsewhere."""
    return jax.lax.map(f, x) if jax.default_backend() == "cpu" else jax.vmap(f)(x)


def _signs(key: Key, size: int) -> Float[Array, " size"]:
    words = jax.random.bits(key, (-(-size // 32),), jnp.uint32)
    # Fused with what follows, every word would be computed 32 times.
    words = jax.lax.optimization_barrier(words)
    sign = (words << jnp.arange(32, dtype=jnp.uint32)[:, None]) & jnp.uint32(0x80000000)
    one = jnp.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(sign | one, jnp.float32).reshape(-1)[:size]


def _copied(key: Key, size: int, table: Float[Array, " table"]) -> Float[Array, " size"]:
    block = min(size, BLOCK)
    places = jax.random.randint(key, (-(-size // block),), 0, table.shape[0] - block + 1)
    blocks = jax.vmap(lambda place: jax.lax.dynamic_slice(table, (place,), (block,)))(places)
    return blocks.reshape(-1)[:size]


def _rounded(key: Key, noise: Float[Array, " size"], scale: Array) -> Int8[Array, " size"]:
    chance = (draws.bits(key, noise.shape, jnp.uint8).astype(jnp.float32) + 0.5) / 256
    steps = jnp.floor(scale.astype(jnp.float32) * noise + chance)
    return jnp.clip(steps, -LARGEST, LARGEST).astype(jnp.int8)
