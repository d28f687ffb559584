"""What a decoder is made of, in one vocabulary for all families."""

from dataclasses import dataclass
from typing import Literal

from .rope import Rope


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes and choices of a decoder. A family's file turns a `config.json` into one.

    Attributes:
        vocab_size: tokens that can be read and predicted.
        hidden_size: width of the residual stream.
        num_layers: blocks.
        num_heads: query heads of a block.
        num_groups: key-value heads of a block; each serves num_heads / num_groups query heads.
        head_dim: width of a head.
        mlp_size: width inside an MLP.
        max_length: tokens of the longest sequence that the model is meant for.
        activation: of the MLP, by its name in `activations`.
        gated: whether the MLP is activation(gate) * up, or activation(up).
        norm: root mean square, or mean and variance ("layer", with a bias).
        norm_epsilon: added to the mean square.
        norm_offset: what is added to a norm's scale (1 where checkpoints hold scale - 1).
        norm_affine: whether norms have parameters.
        norm_place: "before" a branch, on the branch's output ("after"), "both", or on the "sum" of
            branch and residual.
        final_norm: whether a norm stands before the head.
        query_key_norm: a norm of every query and key "head", or of all heads together ("all").
        parallel: whether attention and MLP read the same input and are added together.
        qkv_bias: biases of query, key and value.
        out_bias: bias of the attention's output.
        mlp_bias: biases of the MLP.
        scale: factor on attention scores, usually head_dim ** -0.5.
        layer_scales: further factor on the scores of each layer; empty: none.
        attention_cap: scores become cap * tanh(scores / cap).
        logit_cap: logits become cap * tanh(logits / cap).
        embed_scale: factor on embeddings.
        embed_size: width of embeddings, where they are projected to and from hidden_size.
        tied: whether the head is the embedding.
        positions: rows of a learnt table of positions; 0: none.
        position_offset: row of the first position.
        ropes: rotary embeddings that layers choose from.
        layer_ropes: for each layer which of `ropes`; None: not rotated.
        renewal: tokens of a sequence beyond which keys in a cache are made anew, since all of them
            are rotated otherwise from there on.
        windows: for each layer how many keys a query sees, itself included; None: all before it.
        init_scale: standard deviation of fresh weights.
        quantised: whether matrices are int8 with a scale for every output (embeddings: every row).
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_groups: int
    head_dim: int
    mlp_size: int
    max_length: int
    activation: str
    gated: bool = True
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: float = 1e-6
    norm_offset: int = 0
    norm_affine: bool = True
    norm_place: Literal["before", "after", "both", "sum"] = "before"
    final_norm: bool = True
    query_key_norm: Literal["head", "all"] | None = None
    parallel: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    scale: float
    layer_scales: tuple[float, ...] = ()
    attention_cap: float | None = None
    logit_cap: float | None = None
    embed_scale: float | None = None
    embed_size: int | None = None
    tied: bool = False
    positions: int = 0
    position_offset: int = 0
    ropes: tuple[Rope, ...] = ()
    layer_ropes: tuple[int | None, ...] = ()
    windows: tuple[int | None, ...] = ()
    renewal: int | None = None
    init_scale: float = 0.02
    quantised: bool = False

    def __post_init__(self) -> None:
        """Refuse what no decoder can be."""
        for name in (
            "vocab_size",
            "hidden_size",
            "num_layers",
            "num_heads",
            "num_groups",
            "mlp_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.num_heads % self.num_groups:
            raise ValueError(
                f"{self.num_heads} attention heads cannot share {self.num_groups} key-value heads: "
                "expected a multiple"
            )
        for name in ("layer_scales", "layer_ropes", "windows"):
            given = len(getattr(self, name))
            if given not in (0, self.num_layers):
                raise ValueError(f"{name}: {given} given for {self.num_layers} layers")
        if any(window is not None and window < 1 for window in self.windows):
            raise ValueError(f"windows are {self.windows}; expected at least 1")
        if len({rope.dim for rope in self.ropes}) > 1:
            raise ValueError("layers rotate different shares of a head: not supported")
        if any(rope.dim > self.head_dim or rope.dim % 2 for rope in self.ropes):
            raise ValueError(
                f"{self.ropes[0].dim} of a head's {self.head_dim} coordinates are rotated; "
                "expected an even number of them"
            )
