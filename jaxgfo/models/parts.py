"""The parts of a decoder: norm, attention, MLP, and the block they make.

Shapes: B batch, L length, D hidden_size, N heads, K key-value heads, H head_dim.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Int8

from .activations import ACTIVATIONS
from .config import DecoderConfig
from .quantised import INPUTS, narrowed

# (query, key, value) -> what the heads read, and whatever is to be kept of keys and values.
Mix = Callable[[Array, Array, Array], tuple[Array, Any]]


class Linear(nnx.Module):
    """x @ kernel + bias, in the dtype of x, which is that of the parameters.

    The kernel of a quantised model is int8, and made real here, where it is used: never those of
    two layers at a time.
    """

    def __init__(
        self, inputs: int, outputs: int, bias: bool, config: DecoderConfig, *, rngs: nnx.Rngs
    ):
        fresh = nnx.initializers.normal(config.init_scale)
        self.biased, self.quantised = bias, config.quantised
        kernel = fresh(rngs.params(), (inputs, outputs))
        if config.quantised:
            kernel, scale = narrowed(kernel, INPUTS["kernel"])
            self.kernel_scale = nnx.Param(scale)
        self.kernel = nnx.Param(kernel)
        if bias:
            self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """The layer's outputs for every vector."""
        # On a CPU, XLA takes the processor's bf16 instructions only where the product is fp32.
        wide = jnp.float32 if jax.default_backend() == "cpu" else None
        y = self.product(x, wide).astype(x.dtype)
        return y + self.bias[...] if self.biased else y

    def product(self, x: Float[Array, "*batch inputs"], dtype: Any) -> Array:
        """x @ kernel, accumulated and returned in a dtype; None: that of x."""
        if not self.quantised:
            return jnp.matmul(x, self.kernel[...], preferred_element_type=dtype)
        return scaled_product(x, self.kernel[...], self.kernel_scale[...])


