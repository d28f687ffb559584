"""The 24 noiseless functions of COCO's `bbob` suite in JAX, equal to COCO's own point by point."""

from .functions import NAMES, regret
from .instances import Instance, instance

__all__ = ["NAMES", "Instance", "instance", "regret"]
