"""Any function of a parameter tree, run on members that are never materialised."""

from .factored import Factored as Factored
from .interpreter import Fallback as Fallback
from .interpreter import apply as apply
from .interpreter import materialise as materialise
from .lazy import Drawn as Drawn
from .lazy import Stored as Stored
