"""What `ask` returns: a dense population, or one that is a center and a key.

A dense population is a tree with one row per member in every leaf. `Seeded` and `LowRank` hold one
candidate and draw their members' noise again wherever it is needed. By default their member 0 is
the center itself, and the others come in antithetic pairs.
"""

from .dense import initial as initial
from .dense import repeat as repeat
from .kinds import member as member
from .kinds import members as members
from .kinds import size as size
from .low_rank import LowRank as LowRank
from .pairs import indices as indices
from .pairs import place as place
from .pairs import signs as signs
from .seeded import Seeded as Seeded
