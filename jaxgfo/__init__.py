"""Gradient-free optimisation for language models in JAX."""

from .algorithms import REGISTRY as REGISTRY
from .algorithms import SHADE as SHADE
from .algorithms import DifferentialEvolution as DifferentialEvolution
from .algorithms import GeneralizedAnnealing as GeneralizedAnnealing
from .algorithms import GeneticAlgorithm as GeneticAlgorithm
from .algorithms import ParallelTempering as ParallelTempering
from .algorithms import ParticleSwarm as ParticleSwarm
from .algorithms import RandomSearch as RandomSearch
from .algorithms import SimulatedAnnealing as SimulatedAnnealing
from .bounds import Bounds as Bounds
from .core import Algorithm as Algorithm
from .core import algorithm as algorithm
from .core import ask as ask
from .core import init as init
from .core import static as static
from .core import tell as tell
from .core import within as within

__version__ = "0.1.0"
