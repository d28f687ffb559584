"""Scaled dot-product attention with grouped heads, windows and soft caps.

Shapes: B batch, L queries, S keys, N heads, K key-value heads, H head_dim.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

ROWS, BLOCKS = 64, 4  # a block of queries has at least so many rows; at most so many blocks

Query = Float[Array, "B L N H"]
Keys = Float[Array, "B S K H"]


def causal(
    query: Query,
    key: Keys,
    value: Keys,
    *,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
) -> Query:
    """Every position mixes itself and those before it, `window` of them at most.

    On an accelerator this is `jax.nn.dot_product_attention`, in its cuDNN form where that applies.
    On a CPU (where it is slower, `python -m benchmarks decoder`) and with a cap (which it does not
    have) it is `masked` on blocks of queries, each with the keys that it can see.
    """
    if cap is None and jax.default_backend() != "cpu":
        return library(query, key, value, scale=scale, window=window)
    length = query.shape[1]
    rows = -(-length // min(BLOCKS, max(1, length // ROWS)))
    mixed = []
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        first = 0 if window is None else max(0, start - window + 1)
        mask = visible(jnp.arange(start, stop), jnp.arange(first, stop), window)
        seen = key[:, first:stop], value[:, first:stop]
        mixed.append(masked(query[:, start:stop], *seen, mask, scale=scale, cap=cap))
    return jnp.concatenate(mixed, axis=1)


def library(
    query: Query, key: Keys, value: Keys, *, scale: float, window: int | None = None
) -> Query:
    """`causal` as JAX has it."""
    local = None if window is None else (window - 1, 0)
    with jax.numpy_dtype_promotion("standard"):  # its softmax goes from bf16 to fp32 by itself
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            scale=scale,
            is_causal=True,
            local_window_size=local,
            implementation="cudnn" if _has_cudnn(query) else "xla",
        )


def masked(
    query: Query,
    key: Keys,
    value: Keys,
    mask: Bool[Array, "*batch L S"],
    *,
    scale: float,
    cap: float | None = None,
) -> Query:
    """Mix the values of the keys that `mask` shows, in fp32 between the products."""
    batch, length, heads, width = query.shape
    groups = key.shape[2]
    grouped = query.reshape(batch, length, groups, heads // groups, width)
    wide = {"preferred_element_type": jnp.float32}
    scores = jnp.einsum("blkgh,bskh->bkgls", grouped, key, **wide) * scale
    if cap is not None:
        scores = cap * jnp.tanh(scores / cap)
    if mask.ndim == 3:
        mask = mask[:, None, None]
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    # Divided last: there are fewer mixed values than weights.
    mixed = jnp.einsum("bkgls,bskh->bkglh", weights.astype(value.dtype), value, **wide)
    mixed = mixed / jnp.sum(weights, axis=-1, keepdims=True)
    order = mixed.transpose(0, 3, 1, 2, 4)
    return order.reshape(batch, length, heads, width).astype(query.dtype)


def visible(
    rows: Int[Array, "*batch L"], columns: Int[Array, " S"], window: int | Array | None
) -> Bool[Array, "*batch L S"]:
    """Whether the query at position `rows` sees the key at position `columns`."""
    behind = rows[..., None] - columns
    seen = behind >= 0
    return seen if window is None else seen & (behind < window)


def by_kind(kinds: list[Callable[..., Array]], kind: Int[Array, ""], *heads: Array) -> Array:
    """One of several kinds of attention, chosen at run time; compiled once each."""
    return kinds[0](*heads) if len(kinds) == 1 else jax.lax.switch(kind, kinds, *heads)


def _has_cudnn(query: Query) -> bool:
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    return half and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128 and _on_ampere()


@functools.cache
def _on_ampere() -> bool:
    """An NVIDIA GPU with the instructions that cuDNN's attention needs."""
    device = jax.devices()[0]
    capability = getattr(device, "compute_capability", "0")
    return (
        device.platform == "gpu"
        and capability.replace(".", "").isdigit()
        and (float(capability) >= 8)
    )
