"""Perplexity: exp of the mean negative log-likelihood of a token, in nats."""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..core import Params

CHUNK_LOGITS = 2**22  # logits held at a time (16 MiB of fp32) where no chunk is given


class Batch(NamedTuple):
    """Rows of tokens and which of them are predicted.

    Padded rows: mask out the padding (on the right). Packed rows: mask out tokens that have
    nothing to do with what stands before them. The first token of a row is never predicted.
    """

    tokens: Int[Array, "batch length"]
    mask: Bool[Array, "batch length"]


@dataclass(frozen=True)
class MeanNLL:
    """Objective: mean negative log-likelihood per predicted token of a batch, in nats.

    Every token counts the same, however the batch is cut into rows. Cross-entropy is computed a
    chunk of positions at a time, so the full logits (batch, length, vocab) are never held, and
    accumulated in fp32 (fp64 under x64) whatever the model's dtype.

    Attributes:
        model: what `jaxgfo.load_model` gives; or an object with `features(params, tokens)` (batch,
            length, hidden) and `logits(params, features)` (..., vocab); or any function
            `apply(params, tokens)` -> logits (batch, length, vocab), which is called a few rows at
            a time instead.
        chunk_size: positions (or rows of a plain function) at a time; None: as many as keep the
            logits below 2**22 numbers.
    """

    model: Any
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could not score anything; keep the functions of a model, not its weights."""
        object.__setattr__(self, "model", getattr(self.model, "decoder", self.model))
        if not callable(self.model) and not hasattr(self.model, "features"):
            raise TypeError(
                "MeanNLL needs a function apply(params, tokens) -> logits, or a model with "
                f"features and logits; got {type(self.model).__name__}"
            )
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ValueError(f"chunk_size is {self.chunk_size}; expected at least 1")

    def __call__(self, params: Params, batch: Batch) -> Float[Array, ""]:
        """The mean over the batch; NaN where nothing is predicted."""
        total, count = self.sums(params, batch)
        return total / count

    def sums(self, params: Params, batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Negative log-likelihood in nats, and how many tokens it is the sum of."""
        mask = batch.mask[:, 1:]
        score = self._by_position if hasattr(self.model, "features") else self._by_row
        total = score(params, batch.tokens, mask)
        return total, jnp.sum(mask, dtype=total.dtype)

    def _by_position(self, params: Params, tokens: Array, mask: Array) -> Array:
        # All positions are run, the last one too: how a model places tokens may depend on how many
        # there are.
        features = self.model.features(params, tokens)[:, :-1]
        width = features.shape[-1]
        flat = (features.reshape(-1, width), tokens[:, 1:].reshape(-1), mask.reshape(-1))

        def nll(features, targets, mask):
            return _nll(self.model.logits(params, features), targets, mask)

        vocab = jax.eval_shape(lambda x: self.model.logits(params, x), flat[0]).shape[-1]
        return _summed(nll, flat, self.chunk_size or max(1, CHUNK_LOGITS // vocab))

    def _by_row(self, params: Params, tokens: Array, mask: Array) -> Array:
        def nll(tokens, mask):
            return _nll(self.model(params, tokens)[:, :-1], tokens[:, 1:], mask)

        vocab = jax.eval_shape(self.model, params, tokens).shape[-1]
        row = vocab * tokens.shape[1]
        return _summed(nll, (tokens, mask), self.chunk_size or max(1, CHUNK_LOGITS // row))


def perplexity(
    model: Any, params: Params, batches: Batch | Iterable[Batch], *, chunk_size: int | None = None
) -> float:
    """exp(mean NLL) of all predicted tokens of the batches together.

    Raises:
        ValueError: no token is predicted in any of them.
    """
    objective = MeanNLL(model, chunk_size)
    total = count = 0.0
    for batch in [batches] if isinstance(batches, Batch) else batches:
        nll, tokens = sums(objective, params, batch)
        total, count = total + float(nll), count + float(tokens)
    if not count:
        raise ValueError("no token is predicted: every mask is False after the first position")
    mean = total / count
    return math.inf if mean > 700 else math.exp(mean)


@functools.partial(jax.jit, static_argnums=0)
def sums(
    objective: MeanNLL, params: Params, batch: Batch
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What `perplexity` compiles; see `MeanNLL.sums`."""
    return objective.sums(params, batch)


def _nll(logits: Array, targets: Int[Array, "..."], mask: Bool[Array, "..."]) -> Float[Array, ""]:
    logits = logits.astype(jnp.result_type(float))
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    nll = jax.nn.logsumexp(logits, axis=-1) - chosen
    return jnp.sum(jnp.where(mask, nll, 0.0))


def _summed(f: Callable[..., Array], arrays: tuple[Array, ...], chunk_size: int) -> Array:
    """Sum of f over chunks of the leading axis; the last chunk is filled with zeros."""
    length = arrays[0].shape[0]
    chunks = -(-length // chunk_size)
    if chunks <= 1:
        return f(*arrays)
    size = -(-length // chunks)

    def split(x):
        padding = [(0, chunks * size - length)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(chunks, size, *x.shape[1:])

    # Rematerialised, so that a gradient does not hold the logits of all chunks either.
    def body(total, chunk):
        return total + jax.checkpoint(f)(*chunk), None

    start = jnp.zeros((), jnp.result_type(float))
    return jax.lax.scan(body, start, jax.tree.map(split, arrays))[0]