class Embedding(nnx.Module):
    """A table of vectors; int8 with a scale for every row in a quantised model."""

    def __init__(self, rows: int, width: int, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.quantised = config.quantised
        table = nnx.initializers.normal(config.init_scale)(rngs.params(), (rows, width))
        if config.quantised:
            table, scale = narrowed(table, INPUTS["embedding"])
            self.embedding_scale = nnx.Param(scale)
        self.embedding = nnx.Param(table)

    def __call__(self, rows: Int[Array, "*batch"]) -> Float[Array, "*batch width"]:
        """Vectors, in the dtype of the parameters."""
        found = self.embedding[...][rows]
        if not self.quantised:
            return found
        scale = self.embedding_scale[...][rows]
        return found.astype(scale.dtype) * scale[..., None]

    def product(self, x: Float[Array, "*batch width"], dtype: Any) -> Array:
        """The inner products with every row, accumulated and returned in a dtype."""
        table = self.embedding[...].T
        if not self.quantised:
            return jnp.matmul(x, table, preferred_element_type=dtype)
        return scaled_product(x, table, self.embedding_scale[...])


def scaled_product(
    x: Float[Array, "*batch inputs"],
    kernel: Int8[Array, "inputs outputs"],
    scale: Float[Array, " outputs"],
) -> Float[Array, "*batch outputs"]:
    """x @ kernel * scale in fp32: before it is scaled, it may be too large for fp16."""
    y = jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
    return y * scale.astype(jnp.float32)


class Norm(nnx.Module):
    """Root-mean-square norm (Zhang & Sennrich, 2019, arXiv:1910.07467) or layer norm (Ba et al.,
    2016, arXiv:1607.06450), in fp32 whatever the model's dtype.
    """

    def __init__(self, config: DecoderConfig, size: int):
        self.epsilon, self.offset = config.norm_epsilon, config.norm_offset
        self.centered, self.affine = config.norm == "layer", config.norm_affine
        if self.affine:
            self.scale = nnx.Param(jnp.full(size, 1.0 - self.offset))
            if self.centered:
                self.bias = nnx.Param(jnp.zeros(size))

    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        """Scale every vector to a mean square of 1, then by the parameters."""
        wide = x.astype(jnp.float32)
        if self.centered:
            wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        wide = wide * jax.lax.rsqrt(mean_square + self.epsilon)
        if self.affine:
            wide = wide * (self.scale[...].astype(jnp.float32) + self.offset)
            if self.centered:
                wide = wide + self.bias[...].astype(jnp.float32)
        return wide.astype(x.dtype)


class Attention(nnx.Module):
    """Self-attention with grouped key-value heads; positions and masks are the caller's."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.head_dim, self.norms = config.head_dim, config.query_key_norm
        size, bias = config.hidden_size, config.qkv_bias
        heads, groups = (n * config.head_dim for n in (config.num_heads, config.num_groups))
        self.query = Linear(size, heads, bias, config, rngs=rngs)
        self.key = Linear(size, groups, bias, config, rngs=rngs)
        self.value = Linear(size, groups, bias, config, rngs=rngs)
        self.out = Linear(heads, size, config.out_bias, config, rngs=rngs)
        if self.norms:
            one = self.norms == "head"
            self.query_norm = Norm(config, config.head_dim if one else heads)
            self.key_norm = Norm(config, config.head_dim if one else groups)

    def __call__(
        self, x: Float[Array, "B L D"], turn: Callable[[Array], Array], mix: Mix
    ) -> tuple[Float[Array, "B L D"], Any]:
        """Read from the positions that `mix` lets it, after `turn` has placed queries and keys."""
        query, key, value = self.query(x), self.key(x), self.value(x)
        if self.norms == "all":
            query, key = self.query_norm(query), self.key_norm(key)
        query, key, value = (
            heads.reshape(*x.shape[:2], -1, self.head_dim) for heads in (query, key, value)
        )
        if self.norms == "head":
            query, key = self.query_norm(query), self.key_norm(key)
        mixed, kept = mix(turn(query), turn(key), value)
        return self.out(mixed.reshape(*x.shape[:2], -1)), kept


class MLP(nnx.Module):
    """Two layers, or three with a gate (Shazeer, 2020, arXiv:2002.05202)."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        size, wide, bias = config.hidden_size, config.mlp_size, config.mlp_bias
        self.activation, self.gated = config.activation, config.gated
        if self.gated:
            self.gate = Linear(size, wide, bias, config, rngs=rngs)
        self.up = Linear(size, wide, bias, config, rngs=rngs)
        self.down = Linear(wide, size, bias, config, rngs=rngs)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Transform every position by itself."""
        act = ACTIVATIONS[self.activation]
        return self.down(act(self.gate(x)) * self.up(x) if self.gated else act(self.up(x)))


class Block(nnx.Module):
    """Attention and MLP on residual branches, with norms where the family has them."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.place, self.parallel, size = config.norm_place, config.parallel, config.hidden_size
        self.attention = Attention(config, rngs=rngs)
        self.mlp = MLP(config, rngs=rngs)
        if self.place != "after":
            self.attention_norm = Norm(config, size)
            self.mlp_norm = Norm(config, size)
        if self.place in ("after", "both"):
            self.attention_out_norm = Norm(config, size)
            self.mlp_out_norm = Norm(config, size)

    def __call__(
        self, x: Float[Array, "B L D"], turn: Callable[[Array], Array], mix: Mix
    ) -> tuple[Float[Array, "B L D"], Any]:
        """Both branches; and what `mix` keeps."""
        before, after = self.place in ("before", "both"), self.place in ("after", "both")
        read = self.attention_norm(x) if before else x
        branch, kept = self.attention(read, turn, mix)
        branch = self.attention_out_norm(branch) if after else branch
        if self.parallel:
            return x + branch + self.mlp(self.mlp_norm(x)), kept
        x = x + branch
        if self.place == "sum":
            x = self.attention_norm(x)
            return self.mlp_norm(x + self.mlp(x)), kept
        branch = self.mlp(self.mlp_norm(x) if before else x)
        return x + (self.mlp_out_norm(branch) if after else branch), kept
