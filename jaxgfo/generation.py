"""Text from a decoder: prompts of different lengths, one compiled loop, an early stop.

Everything but the parameters carries a member axis in front where a population generates: prompts
are then continued by every member, each with its own parameters and its own cache.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .core import Key, Params

BUCKET = 32  # prompts are padded to a multiple: fewer lengths to compile for


class Generated(NamedTuple):
    """What came after the prompts.

    Attributes:
        tokens: new tokens (batch, max_new_tokens), or (pop, batch, max_new_tokens); after the end
            of a row the padding token.
        lengths: how many of them were generated in each row, the end token included.
    """

    tokens: Int[Array, "*pop batch new"]
    lengths: Int[Array, "*pop batch"]


class _State(NamedTuple):
    step: Int[Array, ""]
    token: Int[Array, "*pop batch"]  # chosen, not read yet
    done: Bool[Array, "*pop batch"]
    tokens: Int[Array, "*pop batch new"]
    cache: Any


def generate(
    model: Any,
    params: Params,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    key: Key | None = None,
    end: int | Sequence[int] | None = None,
    pad: int | None = None,
    members: bool = False,
) -> Generated:
    """Continue every prompt, all of them in one compiled loop that stops when all have ended.

    A row does not depend on the others, and padding is never seen. Compiled once for a model, the
    number of prompts, their padded length, max_new_tokens, top_k and the end tokens.

    Args:
        model: what `jaxgfo.load_model` gives.
        params: like `model.params`; with `members` every leaf has a leading axis (pop, ...).
        prompts: token ids, at least one a row: `model.tokenizer(texts)["input_ids"]`.
        max_new_tokens: after which a row is cut.
        temperature: 0: the most likely token (greedy); else logits are divided by it and a token
            is drawn.
        top_k: draw from the k most likely tokens only.
        top_p: draw from the fewest tokens that have this probability together (Holtzman et al.,
            2020, arXiv:1904.09751), after top_k.
        key: of the draws; needed unless temperature is 0.
        end: tokens that end a row; None: the checkpoint's (generation_config.json, config.json).
        pad: token after the end; None: the checkpoint's, or 0.
        members: whether a population generates.

    Raises:
        ValueError: an empty prompt or a token that the model does not know; more tokens than the
            model has positions; a temperature, top_k or top_p out of range; no key.
    """
    decoder = model.decoder
    _check(decoder.config, prompts, max_new_tokens, temperature, top_k, top_p, key)
    default_end, default_pad = model.special_tokens
    end = default_end if end is None else tuple(np.atleast_1d(end).tolist())
    pad = default_pad if pad is None else pad
    longest = max(map(len, prompts))
    width = -(-longest // BUCKET) * BUCKET
    if decoder.config.positions:
        width = min(width, decoder.config.max_length)
    rows = np.full((len(prompts), width), pad, np.int32)
    for row, prompt in zip(rows, prompts):
        row[: len(prompt)] = prompt
    lengths = jnp.asarray([len(prompt) for prompt in prompts], jnp.int32)
    drawn = temperature != 0
    return _generate(
        decoder,
        max_new_tokens,
        (top_k, top_p is not None) if drawn else None,
        end,
        members,
        params,
        jnp.asarray(rows),
        lengths,
        key if drawn else None,
        (jnp.float32(temperature), jnp.float32(1.0 if top_p is None else top_p)),
        jnp.int32(pad),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _generate(decoder, new, draw, end, members, params, prompts, lengths, key, numbers, pad):
    prefill, step, logits = decoder.prefill, decoder.step, decoder.logits
    size, renewal = prompts.shape[1] + new, decoder.config.renewal
    if members:
        prompts = jnp.broadcast_to(prompts, (*jax.tree.leaves(params)[0].shape[:1], *prompts.shape))
        prefill = jax.vmap(prefill, in_axes=(0, 0, None, None))
        step = jax.vmap(step, in_axes=(0, 0, None, 0))
        logits = jax.vmap(logits)
    rows = jnp.arange(lengths.size)

    def read(tokens, lengths):
        """Features of each row's last token, wherever the row ends, and a cache."""
        features, cache = prefill(params, tokens, lengths, size)
        return features[..., rows, lengths - 1, :], cache

    last, cache = read(prompts, lengths)
    choose = functools.partial(_choose, draw=draw, numbers=numbers)

    def pick(features, step, done):
        chosen = choose(logits(params, features), key if key is None else fold(key, step))
        token = jnp.where(done, pad, chosen)
        return token, done | jnp.isin(token, jnp.asarray(end, jnp.int32))

    fold = jax.random.fold_in
    token, done = pick(last, 0, jnp.zeros(last.shape[:-1], bool))
    tokens = jnp.full((*token.shape, new), pad)
    start = _State(jnp.int32(1), token, done, tokens.at[..., 0].set(token), cache)

    def unfinished(state):
        return (state.step < new) & ~jnp.all(state.done)

    def advance(state):
        # The token before was chosen at step - 1 and stands right after the prompt and its likes.
        positions = lengths + state.step - 1

        def again():
            places = lengths[:, None] + jnp.arange(new)
            room = [(0, 0)] * (prompts.ndim - 1) + [(0, new)]
            whole = jnp.pad(prompts, room).at[..., rows[:, None], places].set(state.tokens)
            return read(whole, positions + 1)

        def once():
            return step(params, state.token, positions, state.cache)

        if renewal is None:
            return once()
        return jax.lax.cond(jnp.any(positions == renewal), again, once)

    def body(state):
        features, cache = advance(state)
        token, done = pick(features, state.step, state.done)
        tokens = state.tokens.at[..., state.step].set(token)
        return _State(state.step + 1, token, done | state.done, tokens, cache)

    state = jax.lax.while_loop(unfinished, body, start)
    ended = jnp.isin(state.tokens, jnp.asarray(end, jnp.int32))
    first = jnp.argmax(ended, axis=-1)
    return Generated(state.tokens, jnp.where(jnp.any(ended, axis=-1), first + 1, new))


