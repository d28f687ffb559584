"""A `config.json` that keeps book: every setting is honoured, harmless, or refused by name."""

import re
import warnings
from typing import Any

from .activations import ACTIVATIONS

# What says nothing about the logits of a model that is not being trained.
HARMLESS = re.compile(
    r"_.*|name_or_path|.*_token_id|.*dropout.*|.*_pdrop|layerdrop|summary_.*|output_.*|.*_init"
    r"|initializer_.*|init_std|use_cache|return_dict.*|architectures|auto_map|model_type|dtype"
    r"|torch_dtype|torchscript|transformers_version|tokenizer_class|task_specific_params|prefix"
    r"|id2label|label2id|num_labels|problem_type|is_decoder|chunk_size_feed_forward"
    r"|gradient_checkpointing|pretraining_tp|reorder_and_upcast_attn|cache_implementation"
    r"|model_max_length"
)
NEUTRAL = {  # settings of any config that change the model unless they are so
    "is_encoder_decoder": (False,),
    "add_cross_attention": (None, False),
    "tie_encoder_decoder": (None, False),
    "cross_attention_hidden_size": (None,),
    "pruned_heads": (None, {}, []),
    "per_layer_config": (None, {}, []),
}


class Settings:
    """The settings of a `transformers` config. Reading one as an attribute is a promise to honour
    it; `close` refuses those that nobody read.

    Raises:
        ValueError: (on reading) a setting that the config does not have.
    """

    def __init__(self, config: Any):
        self._config, self._read = config, set()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python itself looks for
            raise AttributeError(name)
        self._read.add(name)
        try:
            return getattr(self._config, name)
        except AttributeError:
            raise ValueError(f"config.json: {name} is missing") from None

    def get(self, name: str) -> Any:
        """A setting that may be missing: then None."""
        self._read.add(name)
        return getattr(self._config, name, None)

    def activation(self, name: str) -> str:
        """A setting that names an activation function.

        Raises:
            ValueError: one that is not known, with those that are.
        """
        value = getattr(self, name)
        if value not in ACTIVATIONS:
            raise ValueError(
                f"config.json: {name} is {value!r}, which is not supported; supported: "
                f"{', '.join(ACTIVATIONS)}"
            )
        return value

    def turned(self, *names: str) -> None:
        """Settings that `transformers` has turned into others, which are read."""
        self._read.update(names)

    def only(self, **allowed: tuple[Any, ...]) -> None:
        """Read settings that are supported with certain values only.

        Raises:
            ValueError: another value, by name.
        """
        for name, values in allowed.items():
            if (value := self.get(name)) not in values:
                raise ValueError(
                    f"config.json: {name} is {value!r}, which is not supported; supported: "
                    f"{' or '.join(map(repr, values))}"
                )

    def refuse(self, **reasons: str) -> None:
        """Read settings that must not be there.

        Raises:
            ValueError: one is, with the reason against it.
        """
        for name, reason in reasons.items():
            if (value := self.get(name)) is not None:
                raise ValueError(f"config.json: {name} is {value!r}; {reason}")

    def close(self) -> None:
        """Look for settings that nobody read.

        Raises:
            ValueError: settings that `transformers` has and this package does not honour.

        Warns about settings that even `transformers` does not know.
        """
        given = self._config.to_dict()
        self.only(**{name: values for name, values in NEUTRAL.items() if name in given})
        known = set(type(self._config)().to_dict())
        unread = {n for n in given if n not in self._read and not HARMLESS.fullmatch(n)}
        if missed := sorted(unread & known):
            shown = ", ".join(f"{name} = {given[name]!r}" for name in missed)
            raise ValueError(f"config.json: not supported for {given['model_type']}: {shown}")
        if unread:
            warnings.warn(
                f"config.json: transformers' {type(self._config).__name__} has no "
                f"{', '.join(sorted(unread))}; not used",
                stacklevel=2,
            )
