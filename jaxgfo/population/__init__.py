"""What `ask` returns: a dense population, or one that is a center and a key.

A dense population is a tree with one row per member in every leaf. `Seeded` and `LowRank` hold one
candidate and draw their members' noise again wherever it is needed. By default their member 0 is
the center itself, and the others come in antithetic pairs.
"""

from .dense import initial as initial
from .dense import repeat as repeat
from .low_rank import LowRank as LowRank
from .members import member as member
from .members import size as size
from .pairs import members as members
from .pairs import place as place
from .pairs import signs as signs
from .seeded import Seeded as Seeded
