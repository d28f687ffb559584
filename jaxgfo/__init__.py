"""Gradient-free optimisation for language models in JAX."""

from .algorithms import REGISTRY as REGISTRY
from .algorithms import SHADE as SHADE
from .algorithms import DifferentialEvolution as DifferentialEvolution
from .algorithms import GeneralizedAnnealing as GeneralizedAnnealing
from .algorithms import GeneticAlgorithm as GeneticAlgorithm
from .algorithms import LowRankES as LowRankES
from .algorithms import OpenES as OpenES
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
from .evaluation import evaluate as evaluate
from .evosax import Evosax as Evosax
from .generation import Generated as Generated
from .generation import generate as generate
from .io.huggingface import load_model as load_model
from .io.huggingface import save_model as save_model
from .loop import Generation as Generation
from .loop import Result as Result
from .loop import run as run
from .models.function import functional as functional
from .models.model import Model as Model
from .models.model import random_model as random_model
from .noise import Noise as Noise
from .objectives import Batch as Batch
from .objectives import MeanNLL as MeanNLL
from .objectives import perplexity as perplexity
from .planning import Plan as Plan
from .planning import plan as plan
from .population import LowRank as LowRank
from .population import Seeded as Seeded
from .spaces import Flat as Flat
from .spaces import Full as Full
from .spaces import Select as Select
from .spaces import Space as Space
from .spaces import Subspace as Subspace

__version__ = "0.1.0"
