"""A language model as functions of its parameters."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Array, Float, Int

from ..core import Params


@dataclass(frozen=True, eq=False)
class Decoder:
    """A decoder as functions of its parameters; it holds none, so it may be part of a compile key.

    Attributes:
        function: apply(params, *args, method=...) of the Flax module.
    """

    function: Callable[..., Any]

    def apply(self, params: Params, tokens: Int[Array, "B L"]) -> Float[Array, "B L V"]:
        """Logits (batch, length, vocab) in fp32."""
        return self.function(params, tokens)

    def features(self, params: Params, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        """What the head reads (batch, length, hidden): `apply` is `logits` of these."""
        return self.function(params, tokens, method="features")

    def logits(self, params: Params, features: Float[Array, "*batch D"]) -> Float[Array, "..."]:
        """Logits (..., vocab) in fp32 from features (..., hidden)."""
        return self.function(params, features, method="logits")


@dataclass(frozen=True, eq=False)
class Model:
    """A language model loaded from a Hugging Face folder.

    Attributes:
        params: nested dicts of arrays; paths read like `layers.0.attention.query.kernel`.
        decoder: the functions of `params`.
        names: checkpoint name of a tensor -> path of its parameter.
        folder: where the checkpoint lies.
        vocab_size: V.
        max_length: tokens of the longest sequence that the checkpoint is meant for.
    """

    params: Params
    decoder: Decoder
    names: dict[str, str]
    folder: Path
    vocab_size: int
    max_length: int

    def apply(self, params: Params, tokens: Int[Array, "B L"]) -> Float[Array, "B L V"]:
        """Logits (batch, length, vocab) in fp32."""
        return self.decoder.apply(params, tokens)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's `transformers` tokenizer, loaded when it is first asked for.

        Raises:
            FileNotFoundError: the folder has none.
        """
        files = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
        if not any((self.folder / name).exists() for name in files):
            raise FileNotFoundError(
                f"{self.folder}: no tokenizer (none of {', '.join(files)}); save one there with "
                "AutoTokenizer.from_pretrained(SOURCE).save_pretrained(FOLDER)"
            )
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
