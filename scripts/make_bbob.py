"""Make tests/references/bbob.safetensors: values of COCO's bbob functions (needs coco-experiment).

For every function, d = 2, 5 and 10 and instances 1, 2 and 101: eight points in and around the
box, and COCO's values there, so that tests can hold the mirror in `benchmarks/bbob` against COCO
where it is not installed.
"""

from pathlib import Path

import cocoex
import numpy as np
from safetensors.numpy import save_file

DIMS, INSTANCES, POINTS = (2, 5, 10), (1, 2, 101), 8
FILE = Path(__file__).parent.parent / "tests" / "references" / "bbob.safetensors"


def values(dim: int, function: int, instance: int, points: np.ndarray) -> np.ndarray:
    """f at points (rows, dim), f_opt included."""
    wanted = f"dimensions: {dim} function_indices: {function}"
    problem = cocoex.Suite("bbob", f"instances: {instance}", wanted).get_problem(0)
    return np.array([problem(x) for x in points])


def main() -> None:
    """Write the file, by way of a temporary one."""
    tensors, rng = {}, np.random.default_rng(0)
    for dim in DIMS:
        points = np.concatenate(
            [rng.uniform(-5, 5, (POINTS - 2, dim)), rng.uniform(-7, 7, (2, dim))]
        )
        tensors[f"{dim}.points"] = points
        tensors[f"{dim}.values"] = np.stack(
            [[values(dim, f, i, points) for i in INSTANCES] for f in range(1, 25)]
        )
    save_file(tensors, FILE.with_suffix(".tmp"))
    FILE.with_suffix(".tmp").replace(FILE)


if __name__ == "__main__":
    main()
