"""Rotary position embeddings (Su et al., 2021, arXiv:2104.09864) and how they are stretched.

In the half-split layout of Hugging Face checkpoints: coordinates i and i + dim/2 are one pair.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

COMMON = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
STRETCHED = COMMON | {"factor", "original_max_position_embeddings"}
KEYS = {  # rope_type -> settings it understands
    "default": COMMON | {"original_max_position_embeddings"},
    "linear": STRETCHED,
    "dynamic": STRETCHED,
    "llama3": STRETCHED | {"low_freq_factor", "high_freq_factor"},
    "longrope": STRETCHED | {"attention_factor", "short_factor", "long_factor"},
    "yarn": STRETCHED
    | {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
}


@dataclass(frozen=True, kw_only=True)
class Rope:
    """One rotary embedding; hashable, so it may be part of a compile key.

    Attributes:
        frequencies: radians a position, for each pair of coordinates.
        scale: factor on cosine and sine ("attention factor").
        limit: tokens up to which `frequencies` hold; None: always.
        long: frequencies of sequences longer than `limit` ("longrope").
        dynamic: (theta, factor): beyond `limit` theta grows with the length ("dynamic").
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0
    limit: int | None = None
    long: tuple[float, ...] | None = None
    dynamic: tuple[float, float] | None = None

    @property
    def dim(self) -> int:
        """Coordinates of a head that are rotated: the first ones."""
        return 2 * len(self.frequencies)

    def table(
        self, positions: Int[Array, "..."], length: int | Int[Array, "..."]
    ) -> tuple[Float[Array, "... half"], Float[Array, "... half"]]:
        """Cosine and sine of every position, in a sequence of so many tokens."""
        angle = positions[..., None].astype(jnp.float32) * self._at(jnp.asarray(length))
        return jnp.cos(angle) * self.scale, jnp.sin(angle) * self.scale

    def _at(self, length: Int[Array, "..."]) -> Float[Array, "... half"]:
        usual = jnp.asarray(self.frequencies, jnp.float32)
        length = length[..., None]
        if self.long is not None:
            long = jnp.asarray(self.long, jnp.float32)
            return jnp.where(length > cast(int, self.limit), long, usual)
        if self.dynamic is not None:
            (theta, factor), limit = self.dynamic, cast(int, self.limit)
            ratio = jnp.maximum(length, limit).astype(jnp.float32) / limit
            grown = theta * (factor * ratio - (factor - 1)) ** (self.dim / (self.dim - 2))
            return grown ** (-jnp.arange(0, self.dim, 2, dtype=jnp.float32) / self.dim)
        return usual


def rotate(
    x: Float[Array, "B L heads H"],
    cos: Float[Array, "*batch L half"],
    sin: Float[Array, "*batch L half"],
) -> Float[Array, "B L heads H"]:
    """Turn the first 2 * half coordinates of every head; the others stay."""
    half = cos.shape[-1]
    cos, sin = (jnp.expand_dims(t, -2).astype(x.dtype) for t in (cos, sin))
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate([*turned, rest] if rest.shape[-1] else turned, axis=-1)


def from_parameters(
    parameters: Mapping[str, Any], head_dim: int, max_length: int, *, partial: bool = False
) -> Rope:
    """The rotary embedding that `rope_parameters` of a config.json describe.

    Args:
        parameters: the settings by name.
        head_dim: width of a head.
        max_length: the config's `max_position_embeddings`.
        partial: whether the family can rotate a part of a head only.

    Raises:
        ValueError: a rope_type or a setting that is not supported, by name.
    """
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind not in KEYS:
        raise ValueError(
            f"config.json: rope_type is {kind!r}; supported: {', '.join(map(repr, KEYS))}"
        )
    given = {name: value for name, value in parameters.items() if value is not None}
    if unknown := sorted(given.keys() - KEYS[kind]):
        raise ValueError(
            f"config.json: rope_parameters of type {kind!r} have {', '.join(unknown)}, which is "
            "not supported"
        )
    share = given.get("partial_rotary_factor", 1.0)
    if share != 1 and not partial:
        raise ValueError(
            f"config.json: partial_rotary_factor is {share!r}, which transformers does not apply "
            "in this family; supported: 1.0"
        )
    dim = int(head_dim * share)
    usual = given["rope_theta"] ** (-np.arange(0, dim, 2) / dim)
    return FROM[kind](usual, given, max_length)


def _default(usual: np.ndarray, given: Mapping[str, Any], max_length: int) -> Rope:
    return Rope(frequencies=_floats(usual))


def _linear(usual: np.ndarray, given: Mapping[str, Any], max_length: int) -> Rope:
    # Chen et al. (2023), arXiv:2306.15595.
    return Rope(frequencies=_floats(usual / _need(given, "factor")))


def _dynamic(usual: np.ndarray, given: Mapping[str, Any], max_length: int) -> Rope:
    dynamic = (float(given["rope_theta"]), float(_need(given, "factor")))
    return Rope(frequencies=_floats(usual), limit=max_length, dynamic=dynamic)


def _llama3(usual: np.ndarray, given: Mapping[str, Any], max_length: int) -> Rope:
    # Slow pairs are stretched by factor, fast ones not at all, those between in between.
    factor, old = _need(given, "factor"), given.get("original_max_position_embeddings", max_length)
    low, high = _need(given, "low_freq_factor"), _need(given, "high_freq_factor")
    turns = old * usual / (2 * math.pi)  # in the old context
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return Rope(frequencies=_floats((1 - smooth) * usual / factor + smooth * usual))


def _yarn(usual: np.ndarray, given: Mapping[str, Any], max_length: int) -> Rope:
    # Peng et al. (2023), arXiv:2309.00071.
    old = given.get("original_max_position_embeddings", max_length)
    factor = given.get("factor") or max_length / old
    dim, theta = 2 * usual.size, given["rope_theta"]

    def pair(turns):  # which makes so many turns in the old context
        return dim * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair(given.get("beta_fast") or 32), pair(given.get("beta_slow") or 1)
    if given.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    stretched = np.clip((np.arange(usual.size) - low) / max(high - low, 1e-3), 0, 1)
    frequencies = stretched * usual / factor + (1 - stretched) * usual

    def temperature(weight):
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    scale = given.get("attention_factor")
    if scale is None:
        one, all_dims = given.get("mscale"), given.get("mscale_all_dim")
        both = one and all_dims
        scale = temperature(one) / temperature(all_dims) if both else temperature(1)
    return Rope(frequencies=_floats(frequencies), scale=float(scale))


def _longrope(usual: np.ndarray, given: Mapping[str, Any], max_length: int) -> Rope:
    # Ding et al. (2024), arXiv:2402.13753.
    old = given.get("original_max_position_embeddings", max_length)
    factor = given.get("factor") or max_length / old
    scale = given.get("attention_factor")
    if scale is None:
        scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(old))
    short, long = (
        usual / np.asarray(_need(given, f"{name}_factor"), np.float64) for name in ("short", "long")
    )
    return Rope(frequencies=_floats(short), scale=float(scale), limit=old, long=_floats(long))


FROM = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}


def _need(given: Mapping[str, Any], name: str) -> Any:
    if name not in given:
        raise ValueError(f"config.json: rope_parameters lack {name}")
    return given[name]


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