def _choose(
    logits: Float[Array, "*batch vocab"], key: Key | None, *, draw: Any, numbers: Any
) -> Int[Array, "*batch"]:
    if draw is None:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    (top_k, nucleus), (temperature, top_p) = draw, numbers
    kept = filtered(logits / temperature, top_k, top_p if nucleus else None)
    assert key is not None
    return jax.random.categorical(key, kept).astype(jnp.int32)


def filtered(
    logits: Float[Array, "*batch vocab"],
    top_k: int | None = None,
    top_p: float | Float[Array, ""] | None = None,
) -> Float[Array, "*batch vocab"]:
    """Logits with -inf for tokens that are not to be drawn: outside of the `top_k` most likely
    ones, then outside of the fewest that have probability `top_p` together.
    """
    if top_k is not None and top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None:
        order = jnp.argsort(logits, axis=-1, descending=True, stable=True)
        likely = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
        before = jnp.cumsum(likely, axis=-1) - likely
        # The most likely one always stays.
        out = (before >= top_p) & (jnp.arange(logits.shape[-1]) > 0)
        out = jnp.take_along_axis(out, jnp.argsort(order, axis=-1), axis=-1)
        logits = jnp.where(out, -jnp.inf, logits)
    return logits


def _check(config, prompts, new, temperature, top_k, top_p, key) -> None:
    if not len(prompts) or not all(len(prompt) for prompt in prompts):
        raise ValueError("prompts: expected at least one, each of at least one token")
    flat: Callable[[Any], int] = lambda f: f(f(prompt) for prompt in prompts)  # noqa: E731
    if flat(min) < 0 or flat(max) >= config.vocab_size:
        raise ValueError(
            f"prompts: tokens from {flat(min)} to {flat(max)}; the model knows 0 to "
            f"{config.vocab_size - 1}"
        )
    if new < 1:
        raise ValueError(f"max_new_tokens is {new}; expected at least 1")
    longest = max(map(len, prompts))
    if config.positions and longest + new > config.max_length:
        raise ValueError(
            f"{longest} tokens of a prompt and {new} new ones; the model has {config.max_length} "
            "positions"
        )
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; expected at least 0 (0 is greedy)")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; expected more than 0 and at most 1")
    if temperature == 0 and (top_k is not None or top_p is not None):
        raise ValueError("top_k and top_p need a temperature above 0: nothing is drawn at 0")
    if temperature and key is None:
        raise ValueError("temperature above 0 draws tokens: a key is needed, jax.random.key(SEED)")
