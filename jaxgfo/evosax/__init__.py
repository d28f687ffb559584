"""evosax's algorithms behind this package's front doors."""

from .adapter import Evosax as Evosax
from .adapter import EvosaxInfo as EvosaxInfo
from .adapter import EvosaxState as EvosaxState
from .adapter import adapted as adapted
from .library import names as names
