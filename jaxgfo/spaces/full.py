"""All parameters, as the tree they are."""

from typing import Any

from ..core import Params
from .base import space


@space()
class Full:
    """A candidate is the whole tree of parameters.

    Attributes:
        params: the unchanged model's.
    """

    params: Any

    def start(self) -> Params:
        """The parameters themselves."""
        return self.params

    def decode(self, z: Params) -> Params:
        """Nothing to do."""
        return z
