"""What a candidate means for a model: a space decodes it into parameters.

A space is a pytree, so the weights it holds travel as arguments of compiled functions. It stands on
a tree of parameters or on another space: `Flat(Select(params, "norms"))` is the norms as a vector.
"""

from .base import Space as Space
from .flat import Flat as Flat
from .full import Full as Full
from .select import GROUPS as GROUPS
from .select import Select as Select
from .subspace import Subspace as Subspace
