"""The 24 noiseless functions of COCO's `bbob` suite in JAX, equal to COCO's own point by point."""

from .functions import NAMES, regret
from .instances import Instance, instance

LOW, HIGH = -5.0, 5.0  # the box

__all__ = ["HIGH", "LOW", "NAMES", "Instance", "instance", "regret"]
