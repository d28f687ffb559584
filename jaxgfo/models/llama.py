"""The Llama decoder (Touvron et al., 2023, arXiv:2302.13971) in Flax NNX.

Shapes: B batch, L length, D hidden_size, N heads, K key-value heads, H head_dim, V vocab_size.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

# What a config may say and what this decoder does with it; other values are refused by name.
HONOURED = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads head_dim rms_norm_eps tie_word_embeddings max_position_embeddings"
).split()
REQUIRED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}


@dataclass(frozen=True)
class LlamaConfig:
    """The sizes of a Llama decoder, named as in its `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 2048

    @classmethod
    def from_huggingface(cls, config: Any) -> "LlamaConfig":
        """From a `transformers.LlamaConfig`.

        Raises:
            ValueError: a setting that this decoder does not have, by name.
        """
        for name, value in REQUIRED.items():
            if getattr(config, name, value) != value:
                raise ValueError(
                    f"config.json: {name} is {getattr(config, name)!r}; supported: {value!r}"
                )
        rope = config.rope_parameters
        if rope.get("rope_type", "default") != "default":
            raise ValueError(
                f"config.json: rope_type is {rope['rope_type']!r}; supported: 'default'"
            )
        values = {name: getattr(config, name) for name in HONOURED}
        return cls(**values, rope_theta=float(rope["rope_theta"]))


class Attention(nnx.Module):
    """Causal self-attention with rotary positions and grouped key-value heads."""

    def __init__(self, config: LlamaConfig, *, rngs: nnx.Rngs):
        self.head_dim, self.theta = config.head_dim, config.rope_theta
        size = config.hidden_size
        heads = config.num_attention_heads * config.head_dim
        groups = config.num_key_value_heads * config.head_dim
        self.query = nnx.Linear(size, heads, use_bias=False, rngs=rngs)
        self.key = nnx.Linear(size, groups, use_bias=False, rngs=rngs)
        self.value = nnx.Linear(size, groups, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(heads, size, use_bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Mix the positions up to each one."""
        query, key, value = (
            layer(x).reshape(*x.shape[:2], -1, self.head_dim)  # (B, L, N or K, H)
            for layer in (self.query, self.key, self.value)
        )
        query, key = rotate(query, self.theta), rotate(key, self.theta)
        with jax.numpy_dtype_promotion("standard"):  # JAX's own softmax goes from bf16 to fp32
            mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.reshape(*x.shape[:2], -1))


class MLP(nnx.Module):
    """SwiGLU (Shazeer, 2020, arXiv:2002.05202)."""

    def __init__(self, config: LlamaConfig, *, rngs: nnx.Rngs):
        size, wide = config.hidden_size, config.intermediate_size
        self.gate = nnx.Linear(size, wide, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(size, wide, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(wide, size, use_bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Transform every position by itself."""
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Norm(nnx.Module):
    """Root-mean-square norm, in fp32 whatever the model's dtype."""

    def __init__(self, config: LlamaConfig):
        self.epsilon = config.rms_norm_eps
        self.scale = nnx.Param(jnp.ones(config.hidden_size))

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Scale every position to a mean square of 1, then by `scale`."""
        wide = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return self.scale[...] * (wide * jax.lax.rsqrt(mean_square + self.epsilon)).astype(x.dtype)


class Block(nnx.Module):
    """Pre-norm attention, then pre-norm MLP, each on a residual branch."""

    def __init__(self, config: LlamaConfig, *, rngs: nnx.Rngs):
        self.attention_norm = Norm(config)
        self.attention = Attention(config, rngs=rngs)
        self.mlp_norm = Norm(config)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Both branches in turn."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Llama(nnx.Module):
    """Tokens to logits. `features` and `logits` are its two halves, so that a loss can work in
    chunks and never hold (B, L, V).
    """

    def __init__(self, config: LlamaConfig, *, rngs: nnx.Rngs):
        size = config.hidden_size
        normal = nnx.initializers.normal(0.02)
        self.embed = nnx.Embed(config.vocab_size, size, embedding_init=normal, rngs=rngs)
        self.layers = nnx.List([Block(config, rngs=rngs) for _ in range(config.num_hidden_layers)])
        self.norm = Norm(config)
        self.tied = config.tie_word_embeddings
        if not self.tied:
            self.head = nnx.Linear(size, config.vocab_size, use_bias=False, rngs=rngs)

    def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L V"]:
        """Logits (batch, length, vocab) in fp32."""
        return self.logits(self.features(tokens))

    def features(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        """What the head reads."""
        # Not `self.embed(tokens)`: nnx.Embed casts to the dtype it was built with.
        x = self.embed.embedding[...][tokens]
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def logits(self, features: Float[Array, "*batch D"]) -> Float[Array, "*batch V"]:
        """Scores of the next token, accumulated and returned in fp32."""
        kernel = self.embed.embedding[...].T if self.tied else self.head.kernel[...]
        return jnp.matmul(features, kernel, preferred_element_type=jnp.float32)


def rotate(x: Float[Array, "B L heads H"], theta: float) -> Float[Array, "B L heads H"]:
    """Rotary positions 0 ... L-1, the two halves of a head as one complex number.

    Reference: Su et al. (2021), arXiv:2104.09864, in the half-split layout of Llama checkpoints.
    """
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] * frequency  # (L, H/2)
    cos, sin = (f(angle)[:, None, :].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


# Checkpoint name -> path in the parameter tree. Linear weights are stored [out, in].
NAMES = {
    r"model\.embed_tokens\.weight": "embed.embedding",
    r"model\.layers\.(\d+)\.input_layernorm\.weight": r"layers.\1.attention_norm.scale",
    r"model\.layers\.(\d+)\.self_attn\.q_proj\.weight": r"layers.\1.attention.query.kernel",
    r"model\.layers\.(\d+)\.self_attn\.k_proj\.weight": r"layers.\1.attention.key.kernel",
    r"model\.layers\.(\d+)\.self_attn\.v_proj\.weight": r"layers.\1.attention.value.kernel",
    r"model\.layers\.(\d+)\.self_attn\.o_proj\.weight": r"layers.\1.attention.out.kernel",
    r"model\.layers\.(\d+)\.post_attention_layernorm\.weight": r"layers.\1.mlp_norm.scale",
    r"model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight": r"layers.\1.mlp.\2.kernel",
    r"model\.norm\.weight": "norm.scale",
    r"lm_head\.weight": "head.kernel",
}
