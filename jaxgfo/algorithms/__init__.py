"""The registry: one file, one algorithm, one line here."""

from .differential_evolution import DifferentialEvolution as DifferentialEvolution
from .generalized_annealing import GeneralizedAnnealing as GeneralizedAnnealing
from .genetic import GeneticAlgorithm as GeneticAlgorithm
from .lm_ma_es import LMMAES as LMMAES
from .low_rank_es import LowRankES as LowRankES
from .open_es import OpenES as OpenES
from .parallel_tempering import ParallelTempering as ParallelTempering
from .particle_swarm import ParticleSwarm as ParticleSwarm
from .pgpe import PGPE as PGPE
from .random_search import RandomSearch as RandomSearch
from .shade import SHADE as SHADE
from .simulated_annealing import SimulatedAnnealing as SimulatedAnnealing
from .snes import SNES as SNES
from .xnes import XNES as XNES

REGISTRY: dict[str, type] = {
    "ga": GeneticAlgorithm,
    "de": DifferentialEvolution,
    "shade": SHADE,
    "sa": SimulatedAnnealing,
    "pt": ParallelTempering,
    "gsa": GeneralizedAnnealing,
    "pso": ParticleSwarm,
    "openes": OpenES,
    "lowrank-es": LowRankES,
    "snes": SNES,
    "xnes": XNES,
    "pgpe": PGPE,
    "lmma": LMMAES,
    "random": RandomSearch,
}
