"""The decoder in Flax NNX: embeddings, blocks under `scan`, a head.

Shapes: B batch, L length, D hidden_size, V vocab_size, E width of the embeddings (usually D),
S positions in a cache.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from . import attention
from .config import DecoderConfig
from .parts import Block, Embedding, Linear, Norm
from .rope import rotate

STACK = "*"  # in a path: the leading axis of the arrays below counts the layers
UNLIMITED = np.iinfo(np.int32).max


class Cache(NamedTuple):
    """Keys and values of the positions seen so far; a position's place is its number."""

    keys: Float[Array, "layers B S K H"]
    values: Float[Array, "layers B S K H"]


class _Layer(NamedTuple):
    """What differs from layer to layer beside the parameters; scanned over with them."""

    index: Array  # which layer
    kind: Array  # which kind of attention
    window: Array  # keys that a query sees
    rope: Array  # which rotary table
    scale: Array  # further factor on the scores


class Transformer(nnx.Module):
    """Tokens to logits. `features` and `logits` are its two halves, so that a loss can work in
    chunks and never hold (B, L, V); `prefill` and `step` are `features` with a cache.
    """

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        size, width = config.hidden_size, config.embed_size or config.hidden_size
        self.embed = Embedding(config.vocab_size, width, config, rngs=rngs)
        if config.positions:
            self.positions = Embedding(config.positions, size, config, rngs=rngs)
        if config.embed_size:
            self.project_in = Linear(width, size, False, config, rngs=rngs)
            self.project_out = Linear(size, width, False, config, rngs=rngs)

        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap
        def stack(rngs):
            return Block(config, rngs=rngs)

        self.layers = nnx.Dict({STACK: stack(rngs)})
        if config.final_norm:
            self.norm = Norm(config, size)
        if not config.tied:
            self.head = Linear(width, config.vocab_size, False, config, rngs=rngs)

    def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L V"]:
        """Logits (batch, length, vocab) in fp32."""
        return self.logits(self.features(tokens))

    def features(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L E"]:
        """What the head reads."""
        return self._forward(tokens, jnp.asarray(tokens.shape[1]), keep=False)[0]

    def prefill(
        self, tokens: Int[Array, "B L"], lengths: Int[Array, " B"], size: int
    ) -> tuple[Float[Array, "B L E"], Cache]:
        """`features` of rows padded on the right, and a cache with room for `size` positions."""
        x, (keys, values) = self._forward(tokens, lengths[:, None], keep=True)
        room = [(0, 0), (0, 0), (0, size - tokens.shape[1]), (0, 0), (0, 0)]
        return x, Cache(jnp.pad(keys, room), jnp.pad(values, room))

    def step(
        self, tokens: Int[Array, " B"], positions: Int[Array, " B"], cache: Cache
    ) -> tuple[Float[Array, "B E"], Cache]:
        """`features` of one more token in every row, which takes its place in the cache."""
        config, rows = self.config, jnp.arange(tokens.shape[0])
        x = self._embedded(tokens[:, None], positions[:, None])
        tables = self._tables(positions[:, None], positions[:, None] + 1)
        columns = jnp.arange(cache.keys.shape[2])
        graph, layers = nnx.split(self.layers[STACK])

        def block(carry, scanned):
            (x, cache), (state, layer) = carry, scanned

            def mix(query, key, value):
                new = Cache(
                    cache.keys.at[layer.index, rows, positions].set(key[:, 0]),
                    cache.values.at[layer.index, rows, positions].set(value[:, 0]),
                )
                mask = attention.visible(positions[:, None], columns, layer.window)
                query = self._scaled(query, layer)
                seen = new.keys[layer.index], new.values[layer.index]
                scale, cap = config.scale, config.attention_cap
                return attention.masked(query, *seen, mask, scale=scale, cap=cap), new

            return nnx.merge(graph, state)(x, _turn(tables, layer), mix), None

        (x, cache), _ = jax.lax.scan(block, (x, cache), (layers, self._layers(UNLIMITED)))
        return self._finished(x)[:, 0], cache

    def logits(self, features: Float[Array, "*batch E"]) -> Float[Array, "*batch V"]:
        """Scores of the next token, accumulated and returned in fp32."""
        head = self.embed if self.config.tied else self.head
        logits = head.product(features, jnp.float32)
        cap = self.config.logit_cap
        return logits if cap is None else cap * jnp.tanh(logits / cap)

    def _forward(self, tokens, lengths, *, keep):
        length = tokens.shape[1]
        positions = jnp.arange(length)
        x = self._embedded(tokens, positions)
        tables = self._tables(positions, lengths)
        graph, layers = nnx.split(self.layers[STACK])
        kinds = [
            partial(
                attention.causal,
                scale=self.config.scale,
                window=None if window >= length else window,
                cap=self.config.attention_cap,
            )
            for window in self._windows(length)
        ]

        def block(x, scanned):
            state, layer = scanned

            def mix(query, key, value):
                query = self._scaled(query, layer)
                mixed = attention.by_kind(kinds, layer.kind, query, key, value)
                return mixed, (key, value) if keep else None

            return nnx.merge(graph, state)(x, _turn(tables, layer), mix)

        x, kept = jax.lax.scan(block, x, (layers, self._layers(length)))
        return self._finished(x), kept

    def _embedded(self, tokens, positions):
        x = self.embed(tokens)
        if self.config.embed_scale is not None:
            x = x * jnp.asarray(self.config.embed_scale, x.dtype)
        if self.config.embed_size:
            x = self.project_in(x)
        if self.config.positions:
            last = self.config.positions - self.config.position_offset
            if tokens.shape[1] > last:
                raise ValueError(
                    f"a sequence of {tokens.shape[1]} tokens; this model has {last} positions"
                )
            x = x + self.positions(positions + self.config.position_offset)
        return x

    def _finished(self, x):
        x = self.norm(x) if self.config.final_norm else x
        return self.project_out(x) if self.config.embed_size else x

    def _tables(self, positions, lengths):
        """Cosines and sines that layers choose from; the last ones turn nothing."""
        if not self.config.ropes:
            return None
        tables = [rope.table(positions, lengths) for rope in self.config.ropes]
        if None in self.config.layer_ropes:
            tables.append((jnp.ones_like(tables[0][0]), jnp.zeros_like(tables[0][1])))
        return jax.tree.map(lambda *t: jnp.stack(t), *tables)

    def _scaled(self, query, layer):
        return query * layer.scale.astype(query.dtype) if self.config.layer_scales else query

    def _windows(self, length):
        """Kinds of attention by their window, in a sequence of so many tokens."""
        windows = self.config.windows or (None,)
        return sorted({length if w is None else min(w, length) for w in windows})

    def _layers(self, length):
        config, number = self.config, self.config.num_layers
        kinds = self._windows(length)
        windows = [length if w is None else min(w, length) for w in config.windows]
        windows = windows or [length] * number
        ropes = config.layer_ropes or (0,) * number
        return _Layer(
            index=jnp.arange(number),
            kind=jnp.asarray([kinds.index(w) for w in windows]),
            window=jnp.asarray(windows, jnp.int32),
            rope=jnp.asarray([len(config.ropes) if r is None else r for r in ropes]),
            scale=jnp.asarray(config.layer_scales or (1.0,) * number, jnp.float32),
        )


def _turn(tables, layer):
    if tables is None:
        return lambda x: x
    cos, sin = (t[0] if t.shape[0] == 1 else t[layer.rope] for t in tables)
    return lambda x: rotate(x, cos, sin)
