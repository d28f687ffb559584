"""A language model as functions of its parameters."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxtyping import Array, Float, Int

from ..core import Key, Params
from .families import FAMILIES
from .function import functional
from .layout import Tensor, expected
from .quantised import quantise
from .settings import Settings


@dataclass(frozen=True, eq=False)
class Decoder:
    """A decoder as functions of its parameters; it holds none, so it may be part of a compile key.

    Attributes:
        function: apply(params, *args, method=...) of the Flax module.
        config: its `DecoderConfig`.
    """

    function: Callable[..., Any]
    config: Any

    def apply(self, params: Params, tokens: Int[Array, "B L"]) -> Float[Array, "B L V"]:
        """Logits (batch, length, vocab) in fp32."""
        return self.function(params, tokens)

    def features(self, params: Params, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        """What the head reads (batch, length, hidden): `apply` is `logits` of these."""
        return self.function(params, tokens, method="features")

    def logits(self, params: Params, features: Float[Array, "*batch D"]) -> Float[Array, "..."]:
        """Logits (..., vocab) in fp32 from features (..., hidden)."""
        return self.function(params, features, method="logits")

    def prefill(
        self, params: Params, tokens: Int[Array, "B L"], lengths: Int[Array, " B"], size: int
    ) -> tuple[Float[Array, "B L D"], Any]:
        """`features` of rows of `lengths` padded on the right, and a cache of `size` positions."""
        return self.function(params, tokens, lengths, size, method="prefill")

    def step(
        self, params: Params, tokens: Int[Array, " B"], positions: Int[Array, " B"], cache: Any
    ) -> tuple[Float[Array, "B D"], Any]:
        """`features` of one more token in every row (batch, hidden), and the new cache."""
        return self.function(params, tokens, positions, cache, method="step")


@dataclass(frozen=True, eq=False)
class Model:
    """A language model, loaded from a Hugging Face folder or fresh.

    Attributes:
        params: nested dicts of arrays. Layers are stacked: `layers.*.attention.query.kernel` is
            one array whose leading axis, the `*`, counts them.
        decoder: the functions of `params`.
        config: the `transformers` config.
        tensors: those of the checkpoint, by name.
        folder: where the checkpoint lies; None: nowhere yet.
        buffers: tensors of the checkpoint that are no parameters, by name: the files they lie in.
    """

    params: Params
    decoder: Decoder
    config: Any
    tensors: dict[str, Tensor]
    folder: Path | None = None
    buffers: dict[str, Path] = field(default_factory=dict)

    @property
    def vocab_size(self) -> int:
        """How many tokens the model knows: V."""
        return self.decoder.config.vocab_size

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence that the model is meant for."""
        return self.decoder.config.max_length

    def apply(self, params: Params, tokens: Int[Array, "B L"]) -> Float[Array, "B L V"]:
        """Logits (batch, length, vocab) in fp32."""
        return self.decoder.apply(params, tokens)

    def quantised(self) -> "Model":
        """The same with int8 matrices, and a scale beside each for every output or embedding.

        Biases and norms stay real. `layers.*.mlp.up.kernel` (layers, inputs, outputs) is int8 then,
        and `layers.*.mlp.up.kernel_scale` (layers, outputs) of the dtype that the matrix had. A
        matrix is made real where it is used, a layer at a time. `save_model` writes real tensors
        of that dtype; `jaxgfo.dequantise(params)` gives parameters of this model.
        """
        config = replace(self.decoder.config, quantised=True)
        return replace(self, params=quantise(self.params), decoder=_decoder(config)[2])

    @functools.cached_property
    def special_tokens(self) -> tuple[tuple[int, ...], int]:
        """Tokens that end a text, and the one to pad with, as the checkpoint's
        generation_config.json or config.json say; padding is 0 where neither does.
        """
        said = [{k: getattr(self.config, f"{k}_token_id", None) for k in ("eos", "pad")}]
        path = self.folder / "generation_config.json" if self.folder else None
        if path and path.is_file():
            own = json.loads(path.read_text(encoding="utf-8"))
            said.insert(0, {k: own.get(f"{k}_token_id") for k in ("eos", "pad")})
        end = next((s["eos"] for s in said if s["eos"] is not None), ())
        pad = next((s["pad"] for s in said if s["pad"] is not None), 0)
        return tuple(end) if isinstance(end, list | tuple) else (end,), pad

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's `transformers` tokenizer, loaded when it is first asked for.

        Raises:
            FileNotFoundError: there is none.
        """
        files = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
        if not self.folder or not any((self.folder / name).exists() for name in files):
            raise FileNotFoundError(
                f"{self.folder}: no tokenizer (none of {', '.join(files)}); save one there with "
                "AutoTokenizer.from_pretrained(SOURCE).save_pretrained(FOLDER)"
            )
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)


def build(config: Any) -> tuple[Callable[..., Any], Params, Decoder, dict[str, Tensor]]:
    """A decoder without arrays: a function that makes the module, the shapes of its parameters,
    their functions, and the tensors of its checkpoints.

    Args:
        config: of `transformers`.

    Raises:
        ValueError: an architecture or a setting that is not supported, by name.
    """
    from .. import tree

    family = family_of(config.model_type)
    settings = Settings(config)
    described = family.describe(settings)
    settings.close()
    make, shapes, decoder = _decoder(described)
    tensors = expected(tree.flat_paths(shapes), family, described.num_heads)
    return make, shapes, decoder, tensors


def _decoder(config: Any) -> tuple[Callable[..., Any], Params, Decoder]:
    from flax import nnx

    from .transformer import Transformer

    def make(rngs):
        return Transformer(config, rngs=rngs)

    shapes, function = functional(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    return make, shapes, Decoder(function, config)


def family_of(model_type: str | None) -> Any:
    """What is known about a model_type.

    Raises:
        ValueError: nothing is.
    """
    if model_type not in FAMILIES:
        raise ValueError(
            f"config.json: model_type is {model_type!r}, which is not supported; supported: "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]


def random_model(config: Any, *, key: Key, dtype: Any = "float32") -> Model:
    """A fresh model with random weights, for training, tests and benchmarks.

    Args:
        config: of `transformers`, or the content of a config.json as a dict.
        key: what weights are drawn from: normal, of the config's initializer_range.
        dtype: of the parameters.

    Raises:
        ValueError: an architecture or a setting that is not supported, by name.
    """
    import jax
    from flax import nnx

    if isinstance(config, dict):
        family_of(config.get("model_type"))
        from transformers import AutoConfig

        config = AutoConfig.for_model(**config)
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    make, _, decoder, tensors = build(config)
    if not config.architectures:
        config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]

    @jax.jit
    def fresh(key):
        params = functional(make(nnx.Rngs(key))).params
        return jax.tree.map(lambda x: x.astype(dtype), params)

    return Model(fresh(key), decoder, config, tensors)
