"""The registry: one file, one algorithm, one line here."""

from .cma_es import CMAES as CMAES
from .differential_evolution import DifferentialEvolution as DifferentialEvolution
from .dual_annealing import DualAnnealing as DualAnnealing
from .generalized_annealing import GeneralizedAnnealing as GeneralizedAnnealing
from .genetic import GeneticAlgorithm as GeneticAlgorithm
from .int8_es import Int8ES as Int8ES
from .lm_ma_es import LMMAES as LMMAES
from .low_rank_es import LowRankES as LowRankES
from .open_es import OpenES as OpenES
from .parallel_tempering import ParallelTempering as ParallelTempering
from .particle_swarm import ParticleSwarm as ParticleSwarm
from .pgpe import PGPE as PGPE
from .random_search import RandomSearch as RandomSearch
from .sep_cma_es import SepCMAES as SepCMAES
from .shade import SHADE as SHADE
from .simulated_annealing import SimulatedAnnealing as SimulatedAnnealing
from .snes import SNES as SNES
from .spsa import SPSA as SPSA
from .xnes import XNES as XNES

REGISTRY: dict[str, type] = {
    "ga": GeneticAlgorithm,
    "de": DifferentialEvolution,
    "shade": SHADE,
    "sa": SimulatedAnnealing,
    "pt": ParallelTempering,
    "gsa": GeneralizedAnnealing,
    "dual": DualAnnealing,
    "pso": ParticleSwarm,
    "cma": CMAES,
    "sepcma": SepCMAES,
    "openes": OpenES,
    "lowrank-es": LowRankES,
    "snes": SNES,
    "xnes": XNES,
    "pgpe": PGPE,
    "lmma": LMMAES,
    "spsa": SPSA,
    "int8-es": Int8ES,
    "random": RandomSearch,
}
