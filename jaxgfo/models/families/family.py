"""What a family's file states."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..config import DecoderConfig
from ..settings import Settings


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of checkpoints.

    Attributes:
        describe: what the settings of a config.json mean.
        names: module in the parameter tree -> module in a checkpoint, `*` standing for a layer's
            number. `a.{b,c}` are modules whose arrays a checkpoint holds fused, one after another.
        prefix: what some checkpoints leave out at the beginning of every name.
        by_head: fused arrays go head by head ([q | k | v] of head 0, of head 1, ...).
        stored: order of a linear layer's axes in a checkpoint.
        buffers: regular expression of tensors that are computed, not learnt.
    """

    describe: Callable[[Settings], DecoderConfig]
    names: Mapping[str, str]
    prefix: str = ""
    by_head: bool = False
    stored: str = "out,in"
    buffers: str = r".*rotary_emb\.inv_freq"
